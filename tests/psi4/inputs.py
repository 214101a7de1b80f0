"""The psi4 inputs behind energies.json: molecules, schemes, and the text that psi4 is given."""

from __future__ import annotations

from typing import NamedTuple

# Å; equilibrium-like geometries, rounded. Name: (charge, multiplicity, atoms).
MOLECULES = {
    "H2": (0, 1, "H 0 0 0.37\nH 0 0 -0.37"),
    "HF": (0, 1, "F 0 0 0.0931\nH 0 0 -0.8376"),
    "H2O": (0, 1, "O 0 0 0.1193\nH 0 0.7632 -0.477\nH 0 -0.7632 -0.477"),
    "NH3": (0, 1, "N 0 0 0.1165\nH 0 0.9397 -0.2717\nH 0.8138 -0.4699 -0.2717\nH -0.8138 -0.4699 -0.2717"),
    "CH4": (0, 1, "C 0 0 0\nH 0.629 0.629 0.629\nH -0.629 -0.629 0.629\nH 0.629 -0.629 -0.629\nH -0.629 0.629 -0.629"),
    "N2": (0, 1, "N 0 0 0.5649\nN 0 0 -0.5649"),
    "CO": (0, 1, "O 0 0 0.4930\nC 0 0 -0.6573"),
    "HCN": (0, 1, "C 0 0 -0.5117\nN 0 0 0.6645\nH 0 0 -1.5803"),
    "CH3OH": (
        0,
        1,
        "C -0.0471 0.6644 0\nO -0.0471 -0.7586 0\nH -1.0930 0.9698 0\nH 0.8785 -1.0485 0\nH 0.4371 1.0804 0.8918\n"
        "H 0.4371 1.0804 -0.8918",
    ),
    "C2H5OH": (
        0,
        1,
        "C 1.1682 -0.3944 0\nC 0 0.5595 0\nO -1.1901 -0.2149 0\nH -1.9466 0.3815 0\nH 0.0426 1.2075 0.8869\n"
        "H 0.0426 1.2075 -0.8869\nH 2.1159 0.1448 0\nH 1.1286 -1.0372 0.8859\nH 1.1286 -1.0372 -0.8859",
    ),
    "OH": (0, 2, "O 0 0 0.1088\nH 0 0 -0.8703"),
    "CH3": (0, 2, "C 0 0 0\nH 0 1.0784 0\nH 0.9339 -0.5392 0\nH -0.9339 -0.5392 0"),
    "O2": (0, 3, "O 0 0 0.6230\nO 0 0 -0.6230"),
    "NH2": (0, 2, "N 0 0 0.1418\nH 0 0.8058 -0.4964\nH 0 -0.8058 -0.4964"),
    "CN": (0, 2, "C 0 0 -0.6310\nN 0 0 0.5408"),
    "HI": (0, 1, "H 0 0 -1.5790\nI 0 0 0.0300"),
    "HI+": (1, 2, "H 0 0 -1.6000\nI 0 0 0.0300"),
    "I": (0, 2, "I 0 0 0"),
    "NH4+": (1, 1, "N 0 0 0\nH 0.59 0.59 0.59\nH -0.59 -0.59 0.59\nH 0.59 -0.59 -0.59\nH -0.59 0.59 -0.59"),
}

# Name: (HF bases and psi4's scheme, bases of the MP2 correlation energy, basis of [CCSD(T) - MP2]).
SCHEMES = {
    "exponential DT": ("cc-pv[dt]z", "scf_xtpl_helgaker_2", "cc-pv[dt]z", "cc-pvdz"),
    "exponential TQ": ("cc-pv[tq]z", "scf_xtpl_helgaker_2", "cc-pv[tq]z", "cc-pvdz"),
    "three points DTQ": ("cc-pv[dtq]z", "scf_xtpl_helgaker_3", "cc-pv[tq]z", "cc-pvdz"),
    "exponential aDT": ("aug-cc-pv[dt]z", "scf_xtpl_helgaker_2", "aug-cc-pv[dt]z", "aug-cc-pvdz"),
}

# CCSD(T) in a basis with effective core potentials.
SINGLE = {"def2-SVP": "def2-svp", "def2-TZVP": "def2-tzvp"}


class Case(NamedTuple):
    """One energy."""

    molecule: str
    scheme: str
    integrals: str
    """conventional or fitted."""
    reference: str
    """Of an open shell: uhf or rohf."""


OPEN = [molecule for molecule, (_, multiplicity, _) in MOLECULES.items() if multiplicity > 1]
HEAVY = [molecule for molecule, (_, _, atoms) in MOLECULES.items() if "I " in atoms]
LIGHT = [molecule for molecule in MOLECULES if molecule not in HEAVY]
SMALL = ["H2", "HF", "H2O", "N2", "OH"]


def _reference(molecule: str) -> str:
    return "uhf" if molecule in OPEN else "rhf"


CASES = [
    Case(molecule, scheme, integrals, _reference(molecule))
    for scheme, integrals, molecules in (
        ("exponential DT", "conventional", LIGHT),
        ("exponential DT", "fitted", LIGHT),
        ("exponential TQ", "conventional", SMALL),
        ("exponential TQ", "fitted", [*SMALL, "NH3", "CH3", "HCN", "C2H5OH"]),
        ("three points DTQ", "conventional", ["H2", "HF", "OH"]),
        ("three points DTQ", "fitted", ["H2O", "NH3", "OH", "CH3OH"]),
        ("exponential aDT", "conventional", ["H2O", "OH"]),
        ("def2-TZVP", "conventional", ["HI"]),
        ("def2-SVP", "conventional", HEAVY),
    )
    for molecule in molecules
] + [
    Case(molecule, scheme, integrals, "rohf")
    for scheme, integrals, molecules in (
        ("exponential DT", "conventional", [molecule for molecule in OPEN if molecule in LIGHT]),
        ("exponential DT", "fitted", [molecule for molecule in OPEN if molecule in LIGHT]),
        ("exponential TQ", "fitted", ["OH"]),
        ("exponential aDT", "conventional", ["OH"]),
        ("def2-SVP", "conventional", [molecule for molecule in OPEN if molecule in HEAVY]),
    )
    for molecule in molecules
]


def text(case: Case) -> str:
    """Return the psi4 input of a case.

    HF and MP2 go through psi4's cbs driver. With fitted integrals [CCSD(T) - MP2] is a calculation of its own, because
    psi4 would take density-fitted orbitals for it.
    """
    charge, multiplicity, atoms = MOLECULES[case.molecule]
    common = f"""memory 6 GB
molecule {{
{charge} {multiplicity}
{atoms}
units angstrom
symmetry c1
no_com
no_reorient
}}
set {{
reference {case.reference}
freeze_core true
e_convergence 1e-10
d_convergence 1e-8
r_convergence 1e-7
}}
"""
    if case.scheme in SINGLE:
        return common + (
            f"set {{\nscf_type pk\nbasis {SINGLE[case.scheme]}\n}}\n"
            "total = energy('ccsd(t)')\n"
            "print_out('\\nTOTAL %.12f\\n' % total)\n"
        )
    hf_bases, hf_scheme, mp2_bases, delta_basis = SCHEMES[case.scheme]
    driver = (
        f"scf_wfn='hf', scf_basis='{hf_bases}', scf_scheme={hf_scheme}, "
        f"corl_wfn='mp2', corl_basis='{mp2_bases}', corl_scheme=corl_xtpl_helgaker_2"
    )
    if case.integrals == "conventional":
        return common + (
            "set {\nscf_type pk\nmp2_type conv\n}\n"
            f"total = energy(cbs, {driver}, delta_wfn='ccsd(t)', delta_basis='{delta_basis}')\n"
            "print_out('\\nTOTAL %.12f\\n' % total)\n"
        )
    return common + (
        "set {\nscf_type df\nmp2_type df\n}\n"
        f"total = energy(cbs, {driver})\n"
        "clean()\n"
        f"set {{\nscf_type pk\nmp2_type conv\nbasis {delta_basis}\n}}\n"
        "total += energy('ccsd(t)') - variable('MP2 TOTAL ENERGY')\n"
        "print_out('\\nTOTAL %.12f\\n' % total)\n"
    )
