"""Published data sets: what they are, whom to cite, where they are downloaded from. One YAML file a family.

No file of a set is read or downloaded here; `piwsl.catalogue.download` does that.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import yaml

from piwsl.errors import PiwslError

DOWNLOADS = Path("results/downloads")
"""Where downloaded files lie, relative to the folder that Snakemake runs in: shared by all experiments there."""
NAMES_SHOWN = 5


@dataclass(frozen=True)
class Source:
    """Where one file comes from."""

    path: Path
    """Where it lies here."""
    address: str
    """Of the file itself, or of the archive that it is in."""
    sha256: str | None = None
    """Of what is downloaded, where it is known."""
    member: str | None = None
    """In the archive: how the file's name there ends, folders included."""
    archive: Path | None = None
    """Where that lies."""

    @property
    def identity(self) -> list[str]:
        """What the content depends on, whether it is here already or not."""
        return [self.address, *([] if self.member is None else [self.member])]


@dataclass(frozen=True)
class Entry:
    """A published data set."""

    name: str
    """How a config and `piwsl data show` call it."""
    family: str
    """The YAML file, and the folder of what is downloaded."""
    about: str
    levels: list[str]
    """Levels of theory in words; of the reference labels first."""
    units: str
    """As published; frames are in eV and Å."""
    format: str
    """The reader of its files."""
    citation: str
    licence: str
    homepage: str
    splits: str
    """Which are published."""
    tried: str
    """What of it was tried: on a real file, at the address."""
    file: str
    """To train on; its name at the address, or in the archive."""
    verified: Literal["no", "format", "yes"] = "no"
    """Whether published frames of it were read that were had elsewhere (`format`), or a download from the address."""
    test_file: str | None = None
    tests: dict[str, str] = field(default_factory=dict)
    """Further test sets, file by name."""
    address: str | None = None
    """Of the archive or the only file, or, where it ends in a slash, of the folder; None where it cannot be said."""
    archive: str | None = None
    """Name of the archive that the files are in."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Where known, by the name of what is downloaded."""
    index_files: list[dict[str, str]] = field(default_factory=list)
    """Of each published split the files of positions in `file`: `training` and `test`."""
    keys: dict[str, Any] = field(default_factory=dict)
    """Keys of a dataset's section that its files need, such as `energy_key`, or `given_levels` that they bring."""

    @property
    def files(self) -> list[str]:
        """All files, each once."""
        return list(dict.fromkeys([self.file, *([self.test_file] if self.test_file else []), *self.tests.values()]))

    def sources(self) -> list[Source]:
        """Return where its files come from, the archive first; none of a set that cannot be downloaded."""
        if self.address is None:
            return []
        if self.archive is None:
            return [self._source(name) for name in self.files]
        whole = self._source(self.archive)
        names = [*self.files, *(name for split in self.index_files for name in split.values())]
        return [whole, *(Source(self._here(name), whole.address, None, name, whole.path) for name in names)]

    def _source(self, name: str) -> Source:
        assert self.address is not None
        address = self.address + name if self.address.endswith("/") else self.address
        return Source(self._here(name), address, self.sha256.get(name))

    def _here(self, name: str) -> Path:
        return DOWNLOADS / self.family / PurePosixPath(name).name

    def section(self, path: Path | None = None) -> dict[str, Any]:
        """Return what a dataset's section says that is this set.

        Args:
            path: what is there already in place of the download: the file, or, of a set of several, their folder.

        Raises:
            PiwslError: it cannot be downloaded, and no path is said.
        """
        if path is None and self.address is None:
            raise PiwslError(f"'{self.name}' is not downloaded here; get it from {self.homepage}, and say path")

        def placed(name: str) -> str:
            if path is None:
                return str(self._here(name))
            return str(path if len(self.files) == 1 else path / PurePosixPath(name).name)

        said: dict[str, Any] = {"file": placed(self.file), "format": self.format, "level": self.levels[0], **self.keys}
        if self.test_file is not None:
            said["test_file"] = placed(self.test_file)
        if self.tests:
            said["tests"] = {name: {"file": placed(file)} for name, file in self.tests.items()}
        return said

    def split(self, number: int, path: Path | None = None) -> dict[str, str]:
        """Return the files of positions of a published split, from 1, as a section `split` says them.

        Args:
            number: of the split.
            path: as of `section`; the files are looked for in its folder, and where an archive that was unpacked there
                has them, below this folder or the one above.

        Raises:
            PiwslError: there is none of that number, or its files are not by the path.
        """
        if not 1 <= number <= len(self.index_files):
            known = f"1 to {len(self.index_files)}" if self.index_files else "none as files"
            raise PiwslError(f"split {number} of '{self.name}' is not published; there are {known}")
        names = self.index_files[number - 1].items()
        return {part: str(self._here(name) if path is None else self._found_by(path, name)) for part, name in names}

    def _found_by(self, path: Path, name: str) -> Path:
        """Return where a file of the archive is by what is there already.

        Raises:
            PiwslError: it is nowhere.
        """
        alone = PurePosixPath(name).name
        folder = path.parent if len(self.files) == 1 else path
        places = [folder / alone, folder / name, Path(os.path.normpath(folder / "..")) / name]
        for place in places:
            if os.path.isfile(place):  # False of what can be no path, too
                return place
        folders = ", ".join(str(place.parent) for place in places)
        raise PiwslError(f"'{self.name}': no {alone} in {folders}; put it there, or say split: {{training, test}}")


@cache
def entries() -> Mapping[str, Entry]:
    """Return all sets by name, in alphabetical order.

    A family is a mapping of what its sets have in common, beside `sets`, where each says what is its own.
    """
    found: dict[str, Entry] = {}
    for path in sorted(Path(__file__).parent.glob("*.yaml")):
        common = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name, own in common.pop("sets").items():
            found[name] = Entry(name=name, family=path.stem, **(common | own))
    return dict(sorted(found.items()))


def find(name: str) -> Entry:
    """Return a set by its name.

    Raises:
        PiwslError: there is none; names the nearest.
    """
    if name in entries():
        return entries()[name]
    close = difflib.get_close_matches(name, list(entries()), n=NAMES_SHOWN, cutoff=0.4)
    said = f"did you mean {' or '.join(close)}?" if close else "`piwsl data list` says which there are"
    raise PiwslError(f"no set '{name[:60]}' in the catalogue; {said}")


def source_of(path: Path) -> Source | None:
    """Return where a file is downloaded from, by where it lies here; None of a user's own file."""
    return _sources().get(path)


@cache
def _sources() -> Mapping[Path, Source]:
    return {source.path: source for entry in entries().values() for source in entry.sources()}


def is_awaited(path: Path) -> bool:
    """Whether a file is not here, and will be downloaded."""
    return source_of(path) is not None and not path.exists()
