"""A student learns what a teacher says of geometries that nobody labelled: the less, the less the teacher knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from helpers import displaced, morse_frames
from typer.testing import CliRunner

import piwsl
from piwsl.cli import app
from piwsl.config import Experiment, Loss, parse_model, parse_section
from piwsl.data.batch import collate, graph
from piwsl.data.dataset import POOL, Dataset, content_hash, write_structures
from piwsl.errors import PiwslError
from piwsl.evaluation.predict import predict
from piwsl.evaluation.teaching import taught, teach
from piwsl.losses import training_loss
from piwsl.models import Potential
from piwsl.models.storage import read_header
from piwsl.structures.frames import write_frames
from piwsl.structures.labels import REFERENCE, Labels
from piwsl.structures.structure import Structure, from_atoms
from piwsl.training.frames import frames_of_structures

PROCESS = {"architecture": "gaussian_process"}
STUDENT = {"architecture": "painn", "cutoff": 4.0, "features": 16, "layers": 2, "training": {"steps": 400}}
LABELLED = morse_frames("NH3", 12)
TEST = morse_frames("NH3", 20, seed=5, forces=True)


def geometries(count: int, seed: int = 1, amplitude: float = 0.05) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    return [displaced("NH3", amplitude, rng) for _ in range(count)]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Potential:
    return piwsl.train(LABELLED, tmp_path_factory.mktemp("teacher"), PROCESS)


def weighted(atoms: Atoms, weight: float) -> Structure:
    structure = from_atoms(atoms)
    labels = structure.at_level(REFERENCE)
    return structure.labelled(REFERENCE, Labels(labels.energy, labels.forces, labels.stress, weight))


# Weights of labels.


@pytest.mark.parametrize("terms", [{}, {"pitc": {"weight": 1.0, "anchor": "label"}}], ids=["labels", "anchored"])
def test_errors_of_labels_count_by_their_weight(teacher, terms):
    """Two structures, one of weight w: the loss is (l_1 + w l_2) / 2, of energies and of forces by their atoms."""
    loss = parse_section(Loss, {"forces": 2.0, **terms}, "loss")
    frames = morse_frames("NH3", 2, seed=3, forces=True)

    def found(first: float, second: float) -> torch.Tensor:
        batch = collate(
            [graph(weighted(a, w), 6.0, torch.float64) for a, w in zip(frames, (first, second), strict=True)]
        )
        draw = torch.Generator().manual_seed(0)
        moved = [0.01 * torch.randn(batch.positions.shape, generator=draw, dtype=torch.float64) for _ in range(2)]
        return training_loss(teacher, batch, loss, moved, loss.factors(0))[0]

    one, other = found(1.0, 0.0), found(0.0, 1.0)
    assert one > 0
    assert other > 0
    torch.testing.assert_close(found(1.0, 0.25), one + 0.25 * other)
    torch.testing.assert_close(found(0.0, 0.0), torch.zeros_like(one))


def test_what_compares_the_model_with_itself_has_no_weight(teacher):
    loss = parse_section(Loss, {"pisc": {"weight": 1.0}, "displacement": 0.02}, "loss")
    frame = morse_frames("NH3", 1, seed=3, forces=True)[0]
    terms = []
    for weight in (1.0, 0.1):
        batch = graph(weighted(frame, weight), 6.0, torch.float64)
        draws = [0.02 * torch.ones_like(batch.positions) * torch.arange(4)[:, None] / (k + 2) for k in range(2)]
        terms.append(training_loss(teacher, batch, loss, draws, {"pisc": 1.0})[1]["pisc"])
    assert terms[0] == terms[1] > 0


def test_weights_are_kept_with_a_dataset_and_part_of_what_it_is(tmp_path):
    structures = [weighted(atoms, weight) for atoms, weight in zip(TEST[:3], (1.0, 0.5, 0.25), strict=True)]
    write_structures(tmp_path / "taught.h5", {POOL: structures})
    with Dataset(tmp_path / "taught.h5") as dataset:
        read = dataset.structures(dataset.indices(POOL))
    assert [structure.at_level(REFERENCE).weight for structure in read] == [1.0, 0.5, 0.25]
    assert content_hash(read) == content_hash(structures) != content_hash([weighted(atoms, 1.0) for atoms in TEST[:3]])


# Teaching.


def test_a_pool_is_labelled_with_what_the_teacher_predicts(teacher):
    pool = geometries(5)
    predicted = piwsl.predict(teacher, pool)
    for structure, atoms in zip(taught([from_atoms(each) for each in pool], teacher), predicted, strict=True):
        assert structure.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(structure.forces, atoms.get_forces(), atol=1e-9)


def test_geometries_that_the_teacher_knows_little_of_weigh_less(teacher):
    pool = [from_atoms(atoms) for atoms in geometries(29, amplitude=0.03) + geometries(1, amplitude=0.4)]
    weights = np.array([structure.at_level(REFERENCE).weight for structure in taught(pool, teacher)])
    spread = predict(teacher, pool).energy_std
    assert spread.argmax() == 29
    assert (np.argsort(weights) == np.argsort(-spread)).all()
    assert np.median(weights) > 0.99, "what it knows well counts in full"
    # One of thirty has most of the mean square, and none can have more than all: σ² <= 30 mean(σ²).
    assert 16 / (16 + 30) <= weights[29] < 0.5


def test_a_teacher_without_spread_is_believed_alike_everywhere(tmp_path):
    plain = piwsl.train(LABELLED, tmp_path, STUDENT | {"training": {"steps": 5}})
    weights = {s.at_level(REFERENCE).weight for s in taught([from_atoms(a) for a in geometries(4)], plain)}
    assert weights == {1.0}


def test_a_student_is_better_than_what_learned_the_labels_alone_and_close_to_its_teacher(tmp_path, teacher):
    # These frames are of a pair potential: one beneath the network would leave nothing to learn.
    network = STUDENT | {"pair_potential": False}
    alone = piwsl.train(LABELLED, tmp_path / "alone", network)
    student = piwsl.train(LABELLED, tmp_path / "student", network, pool=geometries(60), teacher=teacher)
    errors = {
        name: piwsl.evaluate(model, TEST)["force_mae_meV_per_A"]
        for name, model in (("teacher", teacher), ("alone", alone), ("student", student))
    }
    assert errors["student"] < 0.5 * errors["alone"], errors
    assert errors["student"] < 2.0 * errors["teacher"], errors


def test_a_student_stands_alone(tmp_path, teacher):
    """Its file needs no teacher, and an interruption none either: what it was taught is part of what it learns."""
    short = STUDENT | {"training": {"steps": 20}}
    first = piwsl.train(LABELLED, tmp_path / "a", short, pool=geometries(8), teacher=teacher)
    second = piwsl.train(LABELLED, tmp_path / "b", short, pool=geometries(8), teacher=teacher)
    other = piwsl.train(LABELLED, tmp_path / "c", short, pool=geometries(8, seed=2), teacher=teacher)
    assert not isinstance(first.learned.network, type(teacher.learned.network))
    energies = [[atoms.get_potential_energy() for atoms in piwsl.predict(model, TEST)] for model in (first, second)]
    assert energies[0] == energies[1]
    headers = [read_header(tmp_path / name / "model.safetensors")["provenance"]["data"] for name in "abc"]
    assert headers[0] == headers[1] != headers[2]
    assert other.elements() == ["H", "N"]


@pytest.mark.parametrize("terms", [{"forces": 0.0}, {"pitc": {"weight": 1.0}, "displacement": 0.02}])
def test_a_student_goes_with_losses_that_look_at_no_forces_and_with_weak_ones(tmp_path, teacher, terms):
    model = piwsl.train(
        LABELLED, tmp_path, STUDENT | {"training": {"steps": 20}}, terms, pool=geometries(8), teacher=teacher
    )
    assert np.isfinite(piwsl.evaluate(model, TEST)["energy_mae_meV"])


def test_without_a_teacher_labels_of_a_pool_are_not_looked_at(tmp_path):
    loss, model = {"pisc": {"weight": 1.0}, "pool": 0.5}, STUDENT | {"training": {"steps": 10}}
    unlabelled = [Atoms(atoms.numbers, atoms.positions) for atoms in TEST]
    models = [
        piwsl.train(LABELLED, tmp_path / str(place), model, loss, pool=pool)
        for place, pool in enumerate((TEST, unlabelled))
    ]
    energies = [[atoms.get_potential_energy() for atoms in piwsl.predict(found, TEST)] for found in models]
    assert energies[0] == energies[1]


def test_how_much_of_a_step_is_taught_is_a_key_of_the_training(teacher):
    pool = taught([from_atoms(atoms) for atoms in geometries(4)], teacher)
    model = parse_model(STUDENT | {"training": {"taught_share": 0.6}}, "model")
    labelled = [from_atoms(atoms) for atoms in LABELLED]
    assert frames_of_structures(labelled, model, 0, pool).pool_share(model, Loss(pool=0.0)) == 0.6
    assert frames_of_structures(labelled, model, 0).pool_share(model, Loss(pool=0.0)) == 0.0


def test_the_job_labels_the_pool_of_a_dataset(tmp_path, capsys):
    piwsl.train(LABELLED, tmp_path, PROCESS)
    write_structures(tmp_path / "pool.h5", {POOL: [from_atoms(atoms) for atoms in geometries(6)]})
    teach(tmp_path / "model.safetensors", tmp_path / "pool.h5", tmp_path / "taught.h5")
    assert "labelled 6 frames" in capsys.readouterr().out
    with Dataset(tmp_path / "taught.h5") as dataset:
        assert all(np.isfinite(s.energy) and s.forces is not None for s in dataset.structures(dataset.indices(POOL)))


def test_elements_that_the_teacher_does_not_know_are_refused(teacher):
    with pytest.raises(PiwslError, match="not trained on C"):
        taught([from_atoms(displaced("CH4", 0.01, np.random.default_rng(0)))], teacher)


def test_the_command_takes_a_teacher_with_a_pool(tmp_path):
    piwsl.train(LABELLED, tmp_path / "teacher", PROCESS)
    write_frames(tmp_path / "frames.xyz", LABELLED)
    write_frames(tmp_path / "pool.xyz", geometries(6))
    train = ["train", str(tmp_path / "frames.xyz"), str(tmp_path / "student"), "--steps", "5"]
    model = str(tmp_path / "teacher" / "model.safetensors")
    refused = CliRunner().invoke(app, [*train, "--teacher", model])
    assert refused.exit_code == 1
    assert "--pool" in refused.output
    done = CliRunner().invoke(app, [*train, "--teacher", model, "--pool", str(tmp_path / "pool.xyz")])
    assert done.exit_code == 0, done.output


# The config.


def experiment(**models: Any) -> dict[str, Any]:
    return {
        "experiment": "taught",
        "datasets": {"mine": {"file": "a.xyz", "test_frames": 2, "pool_file": "b.xyz"}},
        "models": {"process": PROCESS, **models},
        "losses": {"supervised": {}},
        "sizes": [4],
        "seeds": [0],
    }


def student(**teacher_keys: str) -> dict[str, Any]:
    return {"architecture": "painn", "teacher": {"model": "process", "loss": "supervised"} | teacher_keys}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.xyz", "b.xyz"):
        write_frames(tmp_path / name, LABELLED)


@pytest.mark.usefixtures("files")
def test_the_teacher_is_of_the_same_dataset_size_and_seed():
    found = Experiment.model_validate(experiment(pupil=student()))
    (run,) = [run for run in found.runs() if run.model == "pupil"]
    assert found.teacher(run) == run.model_copy(update={"model": "process"})


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("models", "said"),
    [
        ({"pupil": student(model="proces")}, "models.pupil.teacher.model: no model 'proces'; did you mean 'process'"),
        ({"pupil": student(loss="weak")}, "models.pupil.teacher.loss: no loss 'weak'"),
        ({"pupil": student(model="pupil")}, "pupil <- pupil: name another"),
        ({"a": student(model="b"), "b": student(model="a")}, "a <- b <- a: name another"),
        ({"pupil": student() | {"training": {"batch_size": 1}}}, "one frame, which is labelled"),
        ({"pupil": student() | PROCESS}, "teacher: a Gaussian process learns labelled frames alone"),
    ],
)
def test_what_teaches_nothing_is_refused(models, said):
    with pytest.raises(ValueError, match=said):
        Experiment.model_validate(experiment(**models))


@pytest.mark.usefixtures("files")
def test_without_a_pool_there_is_nothing_to_teach():
    keys = experiment(pupil=student())
    del keys["datasets"]["mine"]["pool_file"]
    with pytest.raises(ValueError, match=r"models.pupil.teacher: dataset 'mine' has no pool; say .*pool_file"):
        Experiment.model_validate(keys)


@pytest.mark.usefixtures("files")
def test_a_teacher_that_is_left_out_of_the_grid_is_still_checked():
    keys = experiment(pupil=student(loss="weak"))
    keys["losses"]["weak"] = {"pitc": {"weight": 1.0}}
    keys["only"] = [{"model": "pupil"}]
    with pytest.raises(ValueError, match="a Gaussian process knows labels"):
        Experiment.model_validate(keys)
