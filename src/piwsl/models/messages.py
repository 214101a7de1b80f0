"""Sums over edges that never hold an (E, 3, F) array: products are made and summed a block of edges at a time.

Every function here is linear in each of its arguments, and the derivatives of each are again functions of this file:
they can be differentiated as often as a loss wants. Shapes: E edges, N atoms, F features, C components (3 of vectors).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.fx.experimental.proxy_tensor import get_proxy_mode

# Numbers in the largest temporary array of a block (1 MB in float32): it stays in the cache of a core.
BLOCK = 1 << 18


def weighted_sum(weights: Tensor, features: Tensor, sender: Tensor, receiver: Tensor) -> Tensor:
    """Return Σ over the edges e into atom i of weights_e · features_sender(e).

    Args:
        weights: (E, F).
        features: (N, C, F).
        sender: (E,) atoms that edges come from.
        receiver: (E,) atoms that edges lead to.

    Returns:
        (N, C, F).
    """
    return _apply(_WeightedSum, weights.to(features.dtype), features, sender, receiver)


def directed_sum(weights: Tensor, directions: Tensor, receiver: Tensor, atoms: int) -> Tensor:
    """Return Σ over the edges e into atom i of directions_e ⊗ weights_e.

    Args:
        weights: (E, F).
        directions: (E, 3).
        receiver: (E,) atoms that edges lead to.
        atoms: N.

    Returns:
        (N, 3, F).
    """
    return _apply(_DirectedSum, weights.to(directions.dtype), directions, receiver, atoms)


def _apply(function: type[Function], *arguments: Any) -> Tensor:
    return function.apply(*arguments)


def _blocks(edges: Tensor, width: int) -> Iterator[slice]:
    """Cut the edges so that a temporary of `width` numbers an edge fits the cache.

    On a GPU, and while a compiler is watching, they are one block: there, fusing is not ours to do.
    """
    if edges.is_cuda or get_proxy_mode() is not None:
        yield slice(None)
        return
    size = max(1, BLOCK // width)
    for start in range(0, len(edges), size):
        yield slice(start, start + size)


def _over_components(first: Tensor, second: Tensor) -> Tensor:
    """Return Σ_c first_c · second_c over dimension 1, without an array of all products."""
    total = first[:, 0] * second[:, 0]
    for component in range(1, first.shape[1]):
        total.addcmul_(first[:, component], second[:, component])
    return total


class _WeightedSum(Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, features: Tensor, sender: Tensor, receiver: Tensor) -> Tensor:
        ctx.save_for_backward(weights, features, sender, receiver)
        total = torch.zeros_like(features)
        for block in _blocks(sender, features[0].numel()):
            messages = features.index_select(0, sender[block]).mul_(weights[block, None, :])
            total.index_add_(0, receiver[block], messages)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, features, sender, receiver = ctx.saved_tensors
        of_weights = _apply(_Overlap, features, gradient, sender, receiver) if ctx.needs_input_grad[0] else None
        of_features = weighted_sum(weights, gradient, receiver, sender) if ctx.needs_input_grad[1] else None
        return of_weights, of_features, None, None


class _Overlap(Function):
    """Σ_c first_sender(e),c · second_receiver(e),c: (E, F) from two (N, C, F)."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, sender: Tensor, receiver: Tensor) -> Tensor:
        ctx.save_for_backward(first, second, sender, receiver)
        parts = [
            _over_components(first.index_select(0, sender[block]), second.index_select(0, receiver[block]))
            for block in _blocks(sender, first[0].numel())
        ]
        return torch.cat(parts) if parts else first.new_zeros(0, first.shape[2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        first, second, sender, receiver = ctx.saved_tensors
        of_first = weighted_sum(gradient, second, receiver, sender) if ctx.needs_input_grad[0] else None
        of_second = weighted_sum(gradient, first, sender, receiver) if ctx.needs_input_grad[1] else None
        return of_first, of_second, None, None


class _DirectedSum(Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, directions: Tensor, receiver: Tensor, atoms: int) -> Tensor:
        ctx.save_for_backward(weights, directions, receiver)
        total = weights.new_zeros(atoms, 3, weights.shape[1])
        for block in _blocks(receiver, 3 * weights.shape[1]):
            total.index_add_(0, receiver[block], directions[block, :, None] * weights[block, None, :])
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, directions, receiver = ctx.saved_tensors
        of_weights = _apply(_Along, gradient, directions, receiver) if ctx.needs_input_grad[0] else None
        of_directions = _apply(_Projection, gradient, weights, receiver) if ctx.needs_input_grad[1] else None
        return of_weights, of_directions, None, None


class _Along(Function):
    """Σ_c directions_e,c · vectors_receiver(e),c: (E, F) from (N, 3, F) and (E, 3)."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, directions: Tensor, receiver: Tensor) -> Tensor:
        ctx.save_for_backward(vectors, directions, receiver)
        parts = [
            _over_components(vectors.index_select(0, receiver[block]), directions[block, :, None])
            for block in _blocks(receiver, vectors[0].numel())
        ]
        return torch.cat(parts) if parts else vectors.new_zeros(0, vectors.shape[2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        vectors, directions, receiver = ctx.saved_tensors
        of_vectors = directed_sum(gradient, directions, receiver, vectors.shape[0]) if ctx.needs_input_grad[0] else None
        of_directions = _apply(_Projection, vectors, gradient, receiver) if ctx.needs_input_grad[1] else None
        return of_vectors, of_directions, None


class _Projection(Function):
    """Σ_f weights_e,f · vectors_receiver(e),f: (E, 3) from (N, 3, F) and (E, F)."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, weights: Tensor, receiver: Tensor) -> Tensor:
        ctx.save_for_backward(vectors, weights, receiver)
        parts = [
            vectors.index_select(0, receiver[block]).mul_(weights[block, None, :]).sum(dim=2)
            for block in _blocks(receiver, vectors[0].numel())
        ]
        return torch.cat(parts) if parts else vectors.new_zeros(0, 3)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        vectors, weights, receiver = ctx.saved_tensors
        of_vectors = directed_sum(weights, gradient, receiver, vectors.shape[0]) if ctx.needs_input_grad[0] else None
        of_weights = _apply(_Along, vectors, gradient, receiver) if ctx.needs_input_grad[1] else None
        return of_vectors, of_weights, None
