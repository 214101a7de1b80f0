"""MACE: Batatia, Kovács, Simm, Ortner, Csányi, "MACE: higher order equivariant message passing neural networks for fast
and accurate force fields", NeurIPS 2022 (arXiv 2206.07697). The blocks are mace-torch's; what sums them is here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from piwsl.architectures.mace import MACE
from piwsl.data.batch import Batch
from piwsl.extras import naming_extras

# Those of mace-torch's own training program.
CUTOFF_POWER = 5
READOUT = "16x0e"
# mace-torch sets it at import; it would let torch.load run code of any file, in the whole process.
UNSAFE_LOADING = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


class Network(nn.Module):
    """Equivariant features of higher body order; one number an atom in the end."""

    elements: Tensor

    def __init__(self, config: MACE, elements: list[int], neighbours: float) -> None:
        """Build the network; weights from torch's current random state.

        Args:
            config: sizes.
            elements: atomic numbers that may occur.
            neighbours: average number within the cutoff, by which messages are divided.
        """
        super().__init__()
        self.register_buffer("elements", torch.tensor(elements, dtype=torch.int64))
        library = mace_torch()
        irreps = "+".join(
            f"{config.features}x{degree}{'e' if degree % 2 == 0 else 'o'}" for degree in range(config.max_L + 1)
        )
        with _traceable(getattr(torch, config.dtype)):
            blocks = library.modules.MACE(
                r_max=config.cutoff,
                num_bessel=config.radial,
                num_polynomial_cutoff=CUTOFF_POWER,
                max_ell=config.max_ell,
                interaction_cls=library.modules.RealAgnosticResidualInteractionBlock,
                interaction_cls_first=library.modules.RealAgnosticResidualInteractionBlock,
                num_interactions=config.layers,
                num_elements=max(1, len(elements)),
                hidden_irreps=library.o3.Irreps(irreps),
                MLP_irreps=library.o3.Irreps(READOUT),
                atomic_energies=torch.zeros(max(1, len(elements))).numpy(),
                avg_num_neighbors=neighbours,
                atomic_numbers=elements,
                correlation=config.correlation,
                gate=nn.functional.silu,
            )
        self.node_embedding = blocks.node_embedding
        self.spherical_harmonics = blocks.spherical_harmonics
        self.radial_embedding = blocks.radial_embedding
        self.interactions, self.products, self.readouts = blocks.interactions, blocks.products, blocks.readouts

    def forward(self, batch: Batch) -> tuple[Tensor, None]:
        """Return one output an atom, (N,), in units of the potential's scale; MACE has no head for forces."""
        receiver, sender = batch.edge_index
        edges = torch.stack([sender, receiver])
        # mace-torch's vectors point from sender to receiver.
        vectors = batch.positions.index_select(0, receiver) - batch.positions.index_select(0, sender) - batch.edge_shift
        lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        attributes = (batch.atomic_numbers[:, None] == self.elements).to(vectors.dtype)  # (N, elements)
        angular = self.spherical_harmonics(vectors)
        radial, cutoff = self.radial_embedding(lengths, attributes, edges, self.elements)
        features = self.node_embedding(attributes)
        outputs = batch.positions.new_zeros(batch.atomic_numbers.shape[0])
        head = torch.zeros_like(batch.atomic_numbers)
        for number, (interaction, product, readout) in enumerate(
            zip(self.interactions, self.products, self.readouts, strict=True)
        ):
            features, shortcut = interaction(
                node_attrs=attributes,
                node_feats=features,
                edge_attrs=angular,
                edge_feats=radial,
                edge_index=edges,
                cutoff=cutoff,
                first_layer=number == 0,
            )
            features = product(node_feats=features, sc=shortcut, node_attrs=attributes)
            outputs = outputs + readout(features, head).squeeze(1)
        return outputs, None


class Library(NamedTuple):
    """What is used of mace-torch and e3nn."""

    modules: ModuleType
    o3: ModuleType


def mace_torch() -> Library:
    """Import mace-torch, which takes seconds: only who wants a MACE waits."""
    before = os.environ.get(UNSAFE_LOADING)
    with warnings.catch_warnings(), redirect_stdout(StringIO()), naming_extras():
        warnings.simplefilter("ignore")
        import mace.modules
        from e3nn import o3
    if before is None:
        os.environ.pop(UNSAFE_LOADING, None)
    return Library(mace.modules, o3)


@contextmanager
def _traceable(dtype: torch.dtype) -> Iterator[None]:
    """Let e3nn make its coefficients in a precision, and its code in a form that can be traced (no slower in eager)."""
    from e3nn import get_optimization_defaults, set_optimization_defaults

    precision, scripting = torch.get_default_dtype(), get_optimization_defaults()["jit_script_fx"]
    torch.set_default_dtype(dtype)
    set_optimization_defaults(jit_script_fx=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_default_dtype(precision)
        set_optimization_defaults(jit_script_fx=scripting)
