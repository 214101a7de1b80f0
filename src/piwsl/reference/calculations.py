"""Single-point energies with PySCF, one basis at a time, and nothing unconverged ever returned.

What a level needs is planned as a list of calculations: one SCF a basis and kind of integrals, and all
correlation energies that follow from it. Energies here are in Hartree, as PySCF gives them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from pyscf import cc, df, gto, lib, mp, scf
from pyscf.data.elements import chemcore
from pyscf.mp.dfmp2 import DFMP2
from pyscf.mp.dfump2 import DFUMP2

from piwsl.config import Level, Stage, cardinal_number
from piwsl.reference.extrapolation import correlation_limit, hartree_fock_limit

SCF_TOLERANCE_HARTREE = 1e-10
CC_TOLERANCE_HARTREE = 1e-9
CC_AMPLITUDE_TOLERANCE = 1e-6
# What PySCF is told of the memory of the job: its own limit is a soft one.
MEMORY_SHARE = 0.7


class FrameFailure(Exception):
    """A frame that cannot be labelled: the step at which it failed and why."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f"{step}: {reason}")
        self.step = step
        self.reason = reason


@dataclass(frozen=True)
class Component:
    """One energy of one method in one basis, the unit that stages are made of."""

    method: str
    basis: str
    density_fitting: bool

    def __str__(self) -> str:
        return f"{'df-' if self.density_fitting else ''}{self.method}/{self.basis}"


@dataclass
class Outcome:
    """What the calculations of one geometry gave."""

    energies: dict[Component, float] = field(default_factory=dict)
    """Hartree; HF total energies and correlation energies."""
    notes: dict[str, Any] = field(default_factory=dict)
    """How it went: SCF steps, frozen orbitals, auxiliary bases, T1 diagnostic."""


def auxiliary_bases(basis: str) -> tuple[str, str]:
    """Return the fitting bases of an orbital basis: for Coulomb and exchange, and for correlation.

    Raises:
        FrameFailure: no fitting basis is known for this family.
    """
    name = basis.lower()
    if name.startswith("def2-"):
        return "def2-universal-jkfit", f"{name}-ri"
    if name.startswith(("cc-p", "aug-cc-p")):
        return f"{name}-jkfit", f"{name}-ri"
    raise FrameFailure("basis", f"no fitting basis is known for '{basis}'; set density_fitting: false")


def required_components(level: Level) -> list[Component]:
    """Return every energy that the stages of a level combine, each once."""
    components = [
        Component(method, basis, stage.density_fitting)
        for stage in level.stages
        for basis in stage.bases
        for method in (stage.method, stage.minus)
        if method is not None
    ]
    return list(dict.fromkeys(components))


def composite_energy(level: Level, energies: dict[Component, float]) -> float:
    """Combine the energies of the parts to the energy of the level (a focal point scheme).

    E = HF/limit + Σ over stages of [method - minus]/limit, where a stage of one basis stands for itself.

    Args:
        level: the level.
        energies: Hartree, for every required component.

    Returns:
        Hartree.
    """
    return sum(_stage_energy(stage, energies) for stage in level.stages)


def _stage_energy(stage: Stage, energies: dict[Component, float]) -> float:
    def difference(basis: str) -> float:
        energy = energies[Component(stage.method, basis, stage.density_fitting)]
        if stage.minus is None:
            return energy
        return energy - energies[Component(stage.minus, basis, stage.density_fitting)]

    if len(stage.bases) == 1:
        return difference(stage.bases[0])
    small, large = map(difference, stage.bases)
    if stage.method == "hf":
        return hartree_fock_limit(small, large)
    return correlation_limit(small, large, cardinal=cardinal_number(stage.bases[1]))


def build_molecule(atoms: Atoms, basis: str, charge: int, multiplicity: int, memory_mb: int) -> gto.Mole:
    """Make PySCF's molecule of a frame.

    Args:
        atoms: the geometry, Å.
        basis: orbital basis.
        charge: total charge, e.
        multiplicity: 2S + 1.
        memory_mb: memory of the job in MB; PySCF is told 70 % of it.

    Raises:
        FrameFailure: PySCF refuses the molecule (basis, charge or multiplicity do not fit).
    """
    try:
        return gto.M(
            atom=list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True)),
            unit="Angstrom",
            basis=basis,
            charge=charge,
            spin=multiplicity - 1,
            max_memory=MEMORY_SHARE * memory_mb,
            verbose=0,
        )
    except (RuntimeError, KeyError) as error:
        raise FrameFailure("molecule", str(error).strip()) from error


def run_components(
    atoms: Atoms,
    components: list[Component],
    frozen_core: bool,
    charge: int,
    multiplicity: int,
    memory_mb: int,
) -> Outcome:
    """Compute the wanted energies of a geometry: one SCF for each basis and kind of integrals.

    Args:
        atoms: the geometry, Å.
        components: what is wanted.
        frozen_core: leave the chemical core uncorrelated.
        charge: total charge, e.
        multiplicity: 2S + 1; 1 is restricted, all others unrestricted.
        memory_mb: memory of the job, MB.

    Raises:
        FrameFailure: at the first step that does not converge.
    """
    lib.num_threads(1)
    outcome = Outcome()
    for basis, fitted in dict.fromkeys((part.basis, part.density_fitting) for part in components):
        methods = {part.method for part in components if (part.basis, part.density_fitting) == (basis, fitted)}
        molecule = build_molecule(atoms, basis, charge, multiplicity, memory_mb)
        label = str(Component("hf", basis, fitted))
        mean_field, step = converge_scf(molecule, label, fitted)
        outcome.notes.setdefault("scf", {})[label] = step
        outcome.energies[Component("hf", basis, fitted)] = float(mean_field.e_tot)
        frozen = chemcore(molecule) if frozen_core else 0
        outcome.notes["frozen_orbitals"] = frozen
        if fitted:
            outcome.notes.setdefault("auxiliary_bases", {})[basis] = auxiliary_bases(basis)
        correlated = molecule.nelectron - 2 * frozen
        for method, energy in _correlation(mean_field, methods - {"hf"}, frozen, fitted, correlated, outcome).items():
            outcome.energies[Component(method, basis, fitted)] = energy
    return outcome


def converge_scf(molecule: gto.Mole, label: str, fitted: bool) -> tuple[scf.hf.SCF, str]:
    """Converge Hartree-Fock, by ever more careful means.

    Args:
        molecule: PySCF's molecule.
        label: names the calculation in a failure.
        fitted: whether to fit the Coulomb and exchange integrals.

    Returns:
        The converged mean field, and the name of the means that converged it.

    Raises:
        FrameFailure: none of the means converged.
    """
    for step, prepare in SCF_LADDER.items():
        mean_field = scf.RHF(molecule) if molecule.spin == 0 else scf.UHF(molecule)
        if fitted:
            mean_field = mean_field.density_fit(auxbasis=auxiliary_bases(molecule.basis)[0])
        mean_field.conv_tol = SCF_TOLERANCE_HARTREE
        mean_field = prepare(mean_field)
        try:
            mean_field.kernel()
        except (RuntimeError, np.linalg.LinAlgError) as error:
            raise FrameFailure(label, str(error).strip()) from error
        if mean_field.converged and np.isfinite(mean_field.e_tot):
            return mean_field, step
    raise FrameFailure(label, f"SCF not converged by {', '.join(SCF_LADDER)}")


def _damped(mean_field: scf.hf.SCF) -> scf.hf.SCF:
    mean_field.level_shift = 0.3
    mean_field.damp = 0.3
    mean_field.max_cycle = 150
    return mean_field


SCF_LADDER: dict[str, Callable[[scf.hf.SCF], scf.hf.SCF]] = {
    "DIIS": lambda mean_field: mean_field,
    "level shift and damping": _damped,
    "second order": lambda mean_field: mean_field.newton(),
}


def _correlation(
    mean_field: scf.hf.SCF, methods: set[str], frozen: int, fitted: bool, correlated: int, outcome: Outcome
) -> dict[str, float]:
    if correlated < 2:
        return dict.fromkeys(methods, 0.0)
    if methods & {"ccsd", "ccsd(t)"}:
        return _coupled_cluster(mean_field, methods, frozen, outcome)
    if "mp2" not in methods:
        return {}
    if fitted:
        solver = (DFMP2 if mean_field.mol.spin == 0 else DFUMP2)(mean_field, frozen=frozen)
        # Without this PySCF reuses the fitting basis of Coulomb and exchange.
        solver.with_df = df.DF(mean_field.mol, auxbasis=auxiliary_bases(mean_field.mol.basis)[1])
    else:
        solver = mp.MP2(mean_field, frozen=frozen)
    solver.kernel()
    return {"mp2": float(solver.e_corr)}


def _coupled_cluster(mean_field: scf.hf.SCF, methods: set[str], frozen: int, outcome: Outcome) -> dict[str, float]:
    solver = cc.CCSD(mean_field, frozen=frozen)
    solver.conv_tol = CC_TOLERANCE_HARTREE
    solver.conv_tol_normt = CC_AMPLITUDE_TOLERANCE
    solver.max_cycle = 100
    solver.kernel()
    if not solver.converged:
        raise FrameFailure(f"ccsd/{mean_field.mol.basis}", f"amplitudes not converged in {solver.max_cycle} cycles")
    if mean_field.mol.spin == 0:
        outcome.notes["t1_diagnostic"] = float(solver.get_t1_diagnostic())
    # The MP2 energy of the same orbitals and integrals is the first step of the amplitudes.
    energies = {"mp2": float(solver.emp2), "ccsd": float(solver.e_corr)}
    if "ccsd(t)" in methods:
        energies["ccsd(t)"] = energies["ccsd"] + float(solver.ccsd_t())
    return {method: energies[method] for method in methods}
