"""What psi4 runs: the calculations of job.json in the folder it is started in, their energies into energies.json.

Executed by psi4's own Python, which has none of this package. psi4 1.3 and later.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import psi4


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run calculations one after the other; the first that fails is the last.

    Args:
        job: `molecule` as psi4 writes it, `cores` (core orbitals of each atom, as no potential stood for them),
            `memory_bytes`, `options`, and `calculations`: `name`, `method`, `options`.
    """
    psi4.set_memory(job["memory_bytes"])
    molecule = psi4.geometry(job["molecule"])
    found: dict[str, Any] = {}
    for calculation in job["calculations"]:
        psi4.core.clean()
        psi4.core.clean_variables()
        psi4.core.clean_options()
        psi4.set_options({**job["options"], **calculation["options"]})
        try:
            found[calculation["name"]] = _calculate(molecule, calculation["method"], job["cores"])
        except Exception as error:  # psi4 raises many kinds; the reader of energies.json says which
            return {"failed": calculation["name"], "error": f"{type(error).__name__}: {error}"}
    return {"calculations": found}


def _calculate(molecule: Any, method: str, cores: list[int]) -> dict[str, Any]:
    """Return energies (Hartree) by psi4's names, and how it went."""
    frozen = _frozen(molecule, cores)
    # Frozen orbitals are counted where the SCF starts.
    psi4.set_options({"num_frozen_docc": frozen})
    energy, reference = psi4.energy("scf", molecule=molecule, return_wfn=True)
    if method != "scf":
        psi4.energy(method, molecule=molecule, ref_wfn=reference)
    return {
        "scf": energy,
        "variables": {name: value for name, value in psi4.core.variables().items() if isinstance(value, float)},
        "frozen_orbitals": frozen,
        "s_squared": None if reference.same_a_b_orbs() else _s_squared(reference),
    }


def _frozen(molecule: Any, cores: list[int]) -> int:
    """Count the core orbitals that no effective core potential stands for."""
    basis = psi4.core.BasisSet.build(molecule, "ORBITAL", psi4.core.get_global_option("BASIS"))
    potentials = [basis.n_ecp_core(molecule.label(atom)) // 2 for atom in range(molecule.natom())]
    return sum(max(core - gone, 0) for core, gone in zip(cores, potentials, strict=False))


def _s_squared(reference: Any) -> float:
    """Return ⟨S²⟩ of unrestricted orbitals: Szabo, Ostlund, Modern Quantum Chemistry, eq. 2.271."""
    alpha, beta = reference.nalpha(), reference.nbeta()
    mine, other = reference.Ca_subset("AO", "OCC").np, reference.Cb_subset("AO", "OCC").np
    overlap = mine.T @ psi4.core.MintsHelper(reference.basisset()).ao_overlap().np @ other
    projection = (alpha - beta) / 2
    return float(projection * (projection + 1) + beta - np.sum(overlap**2))


def lacking(bases: list[str], numbers: dict[str, int]) -> dict[str, Any]:
    """Return psi4's version, and the first basis that lacks an element.

    Args:
        bases: names.
        numbers: atomic numbers by chemical symbol.
    """
    for basis in bases:
        for symbol, number in numbers.items():
            atom = psi4.geometry(f"0 {1 + number % 2}\n{symbol} 0 0 0")
            try:
                psi4.core.BasisSet.build(atom, "BASIS", basis)
            except Exception as error:
                if "BasisSetNotFound" not in type(error).__name__:
                    raise
                return {"version": psi4.__version__, "lacking": [basis, symbol]}
    return {"version": psi4.__version__, "lacking": None}


def main() -> None:
    """Do what job.json asks for."""
    job = json.loads(Path("job.json").read_text())
    found = run(job) if "calculations" in job else lacking(job["bases"], job["numbers"])
    Path("energies.json").write_text(json.dumps(found))


main()
