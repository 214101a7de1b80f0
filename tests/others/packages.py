"""Models of other packages behind one call, to compare numbers and speed; piwsl's environment does not have them.

`make .venv-others` installs them; requirements.txt says which.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.utils.data.dataloader
from torch import Tensor, nn

from piwsl.data.batch import Batch

# schnetpack 2.1.1 imports this name, which newer torch does not have any more.
torch.utils.data.dataloader.T_co = TypeVar("T_co")  # type: ignore[attr-defined]  # torch has it no more


class SchNetPack(nn.Module):
    """schnetpack's PaiNN or SchNet with its readout and its forces, in units of 1 eV."""

    def __init__(self, architecture: str, features: int, layers: int, radial: int, cutoff: float) -> None:
        super().__init__()
        import schnetpack.atomistic
        import schnetpack.nn
        import schnetpack.representation

        envelope = schnetpack.nn.CosineCutoff(cutoff)
        if architecture == "painn":
            basis = schnetpack.nn.BesselRBF(radial, cutoff)
            self.representation = schnetpack.representation.PaiNN(features, layers, basis, envelope)
            activation = nn.functional.silu
        else:
            basis = schnetpack.nn.GaussianRBF(radial, cutoff)
            self.representation = schnetpack.representation.SchNet(features, layers, basis, envelope)
            activation = schnetpack.nn.shifted_softplus
        self.distances = schnetpack.atomistic.PairwiseDistances()
        self.readout = schnetpack.atomistic.Atomwise(features, output_key="energy", activation=activation)
        self.forces = schnetpack.atomistic.Forces(energy_key="energy", force_key="forces")

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return energies (M,) and forces (N, 3), to be trained on."""
        from schnetpack import properties

        inputs = {
            properties.Z: batch.atomic_numbers,
            properties.R: batch.positions.detach().clone().requires_grad_(),
            properties.idx_i: batch.edge_index[0],
            properties.idx_j: batch.edge_index[1],
            properties.offsets: batch.edge_shift,
            properties.idx_m: batch.structure_index,
            properties.idx: torch.arange(batch.structures),
        }
        outputs = self.forces(self.readout(self.representation(self.distances(inputs))))
        return outputs["energy"], outputs["forces"]


class GraphPES(nn.Module):
    """graph-pes's PaiNN or SchNet with its forces."""

    def __init__(self, architecture: str, features: int, layers: int, radial: int, cutoff: float) -> None:
        super().__init__()
        from graph_pes.models import PaiNN, SchNet

        self.cutoff = cutoff
        if architecture == "painn":
            self.model = PaiNN(channels=features, radial_features=radial, layers=layers, cutoff=cutoff)
        else:
            self.model = SchNet(channels=features, expansion_features=radial, layers=layers, cutoff=cutoff)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return energies (M,) and forces (N, 3), to be trained on; molecules alone."""
        from graph_pes.atomic_graph import AtomicGraph

        edges = batch.edge_index.shape[1]
        graph = AtomicGraph(
            Z=batch.atomic_numbers,
            R=batch.positions.detach().clone(),
            cell=torch.zeros(batch.structures, 3, 3),
            neighbour_list=batch.edge_index,
            neighbour_cell_offsets=torch.zeros(edges, 3),
            properties={},
            other={},
            cutoff=self.cutoff,
            batch=batch.structure_index,
            ptr=torch.cat([torch.zeros(1, dtype=torch.int64), batch.n_atoms.long().cumsum(0)]),
        )
        predicted = self.model.predict(graph, ["energy", "forces"])
        return predicted["energy"], predicted["forces"]


class MaceTorch(nn.Module):
    """mace-torch's ScaleShiftMACE with its forces, as its training program calls it."""

    def __init__(self, elements: list[int], neighbours: float, features: int, layers: int, radial: int, cutoff: float):
        super().__init__()
        import numpy as np
        from e3nn import o3
        from mace import modules

        self.elements = torch.tensor(elements)
        self.model = modules.ScaleShiftMACE(
            atomic_inter_scale=1.0, atomic_inter_shift=0.0, r_max=cutoff, num_bessel=radial, num_polynomial_cutoff=5,
            max_ell=3, interaction_cls=modules.RealAgnosticResidualInteractionBlock,
            interaction_cls_first=modules.RealAgnosticResidualInteractionBlock, num_interactions=layers,
            num_elements=len(elements), hidden_irreps=o3.Irreps(f"{features}x0e+{features}x1o"),
            MLP_irreps=o3.Irreps("16x0e"), atomic_energies=np.zeros(len(elements)), avg_num_neighbors=neighbours,
            atomic_numbers=elements, correlation=3, gate=nn.functional.silu,
        )  # fmt: skip

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return energies (M,) and forces (N, 3), to be trained on."""
        inputs = {
            "positions": batch.positions.detach().clone(),
            "node_attrs": (batch.atomic_numbers[:, None] == self.elements).to(batch.positions.dtype),
            "edge_index": batch.edge_index.flip(0),
            "shifts": -batch.edge_shift,
            "unit_shifts": torch.zeros_like(batch.edge_shift),
            "cell": torch.zeros(3 * batch.structures, 3),
            "batch": batch.structure_index,
            "ptr": torch.cat([torch.zeros(1, dtype=torch.int64), batch.n_atoms.long().cumsum(0)]),
        }
        outputs = self.model(inputs, training=True)
        return outputs["energy"], outputs["forces"]
