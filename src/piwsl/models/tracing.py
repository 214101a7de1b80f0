"""Energies of atoms and forces of a potential as a graph of tensors alone, for any number of atoms and edges."""

from __future__ import annotations

import torch
from sympy import Equality
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from piwsl.data.batch import Batch
from piwsl.models.native import LENGTHS, Deviation, weights
from piwsl.models.potential import Potential


def traced(potential: Potential) -> tuple[GraphModule, list[Tensor]]:
    """Return energies of atoms (N,), eV, and forces (N, 3), eV/Å, as a graph, and inputs that it takes.

    These are positions, atomic numbers, edges and their shifts, of any number of atoms and edges; then the weights.

    Raises:
        Deviation: the graph holds for some numbers of atoms or edges alone, or looks at structures.
        Exception: whatever torch raises of what it cannot trace.
    """
    module, state = _Atomic(potential), weights(potential)
    example = _example(potential.dtype)
    environment = ShapeEnv()
    mode = FakeTensorMode(shape_env=environment, allow_non_fake_inputs=True)
    inputs = [_symbolic(mode, value, length) for value, length in zip(example, LENGTHS, strict=True)]
    learned = [_symbolic(mode, value, None) for value in state]
    of_structures = [_symbolic(mode, value, None) for value in _structures(potential.dtype)]

    def evaluate(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        positions, numbers, edges, shifts, *others = tensors
        counts, cell, pbc = others[len(learned) :]
        batch = Batch(positions, numbers, edges, shifts, torch.zeros_like(numbers), counts, cell, pbc, labels={})
        return functional_call(module, dict(zip(module.names, others, strict=False)), (batch,))

    graph = make_fx(evaluate, tracing_mode="symbolic")(*inputs, *learned, *of_structures)
    _check_lengths(environment)
    _take_out(graph, len(of_structures))
    return graph, [*example, *state]


class _Atomic(nn.Module):
    """Energies of atoms and forces as a module's output, so that weights can be handed to it."""

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential
        self.names = [name for name, _ in (*self.named_parameters(), *self.named_buffers())]

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        prediction = self.potential.predict(batch)
        assert prediction.forces is not None
        return prediction.energies.detach(), prediction.forces.detach()


def _example(dtype: torch.dtype) -> list[Tensor]:
    """Return positions, atomic numbers, edges and shifts of numbers of atoms and edges that nothing else has."""
    atoms, edges = 1009, 2003
    return [
        torch.zeros(atoms, 3, dtype=dtype),
        torch.zeros(atoms, dtype=torch.int64),
        torch.zeros(2, edges, dtype=torch.int64),
        torch.zeros(edges, 3, dtype=dtype),
    ]


def _structures(dtype: torch.dtype) -> list[Tensor]:
    """Return number of atoms, cell and periodicity, of one structure: what no atom's energy may depend on."""
    return [torch.ones(1, dtype=dtype), torch.zeros(1, 3, 3, dtype=dtype), torch.zeros(1, 3, dtype=torch.bool)]


def _symbolic(mode: FakeTensorMode, value: Tensor, length: int | None) -> Tensor:
    """Return a tensor without content, one of whose dimensions is a symbol."""
    sizes = [DimDynamic.DYNAMIC if dimension == length else DimDynamic.STATIC for dimension in range(value.dim())]
    return mode.from_tensor(value, symbolic_context=StatelessSymbolicContext(dynamic_sizes=sizes))


def _check_lengths(environment: ShapeEnv) -> None:
    """Refuse what was found out of the numbers of atoms and edges, but that tensors have the same."""
    for guard in environment.guards:
        same = isinstance(guard.expr, Equality) and all(side.is_Symbol for side in guard.expr.args)
        if not same:
            raise Deviation("its code would hold for some numbers of atoms or edges alone")


def _take_out(graph: GraphModule, last: int) -> None:
    """Take out what nothing is made of, and the last inputs, which must be among it."""
    graph.graph.eliminate_dead_code()
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    for node in inputs[len(inputs) - last :]:
        if node.users:
            raise Deviation("energies of its atoms depend on more than their neighbours")
        graph.graph.erase_node(node)
    graph.recompile()
