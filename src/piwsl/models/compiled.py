"""Energies and forces of a potential as native code, without Python and without autograd.

`make_fx` traces energies and forces together, so that no derivative is left to take, and torch's ahead-of-time compiler
makes a library of it. Numbers of atoms and edges are symbols, and weights are arguments: one library serves structures
and batches of any size, all members of a committee, and all models of the same architecture and elements.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Self

import torch
from sympy import Equality
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from piwsl.data.batch import Batch, sum_per_structure
from piwsl.models.committee import Committee, combined
from piwsl.models.native import LENGTHS, Library, library, stored
from piwsl.models.potential import Potential
from piwsl.models.predictor import Predictor
from piwsl.models.terms import Prediction, Property

# Largest difference from eager: of energies of atoms, eV, and of forces, eV/Å, or relative where those exceed 1.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
# s, of one core: to trace a potential, and to compile it.
TRACING_SECONDS, COMPILING_SECONDS = 3.0, 40.0
# Of the time of eager evaluation, what compiled code saves at least; it has been 0.65 to 0.85.
SAVED = 0.6


class Deviation(Exception):
    """Traced or compiled code that differs from what it was made of."""


def one_line(error: BaseException) -> str:
    """Return the kind of an error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


class CompiledPredictor(Predictor):
    """A potential or committee whose energies and forces are evaluated by native code.

    Stress, energies without forces, derivatives of forces, and structures without neighbours are evaluated as they
    stand. So is everything where the code differs from the potential at the first batch.
    """

    def __init__(self, predictor: Predictor, code: Library) -> None:
        """Keep what predicts and its code.

        Args:
            predictor: a potential, or a committee.
            code: of its energies of atoms and forces, a function of a batch's tensors and of weights.
        """
        super().__init__()
        self.predictor = predictor
        self.config, self.dtype = predictor.config, predictor.dtype
        self.neighbours, self.conservative = predictor.neighbours, predictor.conservative
        self.baseline = predictor.baseline
        self._states = [_state(member) for member in _members(predictor)]
        self._code: Library | None = code
        self._checked = False

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.predictor.device

    @property
    def has_pair_potential(self) -> bool:
        """Whether a pair potential is part of it."""
        return self.predictor.has_pair_potential

    def in_dtype(self, dtype: torch.dtype) -> Self:
        """Convert the networks to another precision, in place; from then on they are evaluated as they stand."""
        self.predictor.in_dtype(dtype)
        self.dtype, self._code = dtype, None
        return self

    def elements(self) -> list[str]:
        """Return the chemical symbols that it knows, by atomic number."""
        return self.predictor.elements()

    def predict(
        self, batch: Batch, properties: Collection[Property] = ("energy", "forces"), create_graph: bool = False
    ) -> Prediction:
        """Predict what is asked for; arguments as of `Predictor`."""
        if self._code is None or create_graph or not self._serves(batch, properties):
            return self.predictor.predict(batch, properties, create_graph)
        if not self._checked:
            self._check(self._code, batch)
        return self.predictor.predict(batch, properties) if self._code is None else self._evaluated(self._code, batch)

    def _serves(self, batch: Batch, properties: Collection[Property]) -> bool:
        spread = {"spread"} if isinstance(self.predictor, Committee) else set()
        large = batch.positions.shape[0] > 1 and batch.edge_shift.shape[0] > 1
        return (
            large
            and batch.positions.dtype == self.dtype
            and "forces" in properties
            and {"energy", "forces"} | spread >= set(properties)
        )

    def _evaluated(self, code: Library, batch: Batch) -> Prediction:
        own = (batch.positions, batch.atomic_numbers, batch.edge_index, batch.edge_shift)
        tensors = [each.contiguous() for each in own]  # code does not look at strides
        found = []
        with torch.no_grad():
            for state in self._states:
                energies, forces = code(*tensors, *state)
                found.append(Prediction(sum_per_structure(energies, batch), energies, forces, None))
        return combined(found) if isinstance(self.predictor, Committee) else found[0]

    def _check(self, code: Library, batch: Batch) -> None:
        """Compare with the potential itself; where the code differs or fails, it is not used again."""
        self._checked = True
        try:
            _compare(self._evaluated(code, batch), self.predictor.predict(batch), TOLERANCE[self.dtype])
        except (Deviation, RuntimeError) as error:
            print(f"compiled code is not used ({one_line(error)}); going on without", flush=True)
            self._code = None


def compiled_predictor(predictor: Predictor) -> Predictor:
    """Return a predictor whose energies and forces are native code, made in half a minute where it is not stored.

    Args:
        predictor: a potential or committee, on the CPU.

    Returns:
        A compiled one; where there is no compiler, or something that it cannot compile, a line is printed and the
        predictor comes back as it is.
    """
    return _with_code(predictor, library)


def compiled_for(predictor: Predictor, batch: Batch, steps: int) -> Predictor:
    """Return a compiled predictor where that saves more time than it takes, else the predictor as it is.

    Args:
        predictor: a potential or committee.
        batch: a typical one, on the device of the predictor; evaluated three times.
        steps: how often energies and forces of such a batch will be wanted.
    """
    saved = SAVED * steps * _seconds(lambda: predictor.predict(batch))
    if saved < TRACING_SECONDS:
        return predictor
    return _with_code(predictor, stored if saved < COMPILING_SECONDS else library)


def _seconds(evaluate: Callable[[], object]) -> float:
    """Return the shortest time of three."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        evaluate()
        times.append(time.perf_counter() - started)
    return min(times)


def _with_code(predictor: Predictor, find: Callable[[GraphModule, Sequence[Tensor]], Library | None]) -> Predictor:
    started = time.perf_counter()
    try:
        code = find(*_traced(predictor))
    except Exception as error:  # whatever a tracer or compiler cannot do, the potential as it stands can
        print(f"the potential is not compiled ({one_line(error)}); going on without", flush=True)
        return predictor
    if code is None:
        return predictor
    print(f"the potential is compiled ({time.perf_counter() - started:.0f} s)", flush=True)
    return CompiledPredictor(predictor, code)


def _compare(found: Prediction, exact: Prediction, tolerance: float) -> None:
    assert found.forces is not None
    assert exact.forces is not None
    for what, ours, theirs in (
        ("energies", found.energies, exact.energies),
        ("forces", found.forces, exact.forces),
    ):
        difference = float((ours - theirs).detach().abs().max()) / max(float(theirs.detach().abs().max()), 1.0)
        if not difference <= tolerance:
            raise Deviation(f"{what} differ from eager ones by {difference:.1e}, more than {tolerance:g}")


def _members(predictor: Predictor) -> list[Potential]:
    """Return the potentials that a predictor is made of."""
    if isinstance(predictor, Committee):
        return predictor.potentials
    assert isinstance(predictor, Potential)
    return [predictor]


def _state(potential: Potential) -> list[Tensor]:
    return [parameter.detach() for parameter in potential.parameters()] + list(potential.buffers())


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


def _traced(predictor: Predictor) -> tuple[GraphModule, list[Tensor]]:
    """Return energies of atoms (N,) and forces (N, 3) as a graph of tensors alone, and inputs that it takes.

    These are positions, atomic numbers, edges and their shifts, of any number of atoms and edges; then the weights.

    Raises:
        Deviation: the graph holds for some numbers of atoms or edges alone, or looks at structures.
        Exception: whatever torch raises of what it cannot trace.
    """
    if predictor.device.type != "cpu":
        raise Deviation("code is compiled for CPUs alone")
    potential = _members(predictor)[0]
    module, state = _Atomic(potential), _state(potential)
    example = _example(potential.dtype)
    environment = ShapeEnv()
    mode = FakeTensorMode(shape_env=environment, allow_non_fake_inputs=True)
    inputs = [_symbolic(mode, value, length) for value, length in zip(example, LENGTHS, strict=True)]
    weights = [_symbolic(mode, value, None) for value in state]
    of_structures = [_symbolic(mode, value, None) for value in _structures(potential.dtype)]

    def evaluate(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        positions, numbers, edges, shifts, *others = tensors
        counts, cell, pbc = others[len(weights) :]
        batch = Batch(positions, numbers, edges, shifts, torch.zeros_like(numbers), counts, cell, pbc, labels={})
        return functional_call(module, dict(zip(module.names, others, strict=False)), (batch,))

    graph = make_fx(evaluate, tracing_mode="symbolic")(*inputs, *weights, *of_structures)
    _check_lengths(environment)
    _take_out(graph, len(of_structures))
    return graph, [*example, *state]


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
