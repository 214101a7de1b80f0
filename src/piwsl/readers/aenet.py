"""Structures of aenet (TiO2, LMNTO): XSF with the total energy in its first comment, a file each or many in an archive.

The archive is read as it is: nothing is unpacked. In XSF forces are in Hartree/Å; aenet has eV/Å.
"""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ase import Atoms
from ase.io.xsf import iread_xsf
from ase.units import Hartree

from piwsl.errors import PiwslError
from piwsl.readers import Reader
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY
from piwsl.structures.units import ENERGY_SPELLINGS, ENERGY_UNITS, canonical_unit

SUFFIX = ".xsf"
# In files of some programs, before the cell: a line of nine numbers, whose sign nobody states.
VIRIAL = re.compile(r"^\s*VIRIAL\s*\n.*\n", re.MULTILINE)
ENERGY = re.compile(r"^#\s*total energy\s*=\s*(\S+)[^\S\n]*(\S*)", re.IGNORECASE | re.MULTILINE)


class Aenet(Reader):
    """XSF of one structure, or tar or zip of such."""

    suffixes = (SUFFIX,)

    def count(self, path: Path) -> int:
        """Count the structures without parsing them."""
        return sum(1 for _ in _texts(path))

    def frames(self, path: Path, every: int = 1) -> Iterator[Atoms]:
        """Read structures one by one, in the order of the archive, in eV and Å."""
        for name, content in islice(_texts(path), 0, None, every):
            where = str(path) if name is None else f"{path}: {name}"
            try:
                yield _structure(where, content.decode())
            except (ValueError, KeyError, IndexError, AssertionError, RuntimeError) as error:
                raise PiwslError(f"{where}: is no structure in XSF ({type(error).__name__}); is it whole?") from error


def _texts(path: Path) -> Iterator[tuple[str | None, bytes]]:
    """Go through the structures of an archive: name and content; of a file without a name."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if _is_structure(info.filename)]
            yield from ((name, archive.read(name)) for name in names)
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and _is_structure(member.name) and (file := archive.extractfile(member)) is not None:
                    yield member.name, file.read()
    else:
        yield None, path.read_bytes()


def _is_structure(name: str) -> bool:
    """Whether a member of an archive is a structure, and not what macOS says of one."""
    last = name.rpartition("/")[2]
    return last.lower().endswith(SUFFIX) and not last.startswith(".")


def _structure(where: str, text: str) -> Atoms:
    images = list(iread_xsf(io.StringIO(VIRIAL.sub("", text))))
    if len(images) != 1:
        raise PiwslError(f"{where}: holds {len(images)} structures and one energy; write one a file")
    atoms = images[0]
    results = {} if atoms.calc is None else atoms.calc.results
    atoms.calc = None
    if "forces" in results:
        atoms.set_array(FORCES_KEY, results["forces"] / Hartree)
    if (said := ENERGY.search(text)) is not None:
        unit = canonical_unit(said[2] or "eV", ENERGY_SPELLINGS)
        if unit not in ENERGY_UNITS:
            raise PiwslError(f"{where}: the total energy is in '{said[2][:40]}', which is no unit that is known")
        atoms.info[ENERGY_KEY] = float(said[1]) * ENERGY_UNITS[unit]
    return atoms
