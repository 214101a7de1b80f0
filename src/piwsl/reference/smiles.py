"""Molecules of SMILES strings, by RDKit."""

from __future__ import annotations

from ase import Atoms
from rdkit import Chem, rdBase
from rdkit.Chem import Descriptors, rdDistGeom, rdForceFieldHelpers

from piwsl.errors import PiwslError

EMBEDDING_SEED = 20240501


def from_smiles(smiles: str, charge: int) -> Atoms:
    """Make a geometry of a SMILES string: distance geometry (ETKDGv3), then the MMFF94 force field, in RDKit.

    Args:
        smiles: the molecule; hydrogen atoms may be left out.
        charge: total charge, e, which the string must have, too.

    Raises:
        PiwslError: not a SMILES string, of another charge, or without a geometry.
    """
    found = _parsed(smiles)
    if (formal := Chem.GetFormalCharge(found)) != charge:
        raise PiwslError(f"SMILES '{smiles}' has charge {formal:+d}, and charge says {charge:+d}; make them agree")
    full = Chem.AddHs(found)
    if rdDistGeom.EmbedMolecule(full, randomSeed=EMBEDDING_SEED) != 0:
        raise PiwslError(f"RDKit finds no geometry for SMILES '{smiles}'; give one as 'file:'")
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(full):
        rdForceFieldHelpers.MMFFOptimizeMolecule(full, maxIters=2000)
    return Atoms([atom.GetSymbol() for atom in full.GetAtoms()], positions=full.GetConformer().GetPositions())


def radical_electrons(smiles: str) -> int:
    """Count unpaired electrons by valences: two for [O][O] and methylene, none for O=O.

    Raises:
        PiwslError: not a SMILES string.
    """
    return int(Descriptors.NumRadicalElectrons(_parsed(smiles)))


def _parsed(smiles: str) -> Chem.Mol:
    with rdBase.BlockLogs():
        found = Chem.MolFromSmiles(smiles)
    if found is None or found.GetNumAtoms() == 0:
        raise PiwslError(f"'{smiles}' is not a SMILES string that RDKit can read")
    return found
