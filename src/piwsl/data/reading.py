"""The frames of a user's file, one by one or all, by whatever reads it. What goes wrong there is one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import TypeVar

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from piwsl.errors import ANY_ERROR, PiwslError, reason
from piwsl.readers import READERS, LabelNames, format_of
from piwsl.structures.frames import DIRECTION_KEY, ENERGY_KEY, FORCES_KEY, SLOPE_KEY, STRESS_KEY, WEAK_FORCES_KEY
from piwsl.structures.labels import NoLabel, energy_label, forces_label, label_key, slope_label, stress_label
from piwsl.structures.units import ENERGY_UNITS, FORCE_UNITS, STRESS_UNITS

Stamp = tuple[int, int, int]
Label = TypeVar("Label")


def count_of(path: Path, form: str) -> int:
    """Return how many frames a file has.

    Args:
        path: the file.
        form: name of its reader.

    Raises:
        PiwslError: it cannot be read; one line.
    """
    with _in_one_line(path, "", form):
        _check_is_file(path)
        found = READERS[form]().count(path)
        if not isinstance(found, Integral) or found < 0:
            number = found if isinstance(found, Integral) else type(found).__name__
            problem = f"{READERS.source(form) or 'piwsl'}: the reader '{form}' counts {number} frames"
            raise PiwslError(f"{path}: {problem}, expected a whole number; mend it")
    return int(found)


def frames_of(path: Path, form: str, every: int = 1) -> Iterator[Atoms]:
    """Read the frames of a file one by one, as its reader gives them.

    Args:
        path: the file.
        form: name of its reader.
        every: read only each so many-th frame, from the first.

    Raises:
        PiwslError: it cannot be read; one line with file and frame.
    """
    position = 0
    with _in_one_line(path, "", form):
        _check_is_file(path)
        frames = iter(READERS[form]().frames(path, every))
    while True:
        where = f" frame {position}:"
        with _in_one_line(path, where, form):
            atoms = next(frames, None)
        if atoms is None:
            return
        if not isinstance(atoms, Atoms):
            raise PiwslError(f"{path}:{where} the reader '{form}' gives {type(atoms).__name__}, not ase.Atoms; mend it")
        yield atoms
        position += every


def stamp_of(path: Path) -> Stamp:
    """Return what of a file is another when it is another file or was written to.

    Raises:
        PiwslError: it cannot be read.
    """
    try:
        about = path.stat()
    except OSError as error:
        raise PiwslError(f"{path}: {error.strerror}") from None
    return about.st_mtime_ns, about.st_size, about.st_ino


def unchanged_frames_of(path: Path, form: str, stamp: Stamp, every: int = 1) -> Iterator[Atoms]:
    """Read the frames of a file, as `frames_of` does, which must be what it was until the last is read.

    Args:
        path: the file.
        form: name of its reader.
        stamp: of the file that is meant.
        every: read only each so many-th frame, from the first.

    Raises:
        PiwslError: it is not, or as of `frames_of`.
    """
    check_unchanged(path, stamp)
    try:
        yield from frames_of(path, form, every)
    except PiwslError:
        check_unchanged(path, stamp)  # rather than what reading half of each ran into
        raise
    check_unchanged(path, stamp)


def check_unchanged(path: Path, stamp: Stamp) -> None:
    """Refuse a file that is not what it was.

    Raises:
        PiwslError: it is another, or was written to.
    """
    if stamp_of(path) != stamp:
        raise PiwslError(f"{path}: changed while it was read; start again")


def _check_is_file(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise PiwslError(f"{path}: is no file; frames are read from files")


@contextmanager
def _in_one_line(path: Path, where: str, form: str) -> Iterator[None]:
    """Make one line of whatever a reader runs into."""
    try:
        yield
    except PiwslError:
        raise
    except ANY_ERROR as error:  # whatever a reader, of a stranger's perhaps, does with a damaged file
        if isinstance(error, OSError) and error.strerror:
            raise PiwslError(f"{path}: {error.strerror}") from None
        raise PiwslError(f"{path}:{where} cannot be read as '{form}' ({reason(error)}); is it whole?") from error


def read_frames(path: Path | str, form: str | None = None) -> list[Atoms]:
    """Read all frames of a file; arguments, and what it raises, as of `each_frame`."""
    return [*each_frame(path, form)]


def each_frame(path: Path | str, form: str | None = None) -> Iterator[Atoms]:
    """Read the frames of a file one by one, with labels under our names and in our units where they have any.

    Args:
        path: the file.
        form: name of its reader; default: by the end of the file's name, else extended XYZ.

    Yields:
        Frames whose info has `REF_energy` (eV) and `REF_stress` (eV/Å³), whose arrays have `REF_forces` (eV/Å), and
        whatever else the file says.

    Raises:
        PiwslError: there is no such reader, the file cannot be read, or it has no frame.
    """
    path = Path(path)
    form = format_of(path) if form is None else form
    if form not in READERS:
        raise PiwslError(f"no format '{form}'; known are {', '.join(READERS)}")
    names, position = READERS[form].labels, -1
    for position, atoms in enumerate(frames_of(path, form)):
        try:
            ours = atoms if names == LabelNames() else _with_our_names(atoms, names)
        except PiwslError as error:
            raise PiwslError(f"{path}: frame {position}: {error}") from None
        yield ours
    if position < 0:
        raise PiwslError(f"{path}: holds no frame")


def our_labels(
    atoms: Atoms, names: LabelNames, reference: bool = True
) -> tuple[dict[str, float | NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Return the labels that a frame has, under our names in eV, eV/Å, eV/Å³; absent ones stay absent.

    A slope along a direction has our names alone, and is in eV/Å whatever the unit of forces.

    Args:
        atoms: the frame.
        names: under which names its labels are, and in which units.
        reference: whether those of the reference level are looked at, or of the cheaper level alone.

    Returns:
        What belongs in info, and what in arrays.

    Raises:
        PiwslError: a label is there but is no number.
    """
    info: dict[str, float | NDArray[np.float64]] = {}
    columns = {names.weak_forces_key: WEAK_FORCES_KEY}
    if reference:
        columns[names.forces_key] = FORCES_KEY
        if (energy := energy_label(atoms, names.energy_key)) is not None:
            info[ENERGY_KEY] = energy * ENERGY_UNITS[names.energy_unit]
        if (stress := stress_label(atoms, names.stress_key)) is not None:
            info[STRESS_KEY] = stress * STRESS_UNITS[names.stress_unit]
    found = {ours: forces_label(atoms, theirs) for theirs, ours in columns.items()}
    arrays = {ours: values * FORCE_UNITS[names.forces_unit] for ours, values in found.items() if values is not None}
    if reference and (slope := slope_label(atoms, SLOPE_KEY, DIRECTION_KEY)) is not None:
        info[SLOPE_KEY], arrays[DIRECTION_KEY] = slope.value, slope.direction
    return info, arrays


def labels_of_level(
    atoms: Atoms, level: str, names: LabelNames
) -> tuple[dict[str, float], dict[str, NDArray[np.float64]]]:
    """Return the energy and forces that a frame has of a level, as `LEVEL_energy` and `LEVEL_forces` in eV and eV/Å.

    Args:
        atoms: the frame.
        level: what it is called.
        names: under which names its labels are, and in which units.

    Returns:
        What belongs in info, and what in arrays; what is absent stays absent, and what is NaN or infinite is.

    Raises:
        PiwslError: a label is there but is no number.
    """
    energy, forces = _finite(energy_label, atoms, names.energy_key), _finite(forces_label, atoms, names.forces_key)
    info = {} if energy is None else {label_key(level, "energy"): energy * ENERGY_UNITS[names.energy_unit]}
    arrays = {} if forces is None else {label_key(level, "forces"): forces * FORCE_UNITS[names.forces_unit]}
    return info, arrays


def _finite(label: Callable[[Atoms, str], Label | None], atoms: Atoms, key: str) -> Label | None:
    """Return what a frame holds under a name; None, too, of what is NaN or infinite."""
    try:
        return label(atoms, key)
    except NoLabel:
        return None


def _with_our_names(atoms: Atoms, names: LabelNames) -> Atoms:
    info, arrays = our_labels(atoms, names)
    for key in (names.energy_key, names.stress_key):
        atoms.info.pop(key, None)
    for key in (names.forces_key, names.weak_forces_key):
        atoms.arrays.pop(key, None)
    atoms.info |= info
    for name, values in arrays.items():
        atoms.set_array(name, values)
    return atoms
