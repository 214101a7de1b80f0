"""Choosing among geometries without a look at their labels: by chance, variance, or disagreement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from piwsl.data.batch import Batch, collate, graphs
from piwsl.errors import PiwslError
from piwsl.evaluation.predict import predict
from piwsl.models import Committee, Potential, Predictor
from piwsl.models.terms import WithPosterior
from piwsl.reference.selection import descriptors
from piwsl.structures.seeds import generator
from piwsl.structures.structure import Structure

# A committee disagrees on neighbours alike: those that differ are chosen among so many times as many.
SHORTLIST = 4
# Force components whose variance is looked at: of so many candidates, and of no fewer.
COMPONENTS_SEEN, FEWEST_SEEN = 4000, 20


class Choice(NamedTuple):
    """Candidates in the order in which they are wanted, and how unsure the model was of all before."""

    order: list[int]
    """Positions among the candidates."""
    spread: NDArray[np.float64]
    """(candidates,), standard deviations."""
    unit: str


def at_random(candidates: Sequence[Structure], seed: int) -> list[int]:
    """Return positions of all candidates in a random order, but that the first bring all elements.

    Args:
        candidates: geometries.
        seed: of the order.
    """
    seen: set[int] = set()
    first, rest = list[int](), list[int]()
    for index in generator("acquisition", seed).permutation(len(candidates)).tolist():
        elements = set(candidates[index].numbers.tolist())
        (rest if elements <= seen else first).append(index)
        seen |= elements
    return first + rest


def by_variance(potential: Predictor, candidates: Sequence[Structure], wanted: int) -> Choice:
    """Choose one by one the candidate of whose energy a process is least sure, given those chosen before.

    Their labels need not be known, for the variance depends on where labels are alone: MacKay, Neural Comput. 4, 590
    (1992); Seo, Wallat, Graepel, Obermayer, "Gaussian process regression: active data selection and test point
    rejection", IJCNN 2000. Of candidates alike the first is chosen.

    Args:
        potential: the model; a baseline is not asked, for it is certain.
        candidates: geometries.
        wanted: how many to choose at most.

    Raises:
        PiwslError: the model does not know its variance, or a candidate is none that it knows.
    """
    process, network = _process(potential, candidates)
    with torch.no_grad():
        posterior = network.posterior(_batch(process, candidates))
        before = posterior.variance()
        order = _one_by_one(posterior.variance, posterior.learn, min(wanted, len(candidates)))
    return Choice(order, _spread(process, before), "eV")


def by_force_variance(potential: Predictor, candidates: Sequence[Structure], wanted: int) -> Choice:
    """Choose one by one the candidate whose energy leaves the least variance of forces at all, given those before it.

    At all means at some, evenly spread over the candidates. Where `by_variance` goes to the rim of what there is, this
    goes to where most can be learned of the rest: Cohn, Ghahramani, Jordan, J. Artif. Intell. Res. 4, 129 (1996).
    Arguments and errors as of `by_variance`; so is the spread.
    """
    process, network = _process(potential, candidates)
    seen = max(FEWEST_SEEN, COMPONENTS_SEEN // (3 * len(candidates[0].numbers)))
    positions = np.unique(np.linspace(0, len(candidates) - 1, min(seen, len(candidates))).astype(int))
    with torch.no_grad():
        batch = _batch(process, candidates)
        before = network.posterior(batch).variance()
        gains = network.force_variance(batch, _batch(process, [candidates[position] for position in positions]))
        order = _one_by_one(gains.gains, gains.learn, min(wanted, len(candidates)))
    return Choice(order, _spread(process, before), "eV")


def _process(potential: Predictor, candidates: Sequence[Structure]) -> tuple[Potential, WithPosterior]:
    """Return a potential that knows what further labels would tell it, and its network."""
    network = potential.learned.network if isinstance(potential, Potential) else None
    if not isinstance(potential, Potential) or not isinstance(network, WithPosterior):
        raise PiwslError(
            f"architecture '{potential.config.architecture}' has no variance that further labels change; take "
            "gaussian_process"
        )
    potential.check_elements(np.concatenate([structure.numbers for structure in candidates]))
    return potential, network


def _batch(potential: Potential, structures: Sequence[Structure]) -> Batch:
    batch = collate(graphs(list(structures), potential.cutoff, potential.dtype, range(len(structures))))
    return batch.to(potential.device)


def _one_by_one(worth: Callable[[], Tensor], learn: Callable[[int], None], wanted: int) -> list[int]:
    """Take what is worth most, learn it, and go on; of those alike the first."""
    order: list[int] = []
    while len(order) < wanted:
        left = worth()
        left[order] = -1.0
        order.append(int(left.argmax()))
        learn(order[-1])
    return order


def _spread(potential: Potential, variance: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (potential.learned.scale * variance.sqrt()).cpu().numpy()
    return found


def by_disagreement(
    potential: Predictor, candidates: Sequence[Structure], bought: Sequence[Structure], wanted: int, reserve: int = 0
) -> Choice:
    """Choose, among those that a committee disagrees most on, the farthest from one another and from those bought.

    It disagrees by the largest spread of the force on any atom: Zhang, Lin, Wang, Car, E, Phys. Rev. Mater. 3, 023804
    (2019), equation 1. Of `SHORTLIST` times as many as wanted, farthest points are taken: Gonzalez, Theor. Comput. Sci.
    38, 293 (1985), between `descriptors`.

    Args:
        potential: the committee, without its baseline, which says the same to all members.
        candidates: geometries of molecules.
        bought: those that have been labelled.
        wanted: how many to choose.
        reserve: how many more to put in order behind them.

    Raises:
        PiwslError: the model is no committee, or a candidate has an element that it does not know, or is periodic.
    """
    if not isinstance(potential, Committee):
        raise PiwslError("the model is no committee, whose members could disagree; say members: 4, or by: variance")
    if any(structure.pbc.any() for structure in candidates):
        raise PiwslError("distances tell molecules apart, and candidates are periodic; say by: random")
    spreads = predict(potential, list(candidates)).forces_std
    assert spreads is not None
    spread = np.array([np.linalg.norm(each, axis=1).max() for each in spreads])
    shortlist = np.argsort(-spread, kind="stable")[: max(SHORTLIST * wanted, wanted + reserve)]
    order = _farthest([candidates[index] for index in shortlist], bought, wanted + reserve)
    return Choice(shortlist[order].tolist(), spread, "eV/Å")


def _farthest(frames: Sequence[Structure], others: Sequence[Structure], wanted: int) -> list[int]:
    """Return positions of frames, each the farthest from others and from all before it.

    Of those alike the first comes first; so does the first frame where there are no others.
    """
    vectors = descriptors([structure.atoms() for structure in (*frames, *others)])
    own = vectors[: len(frames)]
    nearest = np.full(len(frames), np.inf)
    for other in vectors[len(frames) :]:
        nearest = np.minimum(nearest, np.linalg.norm(own - other, axis=1))
    order: list[int] = []
    while len(order) < min(wanted, len(frames)):
        order.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(own - own[order[-1]], axis=1))
        nearest[order] = -1.0
    return order
