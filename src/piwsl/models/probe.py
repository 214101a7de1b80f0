"""What a network, a stranger's perhaps, gives for two small structures: looked at once, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from piwsl.config import ARCHITECTURES, Architecture
from piwsl.data.batch import collate, graph, sum_per_structure
from piwsl.errors import ANY_ERROR, PiwslError, reason
from piwsl.structures.structure import Structure

# Å; bonds of light elements.
PLACES = np.array([[0.0, 0.0, 0.0], [1.0, 0.2, 0.0], [-0.3, 0.9, 0.4]])
# Å; with a cutoff below, bonds are shorter in proportion, so that all atoms have neighbours.
CUTOFF_OF_PLACES = 2.0
# Å beyond the cutoff: how far fragments stand apart, and how far the list of neighbours reaches.
APART, SKIN = 0.3, 1.0
# Of the sum of sizes of outputs; what rounding leaves of a network is a hundredth of it.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}


def fragments(elements: Sequence[int], cutoff: float) -> list[Structure]:
    """Return two structures, of three atoms and of two, in which elements occur in turn.

    Args:
        elements: atomic numbers.
        cutoff: Å; no two atoms of a structure are further apart.
    """
    places = PLACES * min(1.0, cutoff / CUTOFF_OF_PLACES)
    numbers = [elements[place % len(elements)] for place in range(len(places))]
    return [_structure(np.array(numbers[:atoms]), places[:atoms]) for atoms in (3, 2)]


def check_network(
    config: Architecture, network: nn.Module, dtype: torch.dtype, structures: Sequence[Structure]
) -> None:
    """Check that a network gives what `Architecture.network` says: one finite output an atom, and forces or a gradient.

    Args:
        config: whose network it is.
        network: that; it is left as it was.
        dtype: of the network.
        structures: that it knows.

    Raises:
        PiwslError: what it gives, and what was expected; one line, which names architecture and distribution.
    """
    batch = collate([graph(structure, config.cutoff, dtype) for structure in structures])
    positions = batch.positions.requires_grad_()
    with _Quiet(network), torch.enable_grad():
        try:
            found = network(batch)
            problem = _output_problem(config, dtype, found, positions)
        except ANY_ERROR as error:  # whatever a stranger's network does
            problem = f"failed ({reason(error)})"
    if problem is not None:
        raise _refused(config, problem)


def check_locality(config: Architecture, network: nn.Module, dtype: torch.dtype, elements: Sequence[int]) -> None:
    """Check that nothing beyond the cutoff adds to an energy: two fragments further apart have the sum of their own.

    The list of neighbours reaches further than the cutoff, as it does in training. Architectures that say that they are
    not `local` are passed over.

    Args:
        config: whose network it is.
        network: that; it is left as it was.
        dtype: of the network.
        elements: atomic numbers that it knows.

    Raises:
        PiwslError: the energies differ; one line, which names architecture and distribution.
    """
    if not config.local:
        return
    first, second = fragments(elements, config.cutoff)
    left = first.positions[:, 0].max() + config.cutoff + APART
    moved = second.positions + [left - second.positions[:, 0].min(), 0.0, 0.0]
    both = _structure(np.append(first.numbers, second.numbers), np.concatenate([first.positions, moved]))
    batch = collate([graph(structure, config.cutoff + SKIN, dtype) for structure in (first, second, both)])
    with _Quiet(network), torch.no_grad():
        outputs = network(batch)[0].double()
    one, two, together = sum_per_structure(outputs, batch).tolist()
    if abs(together - one - two) > TOLERANCE[dtype] * (1.0 + float(outputs.abs().sum())):
        raise _refused(
            config,
            f"sees beyond its cutoff of {config.cutoff:g} Å: fragments {config.cutoff + APART:g} Å apart differ by "
            f"{together - one - two:.2g}; or say local: False",
        )


class _Quiet:
    """Has a network evaluate without drop-out and the like: neither random numbers nor running means change."""

    def __init__(self, network: nn.Module) -> None:
        self._network, self._training = network, network.training

    def __enter__(self) -> None:
        self._network.eval()

    def __exit__(self, *error: object) -> None:
        self._network.train(self._training)


def _structure(numbers: NDArray[np.int64], positions: NDArray[np.float64]) -> Structure:
    return Structure(numbers, positions, np.zeros((3, 3)), np.zeros(3, dtype=bool))


def _output_problem(config: Architecture, dtype: torch.dtype, found: object, positions: Tensor) -> str | None:
    if not isinstance(found, tuple) or len(found) != 2:
        return f"gives {type(found).__name__}, expected outputs and forces, or outputs and None"
    outputs, forces = found
    if problem := _tensor_problem(outputs, dtype, (len(positions),)):
        return f"gives outputs that {problem}"
    if (forces is None) != config.conservative:
        said = "no forces, and conservative is False" if forces is None else "forces, and conservative is True"
        return f"gives {said}"
    if forces is not None:
        problem = _tensor_problem(forces, dtype, tuple(positions.shape))
        return f"gives forces that {problem}" if problem else None
    if not outputs.requires_grad:
        return "gives outputs that have no gradient by the positions"
    (gradient,) = torch.autograd.grad(outputs.sum(), positions, allow_unused=True)
    if gradient is None or not gradient.isfinite().all():
        return f"gives outputs that have {'no' if gradient is None else 'no finite'} gradient by the positions"
    return None


def _tensor_problem(found: object, dtype: torch.dtype, shape: tuple[int, ...]) -> str | None:
    if not isinstance(found, Tensor):
        return f"are {type(found).__name__}, expected a tensor"
    if tuple(found.shape) != shape:
        return f"are of shape {tuple(found.shape)}, expected {shape}"
    if found.dtype not in (dtype, torch.float64):
        return f"are {found.dtype}, expected {dtype}"
    return None if found.isfinite().all() else "are not finite"


def _refused(config: Architecture, problem: str) -> PiwslError:
    source = ARCHITECTURES.source(config.architecture) or "piwsl"
    return PiwslError(f"{source}: architecture '{config.architecture}': its network {problem}; mend it")
