"""What forces of `ccsdt-cbs` cost beside the energy, and how they agree with differences of energies.

Analytic forces of displaced molecules against the slope of the energy along one random direction, by four displaced
energies; then the gradient of [CCSD(T)]/cc-pVDZ as the project makes it beside PySCF's own. CPU seconds of one thread.
Ten minutes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import molecule
from pyscf import cc, gto, scf
from pyscf.cc import ccsd_t_lambda
from pyscf.grad import ccsd_t as ccsd_t_gradient

from piwsl.config import named_level
from piwsl.reference.cores import frozen_orbitals
from piwsl.reference.differences import central_difference_slope, energies_needed
from piwsl.reference.triples_gradient import triples_gradient

MEMORY_MB = 6000
LEVEL = "ccsdt-cbs"


def displaced(name: str) -> Atoms:
    """Return a molecule without symmetry."""
    atoms = molecule(name)
    atoms.positions += 0.05 * np.random.default_rng(0).normal(size=atoms.positions.shape)
    return atoms


def timed(compute: Callable[[], Any]) -> tuple[Any, float]:
    """Return what is computed, and the CPU seconds of it."""
    started = time.process_time()
    found = compute()
    return found, time.process_time() - started


def whole_level(name: str) -> str:
    """Return the row of a molecule: energy, forces, and how these agree with differences."""
    atoms, level = displaced(name), named_level(LEVEL)

    def single_point(of: Atoms, forces: bool) -> Any:
        return level.single_point(of, 0, 1, memory_mb=MEMORY_MB, forces=forces)

    energy, alone_s = timed(lambda: single_point(atoms, forces=False))
    found, forces_s = timed(lambda: single_point(atoms, forces=True))
    slope = central_difference_slope(atoms, lambda moved: float(single_point(moved, forces=False).energy))
    assert slope is not None
    off = abs(slope.of(found.forces) - slope.value)
    needed = energies_needed(atoms.positions, "differences")
    return (
        f"| {name} | {alone_s:.3g} | {forces_s:.3g} | {forces_s / alone_s:.1f} | {needed} | {off:.1e} |"
        f" {abs(found.energy - energy.energy):.0e} |"
    )


def coupled_cluster(name: str) -> str:
    """Return the row of a molecule: the gradient of CCSD(T)/cc-pVDZ from converged amplitudes, ours and PySCF's."""
    atoms = displaced(name)
    found = gto.M(
        atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis="cc-pvdz", max_memory=MEMORY_MB, verbose=0
    )
    solver = cc.CCSD(scf.RHF(found).run(conv_tol=1e-11), frozen=frozen_orbitals(found, frozen_core=True))
    solver.conv_tol, solver.conv_tol_normt = 1e-9, 1e-6
    _, amplitudes_s = timed(solver.run)
    integrals = solver.ao2mo()

    def theirs() -> np.ndarray:
        _, l1, l2 = ccsd_t_lambda.kernel(solver, integrals, solver.t1, solver.t2, max_cycle=100, tol=1e-7, verbose=0)
        return ccsd_t_gradient.Gradients(solver).kernel(solver.t1, solver.t2, l1, l2, eris=integrals)

    ours, ours_s = timed(lambda: triples_gradient(solver, integrals, 1e-7))
    expected, theirs_s = timed(theirs)
    return f"| {name} | {amplitudes_s:.3g} | {ours_s:.3g} | {theirs_s:.3g} | {np.abs(ours - expected).max():.0e} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", nargs="+", default=["H2CO", "CH3OH", "CH3CH2OH"], help="names of ASE's G2 set")
    molecules = parser.parse_args().molecules
    print("| | energy, CPU s | with forces | ratio | energies of differences | off, eV/Å | energies differ, eV |")
    print("|---|---|---|---|---|---|---|")
    for name in molecules:
        print(whole_level(name), flush=True)
    print("\n| | CCSD, CPU s | gradient of CCSD(T) | PySCF's own | differ, Eh/bohr |")
    print("|---|---|---|---|---|")
    for name in molecules:
        print(coupled_cluster(name), flush=True)


if __name__ == "__main__":
    main()
