"""The simulations of the grid: a dataset and a trained model to replicas, and what is written of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import ase.io

from piwsl.config import ReplicaSimulation, Run
from piwsl.data.batch import collate, graph
from piwsl.data.dataset import TEST, Dataset
from piwsl.errors import PiwslError
from piwsl.extras import naming_extras
from piwsl.files import file_hash, write_atomically, write_json, write_text
from piwsl.holding import alone_in
from piwsl.models import load_model
from piwsl.models.compiled import compiled_for
from piwsl.pieces import Pieces
from piwsl.simulation.criteria import JudgedBonds, judged_bonds
from piwsl.simulation.dynamics import say_cost
from piwsl.simulation.engine import run_replicas
from piwsl.simulation.group import Replica
from piwsl.simulation.summary import Outcome
from piwsl.structures.structure import Structure


@dataclass(frozen=True)
class SimulationOutputs:
    """What a simulation writes."""

    trajectory: Path
    """Extended XYZ, one replica after the other."""
    series: Path
    """Parquet, as of `Outcome.series`."""
    summary: Path
    """JSON, as of `Outcome.summary`, with the run and the name of the simulation."""
    checkpoint: Path
    """NPZ, while it runs, with what its processes have taken in `pieces.json` beside it."""
    earlier: Path | None = None
    """JSON of what those before the last took, where it was stopped and went on (`Pieces.leave`)."""


def simulate(
    dataset_path: Path, run: Run, name: str, model_path: Path, settings: ReplicaSimulation, outputs: SimulationOutputs
) -> None:
    """Simulate replicas of test frames with a trained model; one that was stopped goes on from its checkpoint.

    Args:
        dataset_path: dataset file; its test frames are the starts, the same for every run, and the reference.
        run: the point of the grid, repeated in the summary.
        name: of the simulation.
        model_path: the trained model.
        settings: of the dynamics.
        outputs: files to write.

    Raises:
        PiwslError: all test frames are single atoms, a baseline cannot be computed, or another process simulates there,
            or was asked to simulate something else; then nothing is written.
    """
    frames = _test_frames(dataset_path)
    potential = load_model(model_path)
    replicas = planned(frames, settings)
    say_cost(potential, replicas[0].structure.atoms(), str(dataset_path))
    print(f"{len(replicas)} replicas of {len({replica.frame for replica in replicas})} test frames", flush=True)
    together = [graph(replica.structure, potential.cutoff, potential.dtype) for replica in replicas]
    potential = compiled_for(potential, collate(together).to(potential.device), settings.steps)
    key = json.dumps([settings.plain(), file_hash(model_path), file_hash(dataset_path)])
    with alone_in(outputs.summary.parent, key) as hold:
        note = outputs.checkpoint.with_name("pieces.json")
        pieces = Pieces(note, key)

        def saved() -> None:
            pieces.saved()
            hold.check()

        course = run_replicas(potential, replicas, settings, outputs.checkpoint, key, _say, saved)
        outcome = Outcome(settings, replicas, course)
        hold.check()
        _write(outcome, outputs, run.plain() | {"simulation": name} | outcome.summary(list(frames.values())))
        if outputs.earlier is not None:
            pieces.leave(outputs.earlier)
        outputs.checkpoint.unlink(missing_ok=True)
        note.unlink(missing_ok=True)


def _say(line: str) -> None:
    print(line, flush=True)


def _test_frames(path: Path) -> dict[int, Structure]:
    """Return the test frames that can move, by their indices."""
    with Dataset(path) as dataset:
        indices = dataset.indices(TEST)
        structures = dataset.structures(indices)
    found = {int(index): frame for index, frame in zip(indices, structures, strict=True) if len(frame.numbers) > 1}
    if not found:
        raise PiwslError(
            f"{path}: no test frame has two atoms, and one alone does not move; test on larger frames, or say "
            "'simulations: {}'"
        )
    return found


def planned(frames: dict[int, Structure], settings: ReplicaSimulation) -> list[Replica]:
    """Return the replicas of a simulation: starts, spread evenly over the frames, by temperatures, by their number.

    Args:
        frames: those that can move, by their indices in the dataset; they are the reference for bonds, too.
        settings: say how many.
    """
    indices = list(frames)
    count = min(settings.starts, len(indices))
    starts = [indices[position * len(indices) // count] for position in range(count)]
    judged = {start: _judged(frames[start], frames.values(), settings.bond_tolerance) for start in starts}
    return [
        Replica(start, frames[start], temperature, number, judged[start])
        for start in starts
        for temperature in settings.temperatures
        for number in range(settings.replicas)
    ]


def _judged(start: Structure, frames: Iterable[Structure], tolerance: float) -> JudgedBonds:
    return judged_bonds(start.atoms(), [frame.positions for frame in frames if frame.is_like(start)], tolerance)


def _write(outcome: Outcome, outputs: SimulationOutputs, summary: dict[str, Any]) -> None:
    _write_trajectory(outputs.trajectory, outcome, summary["replicas"])
    with naming_extras():
        write_atomically(outputs.series, lambda path: outcome.series().to_parquet(path, index=False))
    print(summary["stability"], flush=True)
    write_json(outputs.summary, summary)


def _write_trajectory(path: Path, outcome: Outcome, replicas: int) -> None:
    text = StringIO()
    for number in range(replicas):
        ase.io.write(text, outcome.trajectory(number), format="extxyz")
    write_text(path, text.getvalue())
