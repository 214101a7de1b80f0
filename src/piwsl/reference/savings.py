"""Options of a level's coupled cluster that cost little accuracy: what they would save, beside what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ase import Atoms, units

from piwsl.config import ComputedDataset, Level, Stage
from piwsl.errors import PiwslError
from piwsl.reference.engines.pyscf import PySCF
from piwsl.reference.forces import check_forces
from piwsl.reference.planning import label_batches, structures
from piwsl.structures.frames import multiplicity_of

# Less than that is not worth a line.
WORTH_SAYING = 0.1
FITTED = {"density_fitting": True}


class Option(NamedTuple):
    """Keys of a stage [CCSD(T) - MP2] in one basis, and how far it scatters over geometries about the whole of it."""

    basis: str
    keys: dict[str, Any]
    scatter: dict[str, float]
    """By molecule, µEh, sample standard deviation; a constant difference is none to a potential."""
    source: str
    """The script that measured it."""

    def in_words(self) -> str:
        """Return the keys as the config has them."""
        return ", ".join(f"{key}: {str(value).lower()}" for key, value in self.keys.items())


IN_DOUBLE_ZETA, IN_TRIPLE_ZETA = "tests/benchmarks/cheaper_frames.py", "tests/benchmarks/natural_orbitals.py"
# Cheaper ones last. Not here is what saves nothing (fitted integrals in cc-pVDZ) or costs too much (1e-3).
OPTIONS = (
    Option("cc-pvdz", {"natural_orbitals": 1e-4}, {"CH3CH2OH": 10.8, "CH3CHO": 7.1, "CH3O": 38.3}, IN_DOUBLE_ZETA),
    Option("cc-pvdz", {"natural_orbitals": 3e-4}, {"CH3CH2OH": 34.4, "CH3CHO": 36.5, "CH3O": 38.8}, IN_DOUBLE_ZETA),
    Option("cc-pvtz", {"natural_orbitals": 3e-5} | FITTED, {"H2O": 18.0, "NH3": 26.0, "H2CO": 18.0}, IN_TRIPLE_ZETA),
    Option("cc-pvtz", {"natural_orbitals": 1e-4} | FITTED, {"H2O": 48.0, "NH3": 77.0, "H2CO": 51.0}, IN_TRIPLE_ZETA),
)


def savings(datasets: Sequence[ComputedDataset], level: Level, hours: float) -> Iterator[str]:
    """Say, a line an option, what would make the energies of a dataset cheaper, and what it costs in accuracy.

    Args:
        datasets: the section, and those of its named test sets, which have its level: what is saved of the energies of
            one may be lost by the forces of another, which go by differences then.
        level: the level of theory.
        hours: CPU hours that all their labels take yet; options that save less than a tenth of them are left out. With
            an option all labels are computed anew, the stored ones, too.
    """
    if not isinstance(level, PySCF):
        return
    labelled = [(dataset, structures(dataset)) for dataset in datasets]
    for option in OPTIONS:
        cheaper = with_option(level, option)
        saved = 0.0 if cheaper is None else hours - _hours(labelled, cheaper)
        if saved > WORTH_SAYING * hours:
            least, most = min(option.scatter.values()), max(option.scatter.values())
            at_most_mev = most * 1e-3 * units.Hartree
            yield (
                f"{option.in_words()} of [CCSD(T) - MP2]/{option.basis} would save {saved:.2g} of {hours:.2g} "
                f"CPU hours; energies scatter by {least:.0f} to {most:.0f} µEh about those in full ({at_most_mev:.1g} "
                "meV at most)"
            )


def with_option(level: PySCF, option: Option) -> PySCF | None:
    """Return a level whose correction takes an option; None where none is of its basis and computed in full."""
    stages = [stage.model_copy(update=option.keys) if _takes(stage, option) else stage for stage in level.stages]
    if stages == level.stages or level.orbitals == "restricted":
        return None
    return level.model_copy(update={"stages": stages})


def _takes(stage: Stage, option: Option) -> bool:
    in_full = stage.natural_orbitals is None and not stage.density_fitting
    return in_full and (stage.method, stage.minus, stage.bases) == ("ccsd(t)", "mp2", [option.basis])


def _hours(labelled: Sequence[tuple[ComputedDataset, list[Atoms]]], level: PySCF) -> float:
    """Return the CPU hours of all labels of datasets with their structures.

    No end of them where the level has not the analytic forces that a dataset asks for.
    """
    seconds = 0.0
    for dataset, every in labelled:
        try:
            check_forces(level, {multiplicity_of(atoms) for atoms in every}, dataset.forces_by)
        except PiwslError:
            return math.inf
        seconds += sum(job.cpu_s for job in label_batches(dataset, every, level).values())
    return seconds / 3600
