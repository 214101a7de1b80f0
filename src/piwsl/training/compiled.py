"""The training loss and its gradients as one compiled function.

`make_fx` traces loss and gradients together, so that what is compiled has no derivative left to take: energy, forces,
weak terms and both backward passes are one graph, which `torch.compile` fuses. Shapes are fixed by padding.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from piwsl.config import Loss
from piwsl.data.batch import Batch, pad
from piwsl.losses import Portion, StepPlaces, loss_of_portions, portions
from piwsl.models import Potential
from piwsl.models.native import Deviation, one_line

# Largest difference from eager in float64, relative to the largest gradient of a parameter: of the traced graph in
# float64, and of the compiled one in the precision of the model.
TRACED_TOLERANCE = 1e-9
COMPILED_TOLERANCE = {torch.float32: 2e-3, torch.float64: 1e-9}

# Frames, whose sizes padding goes by.
MOST_MEASURED = 10_000

Evaluated = tuple[Tensor, dict[str, Tensor], list[Tensor]]


NO_PLACES: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

# What each term looks at, by name; terms that look at the same have the same object.
Portions = Mapping[str, Portion]


class CompiledLoss:
    """A training loss, compiled at the first batch of each set of terms; where that fails, evaluated as it stands.

    What was compiled is compared with the loss as it stands, in float64, before it is used.
    """

    def __init__(
        self,
        potential: Potential,
        loss: Loss,
        graphs: Sequence[Batch],
        pool: Sequence[Batch] = (),
        of_pool: NDArray[np.bool_] = NO_PLACES,
    ) -> None:
        """Keep potential and loss; what terms look at will be padded to the largest that so many structures can be.

        Of many frames the first are measured; steps that take more of larger ones are evaluated as the loss stands.

        Args:
            potential: whose parameters are trained.
            loss: the training loss.
            graphs: all labelled training frames.
            pool: all frames without labels.
            of_pool: which places of a step those have; no others do.
        """
        self._potential, self._loss = potential, loss
        self._compiled: dict[tuple[tuple[str, int], ...], Callable[..., Evaluated] | None] = {}
        self._places_of_pool = {*np.flatnonzero(of_pool).tolist()}
        sizes = [[_size(graph) for graph in source[:MOST_MEASURED]] for source in (graphs, pool)]
        self._atoms = [_largest(atoms for atoms, _ in found) for found in sizes]
        self._edges = [_largest(edges for _, edges in found) for found in sizes]
        alike = len({atoms for found in sizes for atoms, _ in found}) <= 1
        self._mixed = not alike or max(len(graphs), len(pool)) > MOST_MEASURED

    def __call__(
        self, batch: Batch, displacements: list[Tensor], factors: Mapping[str, float], places: StepPlaces
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what `training_loss` returns; the total carries the gradients. All calls have the same places."""
        eager = portions(batch, self._loss, displacements, factors, places)
        kind = tuple((name, portion.batch.structures) for name, portion in eager.items())
        room = {count: self._room(count, places) for _, count in kind}
        if any(_exceeds(portion.batch, *room[count]) for (_, count), portion in zip(kind, eager.values(), strict=True)):
            return loss_of_portions(self._potential, self._loss, eager, factors)
        made = {
            count: self._padded(portion, *room[count]) for (_, count), portion in zip(kind, eager.values(), strict=True)
        }
        padded = {name: made[count] for name, count in kind}
        if kind not in self._compiled:
            self._compiled[kind] = self._compile(padded)
        compiled = self._compiled[kind]
        if compiled is None:
            return loss_of_portions(self._potential, self._loss, eager, factors)
        total, terms, gradients = compiled(*_arguments(self._potential, padded, factors))
        return _with_gradients(total, gradients, list(self._potential.parameters())), terms

    def _room(self, count: int, places: StepPlaces) -> tuple[int, int]:
        """Return how many atoms and edges as many structures at these places have at most."""
        unlabelled = sum(place in self._places_of_pool for place in places.own[:count])
        labelled = count - unlabelled
        atoms, edges = (largest[0][labelled] + largest[1][unlabelled] for largest in (self._atoms, self._edges))
        return atoms, edges

    def _padded(self, portion: Portion, atoms: int, edges: int) -> Portion:
        padded = pad(portion.batch, atoms, edges, self._mixed)
        missing = len(padded.positions) - len(portion.batch.positions)
        return Portion(padded, [nn.functional.pad(draw, (0, 0, 0, missing)) for draw in portion.displacements])

    def _compile(self, padded: Portions) -> Callable[..., Evaluated] | None:
        started = time.perf_counter()
        try:
            function = _checked(self._potential, self._loss, padded)
        except Exception as error:  # whatever a tracer or compiler cannot do, the loss as it stands can
            print(f"the loss is not compiled ({one_line(error)}); going on without", flush=True)
            return None
        print(f"compiled the loss ({', '.join(padded)}) in {time.perf_counter() - started:.0f} s", flush=True)
        return function


def _size(graph: Batch) -> tuple[int, int]:
    """Return how many atoms and edges a graph has."""
    return len(graph.atomic_numbers), graph.edge_index.shape[1]


def _exceeds(batch: Batch, atoms: int, edges: int) -> bool:
    return len(batch.atomic_numbers) > atoms or batch.edge_index.shape[1] > edges


def _largest(sizes: Iterable[int]) -> list[int]:
    """Return, for each number of structures from 0, the sum of so many of the largest sizes."""
    return list(accumulate(sorted(sizes, reverse=True), initial=0))


def _checked(potential: Potential, loss: Loss, padded: Portions) -> Callable[..., Evaluated]:
    """Trace, compile, and compare both with eager evaluation in float64."""
    full = dict.fromkeys(padded, 1.0)
    double = copy.deepcopy(potential).in_dtype(torch.float64)
    exactly = _in_double(padded)
    arguments = _arguments(double, exactly, full)
    exact = _function(double, loss, exactly)(*arguments)
    traced = make_fx(_function(double, loss, exactly))(*arguments)
    _compare("traced", traced(*arguments), exact, TRACED_TOLERANCE)
    arguments = _arguments(potential, padded, full)
    compiled = torch.compile(make_fx(_function(potential, loss, padded))(*arguments), dynamic=False)
    _compare("compiled", compiled(*arguments), exact, COMPILED_TOLERANCE[potential.dtype])
    return compiled


def _compare(what: str, found: Evaluated, exact: Evaluated, tolerance: float) -> None:
    largest = max(float(gradient.abs().max()) for gradient in exact[2])
    differences = [abs(float(found[0] - exact[0])) / max(float(exact[0].abs()), 1e-12)]
    differences += [
        float((ours.double() - theirs).abs().max()) / max(largest, 1e-12)
        for ours, theirs in zip(found[2], exact[2], strict=True)
    ]
    if not max(differences) <= tolerance:
        raise Deviation(f"{what}, it differs from eager float64 by {max(differences):.1e}, more than {tolerance:g}")


class _Objective(nn.Module):
    """The loss as a module, so that parameters can be handed to it."""

    def __init__(self, potential: Potential, loss: Loss) -> None:
        super().__init__()
        self.potential, self.loss = potential, loss

    def forward(self, padded: Portions, factors: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return loss_of_portions(self.potential, self.loss, padded, factors)


def _function(potential: Potential, loss: Loss, padded: Portions) -> Callable[..., Evaluated]:
    """Return the loss and its gradients as a function of tensors alone."""
    objective = _Objective(potential, loss)
    names = [name for name, _ in objective.named_parameters()]
    buffers = [name for name, _ in objective.named_buffers()]

    def evaluate(
        parameters: list[Tensor],
        constants: list[Tensor],
        tensors: list[list[Tensor]],
        displacements: list[list[Tensor]],
        factors: list[Tensor],
    ) -> Evaluated:
        own = [parameter.detach().requires_grad_() for parameter in parameters]
        state = dict(zip(names, own, strict=True)) | dict(zip(buffers, constants, strict=True))
        here = _with_tensors(padded, tensors, displacements)
        with torch.enable_grad():
            total, terms = functional_call(objective, state, (here, dict(zip(padded, factors, strict=True))))
            gradients = torch.autograd.grad(total, own, allow_unused=True)
        found = [
            torch.zeros_like(parameter) if gradient is None else gradient
            for gradient, parameter in zip(gradients, own, strict=True)
        ]
        return total.detach(), terms, found

    return evaluate


def _distinct(padded: Portions) -> list[Portion]:
    return list({id(portion): portion for portion in padded.values()}.values())


def _in_double(padded: Portions) -> Portions:
    made = {
        id(portion): Portion(portion.batch.in_dtype(torch.float64), [draw.double() for draw in portion.displacements])
        for portion in _distinct(padded)
    }
    return {name: made[id(portion)] for name, portion in padded.items()}


def _with_tensors(padded: Portions, tensors: list[list[Tensor]], displacements: list[list[Tensor]]) -> Portions:
    """Return portions of the same kind, of other tensors; in the order of `_distinct`."""
    made = {}
    for portion, values, draws in zip(_distinct(padded), tensors, displacements, strict=True):
        made[id(portion)] = Portion(portion.batch.with_tensors(values), draws)
    return {name: made[id(portion)] for name, portion in padded.items()}


def _arguments(potential: Potential, padded: Portions, factors: Mapping[str, float]) -> tuple[Any, ...]:
    distinct = _distinct(padded)
    device = distinct[0].batch.positions.device
    return (
        [parameter.detach() for parameter in potential.parameters()],
        list(potential.buffers()),
        [portion.batch.tensors() for portion in distinct],
        [portion.displacements for portion in distinct],
        [torch.as_tensor(factors[name], dtype=torch.float64, device=device) for name in padded],
    )


def _with_gradients(total: Tensor, gradients: list[Tensor], parameters: list[Tensor]) -> Tensor:
    """Return the total as a function of the parameters with these gradients."""
    found: Tensor = _WithGradients.apply(total, len(parameters), *gradients, *parameters)
    return found


class _WithGradients(Function):
    @staticmethod
    def forward(ctx: Any, total: Tensor, count: int, *tensors: Tensor) -> Tensor:
        ctx.count = count
        ctx.save_for_backward(*tensors[:count])
        return total.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        own = [(gradient * saved).to(saved.dtype) for saved in ctx.saved_tensors]
        return (None, None, *[None] * ctx.count, *own)
