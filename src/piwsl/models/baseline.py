"""A level of theory that a potential corrects: it is computed wherever the potential is used."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from piwsl.config import Level
from piwsl.config.level_checks import unquestioned
from piwsl.config.section import one_line, shortened
from piwsl.errors import PiwslError
from piwsl.extras import naming_extras
from piwsl.structures.frames import electron_problem
from piwsl.structures.geometry import geometry_problem
from piwsl.structures.labels import Labels
from piwsl.structures.structure import Structure

MEMORY_MB = 4000
LONGEST_LEVEL = 60
LONGEST_REASON = 120


class BaselineFailure(PiwslError):
    """A geometry of which a baseline says nothing; of others it may."""


@dataclass(frozen=True)
class Baseline:
    """A cheap level, by the name that datasets keep its labels under."""

    name: str
    level: Level
    role: str = "baseline"
    """What messages call it."""
    scale: float = 1.0
    """What its energies and forces count for: a potential is the difference to that many times them."""

    def __str__(self) -> str:
        """Return role, name and level for messages."""
        return f"{self.role} '{self.name}' ({shortened(str(self.level), LONGEST_LEVEL)})"

    def check(self, symbols: set[str]) -> None:
        """Refuse a level that cannot be computed here, before anything is.

        Args:
            symbols: of the elements that it shall compute.

        Raises:
            PiwslError: a program is not installed, or it has not all elements.
        """
        try:
            with naming_extras():
                problem = self.level.problem(symbols)
        except PiwslError as error:
            raise PiwslError(f"{self}: {error}") from None
        if problem is not None:
            raise PiwslError(f"{self}: {problem}")

    def known(self, structure: Structure) -> Structure:
        """Return a structure with labels of the baseline, computed where it has none yet."""
        there = structure.at_level(self.name)
        if there.energy is not None and there.forces is not None:
            return structure
        return structure.labelled(self.name, self.labels(structure))

    def part(self, structure: Structure) -> Labels:
        """Return what a potential adds to its own energy (eV) and forces (eV/Å): those of the level times the scale.

        Args:
            structure: with labels of this level that are of its geometry, or without any.

        Raises:
            PiwslError: as of `labels`, where the structure has none yet.
        """
        return self.known(structure).at_level(self.name).times(self.scale)

    def rest(self, structure: Structure) -> Structure:
        """Return a structure with what a potential has to learn of its labels.

        Raises:
            PiwslError: as of `labels`, where the structure has none of this level yet.
        """
        return self.known(structure).less(self.name, self.scale)

    def known_of(self, structures: Sequence[Structure], source: str) -> list[Structure]:
        """Return structures with labels of the baseline, without those that it fails, of which a line is printed.

        Args:
            structures: geometries.
            source: where they come from, for that line.

        Raises:
            PiwslError: it fails them all, or cannot be run here.
        """
        return list(self.known_by_position(structures, source).values())

    def known_by_position(self, structures: Sequence[Structure], source: str) -> dict[int, Structure]:
        """Return what `known_of` does, by position in the sequence; arguments and what it raises, too."""
        return dict(self.each_known(structures, source))

    def each_known(self, structures: Iterable[Structure], source: str) -> Iterator[tuple[int, Structure]]:
        """Yield what `known_of` returns one by one, each behind its position; arguments and what it raises, too."""
        known, reason = 0, None
        for position, structure in enumerate(structures):
            try:
                found = self.known(structure)
            except BaselineFailure as failure:
                reason = reason or failure
                print(f"{source}: frame {position} is left out: {failure}", flush=True)
            else:
                known += 1
                yield position, found
        if reason is not None and not known:
            raise PiwslError(f"{source}: no frame is left: {reason}")

    def cost(self, structure: Structure) -> tuple[Structure, str]:
        """Return a structure with labels of the baseline, and a line that says what is added and how long that took.

        Raises:
            PiwslError: as of `labels`.
        """
        started = time.perf_counter()
        found = structure.labelled(self.name, self.labels(structure))
        seconds = time.perf_counter() - started
        return (
            found,
            f"{self} is added to each geometry: {seconds:.2g} s for the first, of {len(structure.numbers)} atoms",
        )

    def labels(self, structure: Structure) -> Labels:
        """Compute energy (eV) and forces (eV/Å) of a structure.

        Raises:
            BaselineFailure: the level gave up on this geometry; the text says why.
            PiwslError: it cannot be run here, or memory gave out.
        """
        atoms = Atoms(structure.numbers, structure.positions)
        if problem := self._problem(structure, atoms):
            raise BaselineFailure(f"{self}: {problem}")
        try:
            with naming_extras():
                found = unquestioned(self.level).single_point(
                    atoms, structure.charge, structure.multiplicity, memory_mb=MEMORY_MB, forces=True
                )
        except PiwslError as error:
            raise PiwslError(f"{self}: {error}") from None
        except MemoryError:
            raise PiwslError(f"{self}: out of memory; give the job more, or take smaller geometries") from None
        except ImportError as error:
            raise PiwslError(f"{self}: {one_line(str(error), LONGEST_REASON)}") from None
        except OSError:  # the disk is full, or refuses
            raise
        except Exception as error:  # whatever an engine raises where it does not converge
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BaselineFailure(f"{self}: {one_line(reason, LONGEST_REASON)}") from error
        if found.forces is None or not (np.isfinite(found.energy) and np.isfinite(found.forces).all()):
            raise BaselineFailure(f"{self}: its energy or forces are not finite")
        return Labels(found.energy, found.forces)

    def _problem(self, structure: Structure, atoms: Atoms) -> str | None:
        """Say why the level is not asked about a structure; engines answer with nonsense to some of these."""
        if structure.pbc.any():
            return "computes molecules, and this structure is periodic"
        return (
            geometry_problem(atoms)
            or electron_problem(structure.numbers.tolist(), structure.charge, structure.multiplicity)
            or self.level.analytic_problem(structure.multiplicity)
        )
