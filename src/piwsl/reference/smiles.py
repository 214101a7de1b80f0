"""Molecules of SMILES strings, by RDKit."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from rdkit import Chem, rdBase
from rdkit.Chem import Descriptors, rdDistGeom, rdForceFieldHelpers
from scipy.sparse.csgraph import connected_components
from scipy.stats import special_ortho_group

from piwsl.errors import PiwslError
from piwsl.structures.frames import too_close
from piwsl.structures.seeds import generator

EMBEDDING_SEED = 20240501
# Å, between the boxes of molecules before the force field draws them together.
GAP = 3.0
# Å: molecules farther apart are none of one complex; in dynamics they would part.
FARTHEST_NEIGHBOUR = 5.0
# Ways for molecules to face each other: of some, two waters with all hydrogens between them, they only repel.
PLACEMENTS = 20
# O2, S2, SO and heavier ones, whose usual strings pair all electrons: triplets in their ground states.
CHALCOGENS = Chem.MolFromSmarts("[#8,#16,#34,#52;X1;+0]=[#8,#16,#34,#52;X1;+0]")


def from_smiles(smiles: str, charge: int) -> Atoms:
    """Make a geometry of a SMILES string: distance geometry (ETKDGv3), then the MMFF94 force field, in RDKit.

    Several molecules (`O.O`) are placed apart, then relaxed together.

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
    with rdBase.BlockLogs():  # of atom types that a force field does not know
        if rdDistGeom.EmbedMolecule(full, randomSeed=EMBEDDING_SEED) != 0:
            raise PiwslError(f"RDKit finds no geometry for SMILES '{smiles}'; give one as 'file:'")
        if len(Chem.GetMolFrags(full)) > 1:
            return _complex(full, smiles)
        return _relaxed(full)


def _complex(full: Chem.Mol, smiles: str) -> Atoms:
    """Return molecules beside each other, of the first placement from which they neither collide nor part."""
    for attempt in range(PLACEMENTS):
        placed = Chem.Mol(full)
        _place_apart(placed, generator("molecules of a complex", EMBEDDING_SEED, attempt))
        atoms = _relaxed(placed)
        parts, _ = connected_components(atoms.get_all_distances() < FARTHEST_NEIGHBOUR)
        if parts == 1 and too_close(atoms) is None:
            return atoms
    raise PiwslError(
        f"RDKit finds no geometry for SMILES '{smiles}' in which its molecules lie side by side, within "
        f"{FARTHEST_NEIGHBOUR:g} Å; give one as 'file:'"
    )


def _place_apart(full: Chem.Mol, rng: np.random.Generator) -> None:
    """Turn each molecule at random, and put them in a row along x, in place."""
    positions, end = full.GetConformer().GetPositions(), 0.0
    for indices in map(list, Chem.GetMolFrags(full)):
        own = positions[indices] - positions[indices].mean(axis=0)
        own = own @ special_ortho_group.rvs(3, random_state=rng)
        own[:, 0] += end - own[:, 0].min()
        positions[indices], end = own, own[:, 0].max() + GAP
    full.GetConformer().SetPositions(positions)


def _relaxed(full: Chem.Mol) -> Atoms:
    """Return the geometry after MMFF94, where that has parameters; in place."""
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(full):
        rdForceFieldHelpers.MMFFOptimizeMolecule(full, maxIters=2000, ignoreInterfragInteractions=False)
    return Atoms([atom.GetSymbol() for atom in full.GetAtoms()], positions=full.GetConformer().GetPositions())


def radical_electrons(smiles: str) -> int:
    """Count unpaired electrons: by valences (two of [O][O] and methylene), and two of O=O and its like.

    Raises:
        PiwslError: not a SMILES string.
    """
    found = _parsed(smiles)
    return int(Descriptors.NumRadicalElectrons(found)) + 2 * len(found.GetSubstructMatches(CHALCOGENS))


def _parsed(smiles: str) -> Chem.Mol:
    with rdBase.BlockLogs():
        found = Chem.MolFromSmiles(smiles)
    if found is None or found.GetNumAtoms() == 0:
        raise PiwslError(f"'{smiles}' is not a SMILES string that RDKit can read")
    if any(atom.GetAtomicNum() == 0 for atom in found.GetAtoms()):
        raise PiwslError(f"SMILES '{smiles}' has an atom that may be any, *; say which")
    return found
