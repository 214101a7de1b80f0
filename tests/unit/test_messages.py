"""Sums over edges are what their definitions say, in any blocks, and so are their first and second derivatives."""

from __future__ import annotations

import pytest
import torch

from piwsl.models import messages
from piwsl.models.messages import directed_sum, weighted_sum

ATOMS, EDGES, FEATURES = 4, 11, 3


@pytest.fixture
def edges() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randint(ATOMS, (EDGES,), generator=generator) for _ in range(2))


def random(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.fixture(params=[1, 12, 10_000], ids=["an edge a block", "some edges a block", "one block"])
def _blocks(request, monkeypatch):
    monkeypatch.setattr(messages, "BLOCK", request.param)


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.usefixtures("_blocks")
def test_weighted_sums(edges, components):
    sender, receiver = edges
    weights, features = random(EDGES, FEATURES), random(ATOMS, components, FEATURES)
    expected = torch.zeros(ATOMS, components, FEATURES, dtype=torch.float64)
    for edge in range(EDGES):
        expected[receiver[edge]] += weights[edge] * features[sender[edge]]
    torch.testing.assert_close(weighted_sum(weights, features, sender, receiver), expected)
    torch.autograd.gradcheck(weighted_sum, (weights, features, sender, receiver))
    torch.autograd.gradgradcheck(weighted_sum, (weights, features, sender, receiver))


@pytest.mark.usefixtures("_blocks")
def test_directed_sums(edges):
    _, receiver = edges
    weights, directions = random(EDGES, FEATURES), random(EDGES, 3)
    expected = torch.zeros(ATOMS, 3, FEATURES, dtype=torch.float64)
    for edge in range(EDGES):
        expected[receiver[edge]] += directions[edge, :, None] * weights[edge]
    torch.testing.assert_close(directed_sum(weights, directions, receiver, ATOMS), expected)
    torch.autograd.gradcheck(directed_sum, (weights, directions, receiver, ATOMS))
    torch.autograd.gradgradcheck(directed_sum, (weights, directions, receiver, ATOMS))


def test_without_edges_the_sums_are_zero():
    none = torch.zeros(0, dtype=torch.int64)
    weights = torch.zeros(0, FEATURES, requires_grad=True)
    features = torch.ones(ATOMS, 1, FEATURES, requires_grad=True)
    total = weighted_sum(weights, features, none, none).sum()
    total = total + directed_sum(weights, torch.zeros(0, 3), none, ATOMS).sum()
    gradients = torch.autograd.grad(total, (weights, features))
    assert float(total.detach()) == 0.0
    assert gradients[0].shape == (0, FEATURES)
    assert float(gradients[1].abs().sum()) == 0.0
