"""Hartree-Fock and density functionals with PySCF: SCFs that converge or are refused, all of one state."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyscf import dft, gto, scf

from piwsl.reference.components import MeanFieldKey
from piwsl.reference.element_bases import fitting_functions
from piwsl.reference.engines.pyscf import LOWEST_OF, STABLE, UNSTABLE, PySCF
from piwsl.reference.failures import FrameFailure
from piwsl.reference.low_rank import LowRankDF

SCF_TOLERANCE_HARTREE = 1e-10
# Correlation energies are linear in what is left of the orbital gradient: PySCF's own 1e-5 leaves them 1e-8 Eh.
SCF_GRADIENT = 2e-7
# The second-order solver comes to rest above that.
SECOND_ORDER_GRADIENT = 1e-6
MOST_STEPS_DOWN = 5
SAME_ENERGY_HARTREE = 1e-6
# Cosine of the angle between spaces of occupied orbitals.
SAME_STATE = 0.8
# Its elements up to krypton have all their electrons.
SMALL_BASIS, LAST_OF_SMALL_BASIS = "def2-svp", 36
# PySCF's search for unstable directions needs a few to begin with.
FEWEST_ROTATIONS = 10


def mean_field_object(molecule: gto.Mole, key: MeanFieldKey, level: PySCF) -> scf.hf.SCF:
    """Make PySCF's mean field of a molecule, not yet run.

    Args:
        molecule: PySCF's molecule.
        key: basis, fitting, functional.
        level: the level: orbitals, grid, fitting bases.
    """
    unrestricted = level.is_open_shell(molecule.spin + 1) and level.orbitals != "restricted"
    if key.functional is None:
        # PySCF's restricted classes are those of open shells where electrons are not paired.
        mean_field = (scf.UHF if unrestricted else scf.RHF)(molecule)
    else:
        mean_field = (dft.UKS if unrestricted else dft.RKS)(molecule, xc=key.functional)
        mean_field.grids.level = level.grid
        mean_field.disp = key.dispersion
    if key.density_fitting:
        fitted = LowRankDF(molecule, auxbasis=fitting_functions(level, key.basis, molecule.elements, "jk"))
        fitted.max_memory, fitted.verbose = molecule.max_memory, molecule.verbose
        mean_field = mean_field.density_fit(with_df=fitted)
    mean_field.conv_tol = SCF_TOLERANCE_HARTREE
    mean_field.conv_tol_grad = SCF_GRADIENT
    return mean_field


class Rung(NamedTuple):
    """One means of converging an SCF."""

    prepare: Callable[[scf.hf.SCF], scf.hf.SCF]
    guess: str


def _plain(mean_field: scf.hf.SCF) -> scf.hf.SCF:
    return mean_field


def _damped(mean_field: scf.hf.SCF) -> scf.hf.SCF:
    mean_field.level_shift = 0.3
    mean_field.damp = 0.3
    mean_field.max_cycle = 150
    return mean_field


def _second_order(mean_field: scf.hf.SCF) -> scf.hf.SCF:
    newton = mean_field.newton()
    newton.conv_tol_grad = SECOND_ORDER_GRADIENT
    return newton


SCF_LADDER: dict[str, Rung] = {
    "DIIS": Rung(_plain, "minao"),
    "level shift and damping": Rung(_damped, "minao"),
    "second order": Rung(_second_order, "minao"),
    "second order from atoms": Rung(_second_order, "atom"),
    "second order from Hückel orbitals": Rung(_second_order, "huckel"),
}
# Of these, what comes to other configurations of an atom.
OTHER_GUESSES = ("second order", "second order from atoms")
# Orbitals of a spin: those of d and s of a shell.
NEAR_THE_GAP = 6


def converge(
    molecule: gto.Mole, key: MeanFieldKey, level: PySCF, start: NDArray[np.float64] | None = None, follow: bool = False
) -> tuple[scf.hf.SCF, dict[str, Any]]:
    """Converge an SCF by ever more careful means.

    Args:
        molecule: PySCF's molecule.
        key: basis, fitting, functional.
        level: the level.
        start: density matrix to start from, as of `projected`. It saves some cycles, and the bases of an extrapolation
            find the same state.
        follow: check that the solution is a minimum, and follow it down where it is not.

    Returns:
        The converged mean field; how it went: the means, the stability, ⟨S²⟩ of open shells.

    Raises:
        FrameFailure: none of the means converged, or no minimum was found.
    """
    for name in SCF_LADDER:
        if found := _converged_by(name, molecule, key, level, start, follow):
            return found
    raise FrameFailure(str(key), f"SCF not converged by {', '.join(SCF_LADDER)}")


def _converged_by(
    name: str,
    molecule: gto.Mole,
    key: MeanFieldKey,
    level: PySCF,
    start: NDArray[np.float64] | None,
    follow: bool,
) -> tuple[scf.hf.SCF, dict[str, Any]] | None:
    """Return what one of the means gives, None where it does not converge; arguments as of `converge`."""
    rung = SCF_LADDER[name]
    mean_field = rung.prepare(mean_field_object(molecule, key, level))
    first = start is not None and rung is next(iter(SCF_LADDER.values()))
    mean_field.kernel(dm0=start if first else mean_field.get_init_guess(key=rung.guess))
    if not (mean_field.converged and np.isfinite(mean_field.e_tot)):
        return None
    return _described(mean_field, name, key, follow)


def _described(mean_field: scf.hf.SCF, name: str, key: MeanFieldKey, follow: bool) -> tuple[scf.hf.SCF, dict[str, Any]]:
    """Return a converged solution, followed down where it is to be, and how it went."""
    how: dict[str, Any] = {"converged_by": name}
    if follow:
        mean_field, how["stability"] = follow_down(mean_field, str(key))
    if is_open_shell(mean_field):
        how["s_squared"] = round(float(mean_field.spin_square()[0]), 6)
    return mean_field, how


def lowest_of_atom(
    molecule: gto.Mole, key: MeanFieldKey, level: PySCF, start: NDArray[np.float64] | None = None
) -> tuple[scf.hf.SCF, dict[str, Any]]:
    """Converge the SCF of an atom of which several configurations are minima, and take the lowest that is found.

    From densities that have the symmetry of a sphere the ground states of HF of Mn to Ni are not always found: of Fe,
    Co and Ni there is a minimum with an electron less in 4s, some 50 mEh above, of Mn one 0.16 Hartree above. So other
    guesses are tried, and from the lowest minimum one electron is moved to another orbital, until none is lower. A
    further basis has the configuration of the one before.

    Args:
        molecule: one atom.
        key: basis, fitting, functional.
        level: the level.
        start: of the basis before, as of `converge`.

    Raises:
        FrameFailure: as of `converge`.
    """
    if start is not None and (same := _from_density(start, "the basis before", molecule, key, level)):
        ((mean_field, how),) = same
        return mean_field, how | {LOWEST_OF: 1}
    found = [converge(molecule, key, level, None, follow=True)]
    for name in OTHER_GUESSES:
        with suppress(FrameFailure):  # no minimum: there is another
            found += [each for each in [_converged_by(name, molecule, key, level, None, follow=True)] if each]
    lowest, count = _lowest(found), len(found)
    for _ in range(MOST_STEPS_DOWN):
        moved = [
            each
            for density in _moved_electrons(lowest[0])
            for each in _from_density(density, "a moved electron", molecule, key, level)
        ]
        count += len(moved)
        before, lowest = lowest, _lowest([lowest, *moved])
        if lowest is before:
            break
    mean_field, how = lowest
    return mean_field, how | {LOWEST_OF: count}


def _lowest(solutions: list[tuple[scf.hf.SCF, dict[str, Any]]]) -> tuple[scf.hf.SCF, dict[str, Any]]:
    """Return the first of the solutions than which no other is lower."""
    lowest = min(float(mean_field.e_tot) for mean_field, _ in solutions)
    return next(each for each in solutions if each[0].e_tot < lowest + SAME_ENERGY_HARTREE)


def _moved_electrons(mean_field: scf.hf.SCF) -> list[NDArray[np.float64]]:
    """Return densities in which one electron of a spin has left its orbital, of each spin the one of lowest energy.

    From and to the orbitals nearest to the gap; (2, n, n) each, none of restricted orbitals.
    """
    if not isinstance(mean_field, scf.uhf.UHF):
        return []
    densities = []
    for spin in (0, 1):
        order = np.argsort(mean_field.mo_energy[spin])
        occupied = [orbital for orbital in order if mean_field.mo_occ[spin][orbital] > 0][-NEAR_THE_GAP:]
        empty = [orbital for orbital in order if mean_field.mo_occ[spin][orbital] == 0][:NEAR_THE_GAP]
        moved = []
        for left in occupied:
            for entered in empty:
                occupations = np.array(mean_field.mo_occ)
                occupations[spin, [left, entered]] = 0, 1
                moved.append(mean_field.make_rdm1(mean_field.mo_coeff, occupations))
        densities += sorted(moved, key=lambda density: float(mean_field.energy_tot(density)))[:1]
    return densities


def _from_density(
    density: NDArray[np.float64], origin: str, molecule: gto.Mole, key: MeanFieldKey, level: PySCF
) -> list[tuple[scf.hf.SCF, dict[str, Any]]]:
    """Return the minimum that the second-order solver finds from a density; none where it finds none."""
    mean_field = _second_order(mean_field_object(molecule, key, level))
    mean_field.kernel(dm0=density)
    if not mean_field.converged:
        return []
    with suppress(FrameFailure):
        return [_described(mean_field, f"second order from {origin}", key, follow=True)]
    return []


def is_open_shell(mean_field: scf.hf.SCF) -> bool:
    """Whether densities of both spins may differ."""
    return isinstance(mean_field, scf.uhf.UHF | scf.rohf.ROHF)


def is_same_state(first: scf.hf.SCF, second: scf.hf.SCF) -> bool:
    """Whether two solutions of one geometry, in whatever bases, occupy the same orbitals.

    The singular values of the overlap of two sets of occupied orbitals are the cosines of the angles between the spaces
    that they span: all near 1 in two bases of one state; one near 0 where an orbital is occupied in its place.
    Amos, Hall, Proc. R. Soc. A 263, 483 (1961).
    """
    overlap = gto.intor_cross("int1e_ovlp", first.mol, second.mol)
    return all(
        np.linalg.svd(mine.T @ overlap @ other, compute_uv=False).min(initial=1.0) > SAME_STATE
        for mine, other in zip(_occupied(first), _occupied(second), strict=True)
    )


def _occupied(mean_field: scf.hf.SCF) -> list[NDArray[np.float64]]:
    """Return the occupied orbitals, (n, occupied), of each spin; once where both are the same."""
    orbitals, occupations = mean_field.mo_coeff, mean_field.mo_occ
    if isinstance(mean_field, scf.uhf.UHF):
        return [own[:, occupied > 0] for own, occupied in zip(orbitals, occupations, strict=True)]
    spins = (0, 1) if is_open_shell(mean_field) else (0,)
    return [orbitals[:, occupations > spin] for spin in spins]


def projected(mean_field: scf.hf.SCF, molecule: gto.Mole) -> NDArray[np.float64]:
    """Return the density matrix of a converged solution in another basis of the same geometry.

    Args:
        mean_field: converged.
        molecule: in the other basis, of n functions.

    Returns:
        (n, n), or (2, n, n) of an open shell.
    """
    overlap = molecule.intor("int1e_ovlp")
    spins = is_open_shell(mean_field)
    densities = []
    for own in _occupied(mean_field):
        occupied = scf.addons.project_mo_nr2nr(mean_field.mol, own, molecule)
        values, vectors = np.linalg.eigh(occupied.T @ overlap @ occupied)
        orthonormal = occupied @ (vectors / np.sqrt(values)) @ vectors.T
        densities.append((1.0 if spins else 2.0) * orthonormal @ orthonormal.T)
    return np.array(densities) if spins else densities[0]


def follow_down(mean_field: scf.hf.SCF, step: str) -> tuple[scf.hf.SCF, str]:
    """Follow unstable directions of the orbitals until the solution is a minimum of its kind.

    Args:
        mean_field: converged.
        step: names the calculation in a failure.

    Returns:
        The stable solution, and what was found.

    Raises:
        FrameFailure: no minimum after several steps.
    """
    if _rotations(mean_field) < FEWEST_ROTATIONS:
        return mean_field, "not checked: hardly an orbital to rotate"
    for followed in range(MOST_STEPS_DOWN):
        orbitals, _, stable, _ = mean_field.stability(return_status=True)
        if stable:
            return mean_field, f"stable after {followed} steps down" if followed else "stable"
        before = mean_field.e_tot
        mean_field = mean_field if hasattr(mean_field, "max_cycle_inner") else _second_order(mean_field)
        mean_field.kernel(orbitals, mean_field.mo_occ)
        if not mean_field.converged:
            break
        # A long step may come to rest on a higher saddle point, from where the next goes further down.
        if abs(before - mean_field.e_tot) < SAME_ENERGY_HARTREE:
            # Turning a degenerate shell changes nothing but noise of the grid.
            return mean_field, "stable but for rotations of one energy"
    raise FrameFailure(step, f"no stable SCF solution after {MOST_STEPS_DOWN} steps down")


def stability_of_restricted(mean_field: scf.hf.SCF) -> str:
    """Say whether unrestricted orbitals near restricted ones have a lower energy: one determinant is not enough.

    Seeger, Pople, J. Chem. Phys. 66, 3045 (1977).
    """
    if _rotations(mean_field) < FEWEST_ROTATIONS:
        return STABLE
    *_, stable = mean_field.stability(internal=False, external=True, return_status=True)
    return STABLE if stable else UNSTABLE


def in_small_basis(mean_field: scf.hf.SCF, level: PySCF) -> scf.hf.SCF:
    """Return restricted HF in a small basis, or what is given where that is smaller, or the small one does not serve.

    Whether restricted orbitals are stable hardly depends on the basis; to find out takes ten times as long as the SCF
    in a basis of triple zeta.

    Args:
        mean_field: converged; the small one is of its state.
        level: the level of theory.
    """
    molecule = mean_field.mol
    if max(gto.charge(symbol) for symbol in molecule.elements) > LAST_OF_SMALL_BASIS:
        return mean_field
    small = gto.M(
        atom=molecule.atom,
        unit=molecule.unit,
        basis=SMALL_BASIS,
        charge=molecule.charge,
        spin=molecule.spin,
        max_memory=molecule.max_memory,
        verbose=0,
    )
    if small.nao >= molecule.nao or small.nelectron != molecule.nelectron:
        return mean_field
    try:
        found, _ = converge(small, MeanFieldKey(SMALL_BASIS, False), level, projected(mean_field, small))
    except FrameFailure:
        return mean_field
    return mean_field if _rotations(found) < FEWEST_ROTATIONS else found


def _rotations(mean_field: scf.hf.SCF) -> int:
    """Count the pairs of an occupied and an empty orbital."""
    occupations = np.atleast_2d(mean_field.mo_occ)
    return int(sum((spin > 0).sum() * (spin == 0).sum() for spin in occupations))
