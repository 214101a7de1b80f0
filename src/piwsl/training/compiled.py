"""The training loss and its gradients as one compiled function.

`make_fx` traces loss and gradients together, so that what is compiled has no derivative left to take: energy, forces,
weak terms and both backward passes are one graph, which `torch.compile` fuses. Shapes are fixed by padding.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from piwsl.config import Loss
from piwsl.data.batch import Batch, pad
from piwsl.losses import Shares, training_loss
from piwsl.models import Potential
from piwsl.training.batches import sizes_of_step

# Largest difference from eager in float64, relative to the largest gradient of a parameter: of the traced graph in
# float64, and of the compiled one in the precision of the model.
TRACED_TOLERANCE = 1e-9
COMPILED_TOLERANCE = {torch.float32: 2e-3, torch.float64: 1e-9}

Evaluated = tuple[Tensor, dict[str, Tensor], list[Tensor]]


class CompiledLoss:
    """A training loss, compiled at the first batch of each kind; where that fails, it is evaluated as it stands.

    What was compiled is compared with the loss as it stands, in float64, before it is used.
    """

    def __init__(
        self, potential: Potential, loss: Loss, graphs: list[Batch], batch_size: int, pool: Sequence[Batch] = ()
    ) -> None:
        """Keep potential and loss; all batches will be padded to the largest that can come.

        Args:
            potential: whose parameters are trained.
            loss: the training loss.
            graphs: all labelled training frames.
            batch_size: frames a step.
            pool: all frames without labels, of which the loss takes its share.
        """
        self._potential, self._loss = potential, loss
        self._compiled: dict[tuple[bool, ...], Callable[..., Evaluated] | None] = {}
        counts = sizes_of_step(len(graphs), len(pool), batch_size, loss.pool)
        parts = [(source, count) for source, count in zip((graphs, pool), counts, strict=True) if count]
        self._atoms = sum(sum(sorted(len(graph.numbers) for graph in source)[-count:]) for source, count in parts)
        self._edges = sum(sum(sorted(g.edge_index.shape[1] for g in source)[-count:]) for source, count in parts)
        self._mixed = len({len(graph.numbers) for source, _ in parts for graph in source}) > 1

    def __call__(self, batch: Batch, displacements: list[Tensor], shares: Shares) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what `training_loss` returns; the total carries the gradients."""
        kind = (batch.has_forces, batch.has_weak_forces, bool(displacements))
        padded = pad(batch, self._atoms, self._edges, self._mixed)
        missing = len(padded.positions) - len(batch.positions)
        padded_displacements = [nn.functional.pad(draw, (0, 0, 0, missing)) for draw in displacements]
        if kind not in self._compiled:
            self._compiled[kind] = self._compile(padded, padded_displacements)
        compiled = self._compiled[kind]
        if compiled is None:
            return training_loss(self._potential, batch, self._loss, displacements, shares)
        total, terms, gradients = compiled(*_arguments(self._potential, padded, padded_displacements, shares))
        return _with_gradients(total, gradients, list(self._potential.parameters())), terms

    def _compile(self, batch: Batch, displacements: list[Tensor]) -> Callable[..., Evaluated] | None:
        started = time.perf_counter()
        try:
            function = _checked(self._potential, self._loss, batch, displacements)
        except Exception as error:  # whatever a tracer or compiler cannot do, the loss as it stands can
            reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
            print(f"the loss is not compiled ({type(error).__name__}: {reason}); going on without", flush=True)
            return None
        print(f"compiled the loss in {time.perf_counter() - started:.0f} s", flush=True)
        return function


class Deviation(Exception):
    """A traced or compiled loss that differs from the loss as it stands."""


def _checked(potential: Potential, loss: Loss, batch: Batch, displacements: list[Tensor]) -> Callable[..., Evaluated]:
    """Trace, compile, and compare both with eager evaluation in float64."""
    double = copy.deepcopy(potential).in_dtype(torch.float64)
    arguments = _arguments(double, batch.in_dtype(torch.float64), [draw.double() for draw in displacements], Shares())
    exact = _function(double, loss, batch)(*arguments)
    traced = make_fx(_function(double, loss, batch))(*arguments)
    _compare("traced", traced(*arguments), exact, TRACED_TOLERANCE)
    arguments = _arguments(potential, batch, displacements, Shares())
    compiled = torch.compile(make_fx(_function(potential, loss, batch))(*arguments), dynamic=False)
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

    def forward(self, batch: Batch, displacements: list[Tensor], shares: Shares) -> tuple[Tensor, dict[str, Tensor]]:
        return training_loss(self.potential, batch, self.loss, displacements, shares)


def _function(potential: Potential, loss: Loss, batch: Batch) -> Callable[..., Evaluated]:
    """Return the loss and its gradients as a function of tensors alone."""
    objective = _Objective(potential, loss)
    names = [name for name, _ in objective.named_parameters()]
    buffers = [name for name, _ in objective.named_buffers()]
    keys = list(_tensors(batch))

    def evaluate(
        parameters: list[Tensor],
        constants: list[Tensor],
        tensors: list[Tensor],
        displacements: list[Tensor],
        shares: list[Tensor],
    ) -> Evaluated:
        own = [parameter.detach().requires_grad_() for parameter in parameters]
        state = dict(zip(names, own, strict=True)) | dict(zip(buffers, constants, strict=True))
        here: dict[str, Any] = dict(zip(keys, tensors, strict=True))
        with torch.enable_grad():
            total, terms = functional_call(objective, state, (replace(batch, **here), displacements, Shares(*shares)))
            gradients = torch.autograd.grad(total, own, allow_unused=True)
        found = [
            torch.zeros_like(parameter) if gradient is None else gradient
            for gradient, parameter in zip(gradients, own, strict=True)
        ]
        return total.detach(), terms, found

    return evaluate


def _tensors(batch: Batch) -> dict[str, Tensor]:
    values: Iterator[tuple[str, Any]] = ((field.name, getattr(batch, field.name)) for field in fields(batch))
    return {name: value for name, value in values if isinstance(value, Tensor)}


def _arguments(potential: Potential, batch: Batch, displacements: list[Tensor], shares: Shares) -> tuple[Any, ...]:
    def as_tensor(share: float | Tensor) -> Tensor:
        return torch.as_tensor(share, dtype=torch.float64, device=batch.positions.device)

    return (
        [parameter.detach() for parameter in potential.parameters()],
        list(potential.buffers()),
        list(_tensors(batch).values()),
        displacements,
        [as_tensor(share) for share in shares],
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
