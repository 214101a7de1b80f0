"""Plays ORCA: reads an input as strictly as ORCA does, computes by PySCF, and says it in ORCA's words.

The words are those of outputs of ORCA 6.0. Local coupled cluster is played by 99.9 % of the canonical one.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from pyscf import cc, df, gto, mp, scf
from pyscf.data.elements import chemcore
from pyscf.mp.dfmp2 import DFMP2
from pyscf.mp.dfump2 import DFUMP2

METHODS = ["MP2", "RI-MP2", "CCSD", "CCSD(T)", "DLPNO-CCSD", "DLPNO-CCSD(T)", "DLPNO-CCSD(T1)"]
OPTIONS = {"RHF", "UHF", "RIJK", "FrozenCore", "NoFrozenCore", "VeryTightSCF", "NoAutoStart", "MORead", "LoosePNO",
           "NormalPNO", "TightPNO", "VeryTightPNO"}  # fmt: skip
FOUND = 0.999
BANNER = """
                                 *****************
                                 * O   R   C   A *
                                 *****************

                         Program Version 6.0.1  -  RELEASE   -

WARNING: Post HF methods need fully converged wavefunctions
  ===> : Setting SCFConvForced true
         You can overwrite this default with %scf ConvForced false
"""
SCF = """
 Startup error        DIISStart       ....  0.200000
 DIIS Error             TolErr          ....  1.000e-09
               *****************************************************
               *                     SUCCESS                       *
               *           SCF CONVERGED AFTER   8 CYCLES          *
               *****************************************************

----------------
TOTAL SCF ENERGY
----------------

Total Energy       :       {energy:.14f} Eh           {ev:.5f} eV

Components:
Nuclear Repulsion  :       {nuclear:.14f} Eh           0.00000 eV
"""
SPIN = """
Expectation value of <S**2>     :     {s_squared:.6f}
Ideal value S*(S+1) for S=0.5   :     0.750000
"""
MP2 = """
Freezing NCore={core} chemical core electrons
-----------------------------------------------
{name:>8s} CORRELATION ENERGY   :     {correlation:.9f} Eh
-----------------------------------------------
---------------------------------------
MP2 TOTAL ENERGY:      {total:.9f} Eh
---------------------------------------
"""
COUPLED_CLUSTER = """
               --- The Coupled-Cluster iterations have converged ---

----------------------
COUPLED CLUSTER ENERGY
----------------------

E(0)                                       ...    {scf:.9f}
E(CORR)                                    ...     {ccsd:.9f}
E(TOT)                                     ...    {ccsd_total:.9f}
Singles Norm <S|S>**1/2                    ...      0.013915058
T1 diagnostic                              ...      {t1:.9f}
"""
TRIPLES = """
Triples Correction (T)                     ...     {triples:.9f}

Final correlation energy                   ...     {correlation:.9f}
E(CCSD)                                    ...    {ccsd_total:.9f}
E(CCSD(T))                                 ...    {total:.9f}
"""
END = """
-------------------------   --------------------
FINAL SINGLE POINT ENERGY       {total:.12f}
-------------------------   --------------------

                             ****ORCA TERMINATED NORMALLY****
TOTAL RUN TIME: 0 days 0 hours 0 minutes 5 seconds 714 msec
"""


class Input:
    """An input file, of which nothing may be left over."""

    def __init__(self, path: Path) -> None:
        text, name = path.read_text(), path.stem
        (line,) = re.findall(r"^! (.*)$", text, flags=re.MULTILINE)
        words = line.split()
        (self.method,) = [word for word in words if word in METHODS] or ["HF"]
        if unknown := set(words) - {self.method} - OPTIONS:
            raise SystemExit(f"UNRECOGNIZED OR DUPLICATED KEYWORD(S) IN SIMPLE INPUT LINE\n  {' '.join(unknown)}")
        self.words = set(words)
        self.bases = dict(re.findall(r'^  (Basis|AuxJK|AuxC) "(.*)"$', text, flags=re.MULTILINE))
        head, *rows = text.split("* xyz ")[1].split("\n*\n")[0].splitlines()
        self.charge, self.multiplicity = map(int, head.split())
        self.atoms = [(row.split()[0], [float(x) for x in row.split()[1:]]) for row in rows]
        assert re.search(r"^%maxcore \d+$", text, flags=re.MULTILINE)
        assert re.search(r"^%pal nprocs \d+ end$", text, flags=re.MULTILINE)
        orbitals = re.search(r'^%moinp "(.*)"$', text, flags=re.MULTILINE)
        assert ("MORead" in words) == (orbitals is not None)
        if orbitals is not None:
            assert (path.parent / orbitals[1]).exists()
            assert orbitals[1] != f"{name}.gbw", "ORCA refuses to read what it writes"
        assert ("RIJK" in words) == ("AuxJK" in self.bases)


def fitting(name: str, basis: str) -> str:
    """Return PySCF's name of a fitting basis."""
    if name == "AutoAux":
        return f"{basis}-jkfit"
    family, _, kind = name.partition("/")
    return "def2-universal-jkfit" if name == "def2/JK" else f"{family}-{'jkfit' if kind == 'JK' else 'ri'}"


def main(path: Path) -> None:
    """Run an input and print the output."""
    print(BANNER)
    given = Input(path)
    molecule = gto.M(
        atom=given.atoms,
        basis=given.bases["Basis"],
        ecp=given.bases["Basis"],
        charge=given.charge,
        spin=given.multiplicity - 1,
        verbose=0,
    )
    mean_field = (scf.UHF if "UHF" in given.words else scf.RHF)(molecule)
    if "RIJK" in given.words:
        mean_field = mean_field.density_fit(auxbasis=fitting(given.bases["AuxJK"], given.bases["Basis"]))
    mean_field.conv_tol = 1e-11
    energy = mean_field.kernel()
    print(SCF.format(energy=energy, ev=energy * 27.2114, nuclear=molecule.energy_nuc()))
    if "UHF" in given.words:
        print(SPIN.format(s_squared=mean_field.spin_square()[0]))
    frozen = chemcore(molecule) if "FrozenCore" in given.words else 0
    total = energy + correlation(given, mean_field, frozen)
    Path(path.stem + ".gbw").write_bytes(b"orbitals")
    print(END.format(total=total))


def correlation(given: Input, mean_field: scf.hf.SCF, frozen: int) -> float:
    """Return the correlation energy, Hartree, and print what ORCA would."""
    if given.method == "HF":
        return 0.0
    if given.method.endswith("MP2"):
        found = mp2(given, mean_field, frozen)
        total = mean_field.e_tot + found
        print(MP2.format(core=2 * frozen, name=given.method, correlation=found, total=total))
        return found
    share = FOUND if given.method.startswith("DLPNO") else 1.0
    plain = scf.addons.convert_to_uhf(mean_field) if isinstance(mean_field, scf.uhf.UHF) else mean_field
    solver = cc.CCSD(plain.undo_df() if hasattr(plain, "undo_df") else plain, frozen=frozen)
    solver.conv_tol, solver.conv_tol_normt = 1e-10, 1e-8
    solver.kernel()
    ccsd = share * solver.e_corr
    ccsd_total = mean_field.e_tot + ccsd
    print(COUPLED_CLUSTER.format(scf=mean_field.e_tot, ccsd=ccsd, ccsd_total=ccsd_total, t1=0.0123))
    if not given.method.endswith(("(T)", "(T1)")):
        return ccsd
    triples = share * solver.ccsd_t()
    total = ccsd_total + triples
    print(TRIPLES.format(triples=triples, correlation=ccsd + triples, ccsd_total=ccsd_total, total=total))
    return ccsd + triples


def mp2(given: Input, mean_field: scf.hf.SCF, frozen: int) -> float:
    """Return the correlation energy of MP2, Hartree, with fitted integrals or without."""
    if given.method == "MP2":
        return mp.MP2(mean_field, frozen=frozen).kernel()[0]
    solver = (DFUMP2 if "UHF" in given.words else DFMP2)(mean_field, frozen=frozen)
    solver.with_df = df.DF(mean_field.mol, auxbasis=fitting(given.bases["AuxC"], given.bases["Basis"]))
    return solver.kernel()[0]


def installed(folder: Path) -> Path:
    """Put this in a folder as ORCA lies in one, and return its path."""
    program = folder / "orca"
    shutil.copy(__file__, folder / "played.py")
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {folder}/played.py "$@"\n')
    program.chmod(0o755)
    (folder / "orca_mdci").touch()
    return program


if __name__ == "__main__":
    if sys.argv[1] == "--version":
        print(BANNER)
    else:
        main(Path(sys.argv[1]))
