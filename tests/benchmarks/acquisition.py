"""What it is worth to choose the frames that are labelled: by the variance of a Gaussian process, and at random.

    python tests/benchmarks/acquisition.py ethanol rmd17_ethanol_train_01.npz rmd17_ethanol_test_01.npz

The process learns energies alone, in rounds of 25, of the 1000 frames of the first file; errors are those on the first
300 frames of the second. With `--difference` it learns what GFN2-xTB leaves of them. A seed is a choice of the first
25, the same for all, and of all others of chance. Each size adds a line to a CSV file as it ends, and is not repeated
while that line stands. `--table` prints means over seeds, and trains nothing.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from ase import Atoms
from studies import ERRORS, TEST_FRAMES, means_over_seeds, measure_missing, parser_of, read_npz, results

from piwsl.acquisition.choice import at_random
from piwsl.acquisition.rounds import BY_PROCESS
from piwsl.config import Loss, named_level, parse_model
from piwsl.evaluation.metrics import error_summary
from piwsl.evaluation.predict import predict
from piwsl.models import Predictor, load_model
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, label
from piwsl.structures.structure import Structure, from_atoms
from piwsl.training.frames import frames_of_structures
from piwsl.training.run import train

EACH = 25
MEASURES = [*ERRORS, "energy_rmse_meV", "force_rmse_meV_per_A"]


@dataclass(frozen=True)
class Point:
    """One training of the study."""

    molecule: str
    by: str
    size: int
    seed: int
    learns: str


def less_gfn2(frames: list[Atoms]) -> list[Atoms]:
    """Return frames with what GFN2-xTB leaves of their labels."""
    level = named_level("gfn2-xtb")
    cheap = [level.single_point(Atoms(each.numbers, each.positions), 0, 1, 1000, True) for each in frames]
    return [
        label(each, each.info[ENERGY_KEY] - point.energy, each.arrays[FORCES_KEY] - point.forces)
        for each, point in zip(frames, cheap, strict=True)
    ]


def process_of(structures: list[Structure], seed: int) -> Predictor:
    """Return the process that knows the energies of structures."""
    model = parse_model({"architecture": "gaussian_process"}, "the study")
    with tempfile.TemporaryDirectory() as temporary, contextlib.redirect_stdout(io.StringIO()):
        path = Path(temporary) / "model.safetensors"
        frames = frames_of_structures(structures, model, seed)
        train(frames, model, Loss(forces=0.0), seed, path, path.with_name("history.csv"))
        return load_model(path)


class Rounds:
    """Frames that are bought round by round, and the processes that know them."""

    def __init__(self, candidates: list[Structure], by: str, seed: int) -> None:
        """Buy the first at random."""
        self._candidates, self._by, self._seed = candidates, by, seed
        self._by_chance = at_random(candidates, seed)
        self._bought = self._by_chance[:EACH]
        self.model = cache(self._model)

    def _model(self, size: int) -> Predictor:
        while len(self._bought) < size:
            self._bought += self._next()
        return process_of([self._candidates[index] for index in self._bought[:size]], self._seed)

    def _next(self) -> list[int]:
        if self._by == "random":
            return self._by_chance[len(self._bought) : len(self._bought) + EACH]
        left = [index for index in range(len(self._candidates)) if index not in set(self._bought)]
        choose = BY_PROCESS[self._by]
        choice = choose(self.model(len(self._bought)), [self._candidates[index] for index in left], EACH)
        return [left[position] for position in choice.order]


def main() -> None:
    """Print a line a training."""
    parser = parser_of(__doc__, sizes=range(EACH, 201, EACH), csv="acquisition.csv")
    choices = [*BY_PROCESS, "random"]
    parser.add_argument("--by", nargs="+", default=choices, choices=choices)
    parser.add_argument("--difference", action="store_true", help="learn the difference to GFN2-xTB")
    options = parser.parse_args()
    if options.table:
        print(means_over_seeds(results(options.csv), Point))
        return
    torch.set_num_threads(1)
    training, testing = options.data
    learned = less_gfn2 if options.difference else list[Atoms]
    candidates = [from_atoms(atoms) for atoms in learned(read_npz(training))]
    test = [from_atoms(atoms) for atoms in learned(read_npz(testing, TEST_FRAMES))]
    rounds = cache(lambda by, seed: Rounds(candidates, by, seed))

    def measure(point: Point) -> dict[str, float | None]:
        started = time.process_time()
        model = rounds(point.by, point.seed).model(point.size)
        seconds = time.process_time() - started
        errors = error_summary(test, predict(model, test))
        return {name: errors[name] for name in MEASURES} | {"cpu_s": seconds}

    grid = itertools.product(options.by, options.seeds, sorted(options.sizes))
    learns = "difference" if options.difference else "energies"
    points = (Point(options.molecule, by, size, seed, learns) for by, seed, size in grid)
    measure_missing(options.csv, points, measure)


if __name__ == "__main__":
    main()
