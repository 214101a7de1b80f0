"""MACE is mace-torch's, number for number, and its import leaves the process as safe as it was."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from helpers import displaced

from piwsl.architectures.mace import MACE
from piwsl.data.batch import collate, graph
from piwsl.models import Potential
from piwsl.structures.structure import from_atoms

CONFIG = MACE(architecture="mace", cutoff=4.0, features=4, max_ell=2, max_L=1, correlation=2, dtype="float64")
REFERENCES = {1: -13.6, 6: -1030.0, 8: -2041.0}
SCALE, NEIGHBOURS = 1.7, 5.0


def frames() -> list[Atoms]:
    crystal = bulk("CO", "rocksalt", a=4.3, cubic=True)
    crystal.positions += 0.05 * np.random.default_rng(1).normal(size=crystal.positions.shape)
    return [displaced("CH3OH", 0.1, np.random.default_rng(0)), crystal]


@pytest.fixture
def potential() -> Potential:
    torch.manual_seed(0)
    return Potential(CONFIG, SCALE, REFERENCES, NEIGHBOURS)


def test_energies_and_forces_are_those_of_mace_torch_with_the_same_weights(potential):
    from e3nn import o3
    from mace import data, modules, tools
    from mace.tools import torch_geometric

    torch.set_default_dtype(torch.float64)
    try:
        own = modules.ScaleShiftMACE(
            atomic_inter_scale=SCALE, atomic_inter_shift=0.0, r_max=4.0, num_bessel=8, num_polynomial_cutoff=5,
            max_ell=2, interaction_cls=modules.RealAgnosticResidualInteractionBlock,
            interaction_cls_first=modules.RealAgnosticResidualInteractionBlock, num_interactions=2, num_elements=3,
            hidden_irreps=o3.Irreps("4x0e+4x1o"), MLP_irreps=o3.Irreps("16x0e"),
            atomic_energies=np.array(list(REFERENCES.values())), avg_num_neighbors=NEIGHBOURS,
            atomic_numbers=list(REFERENCES), correlation=2, gate=torch.nn.functional.silu,
        )  # fmt: skip
        weights = dict(potential.learned.network.named_parameters())
        own.load_state_dict({name: weights[name] for name, _ in own.named_parameters()}, strict=False)
        table = tools.AtomicNumberTable(list(REFERENCES))
        graphs = [
            data.AtomicData.from_config(data.config_from_atoms(atoms), z_table=table, cutoff=4.0) for atoms in frames()
        ]
        loader = torch_geometric.dataloader.DataLoader(graphs, batch_size=2, shuffle=False)
        theirs = own(next(iter(loader)).to_dict())
    finally:
        torch.set_default_dtype(torch.float32)
    batch = collate([graph(from_atoms(atoms), 4.0, torch.float64) for atoms in frames()])
    energy, forces = potential.energy_and_forces(batch)
    torch.testing.assert_close(energy, theirs["energy"], rtol=0, atol=1e-9)
    torch.testing.assert_close(forces, theirs["forces"], rtol=0, atol=1e-10)


def test_files_are_loaded_as_safely_as_before():
    # In a process of its own: other tests import mace-torch by themselves.
    script = (
        "import os, torch; from piwsl.architectures.mace.network import mace_torch; mace_torch(); "
        "import mace.modules; print(os.environ.get('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'), torch.get_default_dtype())"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["None", "torch.float32"]
