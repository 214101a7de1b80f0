"""A level of theory that a potential corrects: it is computed wherever the potential is used."""

from __future__ import annotations

from dataclasses import dataclass

from ase import Atoms

from piwsl.config import Level
from piwsl.errors import PiwslError
from piwsl.extras import naming_extras
from piwsl.structures.labels import Labels
from piwsl.structures.structure import Structure

MEMORY_MB = 4000


@dataclass(frozen=True)
class Baseline:
    """A cheap level, by the name that datasets keep its labels under."""

    name: str
    level: Level

    def known(self, structure: Structure) -> Structure:
        """Return a structure with labels of the baseline, computed where it has none yet."""
        there = structure.at_level(self.name)
        if there.energy is not None and there.forces is not None:
            return structure
        return structure.labelled(self.name, self.labels(structure))

    def labels(self, structure: Structure) -> Labels:
        """Compute energy (eV) and forces (eV/Å) of a structure.

        Raises:
            PiwslError: the level gave up, or cannot be run here; the text says why.
        """
        if structure.pbc.any():
            raise PiwslError(f"baseline {self.level}: computes molecules, and this structure is periodic")
        atoms = Atoms(structure.numbers, structure.positions)
        try:
            with naming_extras():
                found = self.level.single_point(
                    atoms, structure.charge, structure.multiplicity, memory_mb=MEMORY_MB, forces=True
                )
        except PiwslError as error:
            raise PiwslError(f"baseline {self.level}: {error}") from None
        except Exception as error:  # whatever an engine raises where it does not converge
            reason = " ".join(str(error).split())[:120]
            raise PiwslError(f"baseline {self.level}: {reason or type(error).__name__}") from error
        return Labels(found.energy, found.forces)
