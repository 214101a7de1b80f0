"""Agreement with schnetpack: tests/others/schnetpack.json has weights, geometries, and its energies and forces."""

from __future__ import annotations

import json

import pytest
import torch
from ase import Atoms
from helpers import ROOT
from torch import Tensor, nn

from piwsl.architectures.painn import PaiNN as PaiNNConfig
from piwsl.architectures.painn.network import Network as PaiNN
from piwsl.architectures.schnet import SchNet as SchNetConfig
from piwsl.architectures.schnet.network import Network as SchNet
from piwsl.data.batch import collate, graph
from piwsl.models import Potential
from piwsl.structures.structure import from_atoms

STORED = json.loads((ROOT / "tests" / "others" / "schnetpack.json").read_text())
CONFIGS = {"painn": PaiNNConfig, "schnet": SchNetConfig}


def weights_of(architecture: str) -> dict[str, Tensor]:
    """Return schnetpack's weights by its names; its parts are the representation and the readout."""
    found = {}
    for name, values in STORED["models"][architecture]["weights"].items():
        if name == "representation.embedding.weight":
            width = len(next(row for row in values if row is not None))
            values = [row or [0.0] * width for row in values]
        found[name.removeprefix("representation.")] = torch.tensor(values, dtype=torch.float64)
    return found


def copy(layer: nn.Linear, weights: dict[str, Tensor], name: str, order: tuple[int, ...] = (0,)) -> None:
    """Copy weight and bias; blocks of rows stand in another order here."""

    def reordered(tensor: Tensor) -> Tensor:
        blocks = tensor.chunk(len(order))
        return torch.cat([blocks[position] for position in order])

    with torch.no_grad():
        layer.weight.copy_(reordered(weights[f"{name}.weight"]))
        if layer.bias is not None:
            layer.bias.copy_(reordered(weights[f"{name}.bias"]))


def load(network: nn.Module, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        network.embedding.weight[: len(weights["embedding.weight"])] = weights["embedding.weight"]
    copy(network.readout[0], weights, "readout.outnet.0")
    copy(network.readout[2], weights, "readout.outnet.1")
    if isinstance(network, SchNet):
        for number, block in enumerate(network.interactions):
            theirs = f"interactions.{number}"
            copy(block.content, weights, f"{theirs}.in2f")
            copy(block.filter[0], weights, f"{theirs}.filter_network.0")
            copy(block.filter[2], weights, f"{theirs}.filter_network.1")
            copy(block.output[0], weights, f"{theirs}.f2out.0")
            copy(block.output[2], weights, f"{theirs}.f2out.1")
    else:
        assert isinstance(network, PaiNN)
        copy(network.filters, weights, "filter_net")
        with torch.no_grad():  # theirs have no spectrum: the same filters are other weights
            network.filters.weight.div_(network.spectrum)
        for number, (message, update) in enumerate(zip(network.messages, network.updates, strict=True)):
            copy(message.hidden, weights, f"interactions.{number}.interatomic_context_net.0")
            copy(message.output, weights, f"interactions.{number}.interatomic_context_net.1")
            copy(update.mix, weights, f"mixing.{number}.mu_channel_mix", order=(1, 0))
            copy(update.hidden, weights, f"mixing.{number}.intraatomic_context_net.0")
            copy(update.output, weights, f"mixing.{number}.intraatomic_context_net.1", order=(1, 2, 0))


@pytest.mark.parametrize("architecture", CONFIGS)
def test_energies_and_forces_are_those_of_schnetpack_with_the_same_weights(architecture):
    config = CONFIGS[architecture](architecture=architecture, dtype="float64", **STORED["sizes"])
    potential = Potential(config, scale=1.0, references={1: 0.0, 6: 0.0, 8: 0.0, 14: 0.0}, neighbours=1.0)
    load(potential.learned.network, weights_of(architecture))
    frames = [Atoms(**frame) for frame in STORED["frames"]]
    batch = collate([graph(from_atoms(atoms), config.cutoff, torch.float64) for atoms in frames])
    energy, forces = potential.energy_and_forces(batch)
    expected = STORED["models"][architecture]
    torch.testing.assert_close(energy, torch.tensor(expected["energy"], dtype=torch.float64), rtol=0, atol=1e-10)
    torch.testing.assert_close(forces, torch.tensor(expected["forces"], dtype=torch.float64), rtol=0, atol=1e-10)
