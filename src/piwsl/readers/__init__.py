"""Readers of a user's labelled frames: a module a format, by its name; others come with installed distributions.

A reader gives frames as their file has them. That they are geometries, and labels numbers, is checked behind it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from piwsl.errors import PiwslError
from piwsl.registry import Registry
from piwsl.structures.labels import REFERENCE, WEAK, label_key
from piwsl.structures.units import ENERGY_UNITS, FORCE_UNITS, STRESS_UNITS

if TYPE_CHECKING:  # the config asks for names alone
    from ase import Atoms

DEFAULT = "extxyz"


@dataclass(frozen=True)
class LabelNames:
    """Under which names frames hold their labels, and in which units."""

    energy_key: str = label_key(REFERENCE, "energy")
    """In a frame's info, as `stress_key`."""
    forces_key: str = label_key(REFERENCE, "forces")
    """Among a frame's arrays, as `weak_forces_key`."""
    weak_forces_key: str = label_key(WEAK, "forces")
    stress_key: str = label_key(REFERENCE, "stress")
    energy_unit: str = "eV"
    """A key of `ENERGY_UNITS` in `piwsl.structures.units`; the others likewise."""
    forces_unit: str = "eV/Å"
    """Of all forces."""
    stress_unit: str = "eV/Å³"

    def __post_init__(self) -> None:
        """Refuse units that nothing is known of."""
        units = ((self.energy_unit, ENERGY_UNITS), (self.forces_unit, FORCE_UNITS), (self.stress_unit, STRESS_UNITS))
        for unit, known in units:
            if unit not in known:
                raise PiwslError(f"no unit '{unit}'; known are {', '.join(known)}")


class Reader(ABC):
    """What reads the labelled frames of a file. It is made without arguments, anew for each reading."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    """How names of its files end, whatever their case; what ends otherwise it reads where `format` says so."""
    labels: ClassVar[LabelNames] = LabelNames()
    """Where its frames have their labels, and their units, unless a config says otherwise."""

    def __init_subclass__(cls) -> None:
        """Refuse attributes of another type, before anything is read by them."""
        texts = isinstance(cls.suffixes, tuple) and all(isinstance(each, str) and each for each in cls.suffixes)
        if not texts or not isinstance(cls.labels, LabelNames):
            raise TypeError(f"{cls.__name__}: suffixes is a tuple of texts, labels is LabelNames")

    @classmethod
    def takes(cls, name: str) -> bool:
        """Whether a file's name ends as its own do."""
        return name.lower().endswith(tuple(map(str.lower, cls.suffixes)))

    @abstractmethod
    def count(self, path: Path) -> int:
        """Return how many frames a file has.

        Raises:
            PiwslError: one line that says where the file is damaged; of any other exception one is made.
        """

    @abstractmethod
    def frames(self, path: Path, every: int = 1) -> Iterator[Atoms]:
        """Read frames one by one, so that a file may be larger than memory.

        Args:
            path: the file.
            every: read only each so many-th frame, from the first.

        Yields:
            Frames without a calculator: positions and cell in Å; in `info` the energy of all atoms, the stress ((3, 3)
            or (6,), Voigt), `charge` (e) and `multiplicity`; among `arrays` forces (N, 3). A label that a frame does
            not have is left out, and never zero.

        Raises:
            PiwslError: as of `count`.
        """


READERS = Registry("piwsl.readers", Reader)  # type: ignore[type-abstract]  # no kind is made of the base


def format_of(path: Path) -> str:
    """Return the name of the reader that takes a file for its own by the end of its name; extended XYZ where none does.

    What is installed beside ours takes none of our files: an experiment stays what it was.

    Raises:
        PiwslError: two take it, or one that is installed cannot be loaded.
    """
    for names in (READERS.own(), READERS.others()):
        takers = [each for each in names if READERS[each].takes(path.name)]
        if len(takers) > 1:
            raise PiwslError(f"{path}: {' and '.join(takers)} read such files; say which in format")
        if takers:
            return takers[0]
    return DEFAULT
