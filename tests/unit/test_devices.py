"""Several devices that share the frames of each step compute what one does: gradients, clipping and history."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import morse_frames

from piwsl.architectures.painn import PaiNN
from piwsl.config import Loss, Training
from piwsl.data.batch import Batch, collate, graph
from piwsl.loss_terms.augmentation import Augmentation
from piwsl.loss_terms.pisc import PISC
from piwsl.loss_terms.pitc import PITC
from piwsl.loss_terms.weak_forces import WeakForces
from piwsl.models import build_potential
from piwsl.pieces import Pieces
from piwsl.structures.frames import without_labels
from piwsl.structures.labels import WEAK
from piwsl.structures.structure import from_atoms
from piwsl.training import run
from piwsl.training.batches import Order, StepBatches
from piwsl.training.module import PotentialModule, Task
from piwsl.training.places import Places
from piwsl.training.run import Devices

STEPS = 4
LENGTH = 0.02
# Gradients of early training exceed the clip, too.
CLIP = 1e-3


class Recording(PotentialModule):
    """Keeps the gradients that a process is about to take a step with, before they are clipped and after."""

    folder: Path

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:
        before = self._gradients()
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        torch.save((before, self._gradients()), self.folder / f"rank{self.global_rank}-step{self.global_step}.pt")

    def _gradients(self) -> dict[str, torch.Tensor]:
        return {
            name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
            for name, parameter in self.potential.named_parameters()
        }


def frames() -> list[Batch]:
    """Return energies everywhere but on the last, forces on two of six, those of a cheaper level on another one."""
    skin = 2 * 4 * LENGTH
    plain = morse_frames("H2O", 2) + morse_frames("NH3", 2) + morse_frames("CH4", 2)
    made = [graph(from_atoms(atoms), 4.0 + skin, torch.float64) for atoms in plain]
    rng = np.random.default_rng(0)
    labels = [torch.tensor(rng.normal(size=each.positions.shape)) for each in made]
    made[1] = made[1].labelled(forces=labels[1])
    made[2] = made[2].labelled(forces=labels[2])
    made[3] = made[3].labelled(WEAK, forces=labels[3])
    made[5] = made[5].labelled(energy=torch.full_like(made[5].energy, torch.nan))
    return made


def pool() -> list[Batch]:
    """Return frames without labels; forces of a cheaper level on one of three."""
    skin = 2 * 4 * LENGTH
    made = [
        graph(from_atoms(without_labels(atoms)), 4.0 + skin, torch.float64)
        for atoms in morse_frames("H2O", 1, seed=9) + morse_frames("CH4", 2, seed=9)
    ]
    weak = torch.tensor(np.random.default_rng(1).normal(size=made[1].positions.shape))
    made[1] = made[1].labelled(WEAK, forces=weak)
    return made


def fitted(folder: Path, monkeypatch, loss: Loss, batch_size: int, count: int, forces: str) -> pd.DataFrame:
    """Train at so small a rate that no weight changes; return the history, and leave the gradients in the folder."""
    folder.mkdir()
    monkeypatch.setattr(Recording, "folder", folder, raising=False)
    monkeypatch.setattr(run, "PotentialModule", Recording)
    training = Training(
        steps=STEPS, batch_size=batch_size, validate_every=STEPS, learning_rate=1e-30, gradient_clip=CLIP
    )
    config = PaiNN(
        architecture="painn", cutoff=4.0, features=8, layers=2, radial=4, dtype="float64", forces=forces,
        training=training,
    )  # fmt: skip
    structures = [from_atoms(atoms) for name in ("H2O", "NH3", "CH4") for atoms in morse_frames(name, 4)]
    torch.manual_seed(0)
    potential, graphs = build_potential(config, structures), frames()
    unlabelled = pool() if loss.pool else []
    everywhere = np.arange(len(graphs) + len(unlabelled))
    task = Task(training, loss, 3, graphs, [collate(graphs)], everywhere, unlabelled, loss.pool)
    places, pieces = Places(folder, folder / "history.csv"), Pieces(folder / "pieces.json", "one")
    run._fit(copy.deepcopy(potential), task, places, Devices("cpu", count), pieces)
    return pd.read_csv(folder / "history.csv")


ALL = {
    "pitc": PITC(weight=2.0, every=2, share=0.5),
    "pisc": PISC(weight=3.0, share=0.75),
    "augmentation": Augmentation(weight=0.5, share=0.6),
    "weak_forces": WeakForces(weight=5.0, until=10),
    "displacement": LENGTH,
}


@pytest.mark.parametrize(
    ("terms", "batch_size", "forces"),
    [
        (ALL, 5, "conservative"),
        (ALL | {"direction": "adversarial"}, 5, "direct"),
        (ALL, 2, "conservative"),
        ({"energy": 0.0}, 3, "direct"),
        ({"energy": 0.0}, 1, "conservative"),
        (ALL | {"pool": 0.4}, 8, "conservative"),
        (ALL | {"pool": 0.6}, 3, "direct"),
    ],
    ids=[
        "mixed labels",
        "adversarial, direct",
        "fewer frames than devices",
        "forces alone",
        "one frame",
        "pool",
        "devices with frames of the pool alone",
    ],
)
def test_several_devices_have_the_gradients_of_one(tmp_path, monkeypatch, terms, batch_size, forces):
    loss = Loss(**terms)
    histories = {
        count: fitted(tmp_path / str(count), monkeypatch, loss, batch_size, count, forces) for count in (1, 2, 3)
    }
    norms = []
    for step in range(STEPS):
        expected, clipped = torch.load(tmp_path / "1" / f"rank0-step{step}.pt")
        scale = max(float(gradient.abs().max()) for gradient in expected.values())
        for count, rank in [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]:
            found = torch.load(tmp_path / str(count) / f"rank{rank}-step{step}.pt")
            torch.testing.assert_close(found[0], expected, rtol=1e-12, atol=1e-12 * scale)
            torch.testing.assert_close(found[1], clipped, rtol=1e-12, atol=1e-12 * CLIP)
        norms.append(norm(expected))
        # The whole gradient is clipped; that of a device alone has another norm.
        assert norm(clipped) == pytest.approx(min(CLIP, norms[-1]), rel=1e-3)
    assert max(norms) > 2 * CLIP
    for count in (2, 3):
        ours, theirs = histories[count].filter(like="training_"), histories[1].filter(like="training_")
        pd.testing.assert_frame_equal(ours, theirs, rtol=1e-12, atol=0.0)


def norm(gradients: dict[str, torch.Tensor]) -> float:
    return float(torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum().sqrt())


def test_a_process_without_a_frame_gets_one_and_the_others_share_the_step():
    graphs = frames()
    order = Order(len(graphs), 2, seed=0)
    batches = [next(iter(StepBatches(graphs, order, range(1), rank=rank, ranks=3))) for rank in range(3)]
    assert [batch.structures for batch in batches] == [1, 1, 1]
    together = next(iter(StepBatches(graphs, order, range(1))))
    torch.testing.assert_close(torch.cat([batch.positions for batch in batches[:2]]), together.positions)


def test_the_frames_of_all_processes_are_those_of_a_step_and_of_the_pool_as_many_as_its_share():
    loss = Loss(pisc=PISC(weight=1.0), pool=0.4)
    task = Task(Training(batch_size=8), loss, 3, frames(), [], np.arange(9), pool(), loss.pool)
    batches = [
        next(iter(StepBatches(task.graphs, task.order, range(1), rank=rank, ranks=3, pool=task.pool)))
        for rank in range(3)
    ]
    assert sum(batch.structures for batch in batches) == len(task.order.frames(0)) == 8
    assert task.order.of_pool.sum() == 3
