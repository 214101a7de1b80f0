"""Frames say what they belong to; who validates on whole groups learns from none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from helpers import morse_frames, plain_experiment
from typer.testing import CliRunner

import piwsl
from piwsl.acquisition.rounds import take_bought
from piwsl.architectures.painn import PaiNN
from piwsl.cli import app
from piwsl.config import ConfigError, Experiment, GivenDataset, Loss, Run, Training, parse_model, parse_section
from piwsl.data import views
from piwsl.data.assemble import assemble, import_given
from piwsl.data.dataset import POOL, TEST, TRAINING, Dataset, write_structures
from piwsl.data.splits import split_frames, split_groups
from piwsl.errors import PiwslError
from piwsl.files import read_json, write_json
from piwsl.records import Round
from piwsl.structures.frames import write_frames
from piwsl.structures.structure import GROUP_KEY, from_atoms, group_name
from piwsl.training import run
from piwsl.training.frames import frames_of_run

NAMES = ("cold", "warm", "Schmelze größer", "hot", "7")
SPLIT = {"by": "group", "key": "trajectory"}


def trajectories(count: int, names: tuple[Any, ...] = NAMES) -> list[Any]:
    """Frames of water that say in turn of which trajectory they are."""
    frames = morse_frames("H2O", count, forces=True)
    for number, atoms in enumerate(frames):
        atoms.info["trajectory"] = names[number % len(names)]
    return frames


def imported(folder: Path, frames: list[Any], **keys: Any) -> Path:
    write_frames(folder / "mine.xyz", frames)
    dataset = parse_section(GivenDataset, {"file": str(folder / "mine.xyz")} | keys, "datasets.mine")
    import_given(dataset, folder / "mine.h5")
    return folder / "mine.h5"


def groups_in(path: Path, part: str = TRAINING) -> list[str | None]:
    with Dataset(path) as dataset:
        indices = dataset.indices(part)
        found = dataset.groups_of(indices)
        assert [structure.group for structure in dataset.structures(indices)] == found
        return found


def structures(groups: list[str | None]) -> list[Any]:
    frames = morse_frames("H2O", len(groups), forces=True)
    for atoms, group in zip(frames, groups, strict=True):
        atoms.info[GROUP_KEY] = group
    return [from_atoms(atoms) for atoms in frames]


# The dataset file.


@pytest.mark.parametrize(
    "groups",
    [["a", "b", "a"], [None, None, "late"], ["early", None, None], ["", None, "ä" * 300, "x\0y"], [None, None]],
)
def test_a_dataset_file_keeps_what_each_frame_belongs_to(tmp_path, groups):
    parts = {TRAINING: structures(groups), TEST: structures([None, None]), POOL: structures([None])}
    write_structures(tmp_path / "mine.h5", parts)
    assert groups_in(tmp_path / "mine.h5") == groups
    assert groups_in(tmp_path / "mine.h5", TEST) == [None, None]
    with Dataset(tmp_path / "mine.h5") as dataset:
        assert dataset.groups_of(np.array([1, 0])) == groups[1::-1]
        assert dataset.structure(1).group == groups[1]


def test_a_file_whose_frames_belong_to_nothing_is_what_it_was_before(tmp_path):
    write_structures(tmp_path / "mine.h5", {TRAINING: structures([None, None])})
    with h5py.File(tmp_path / "mine.h5") as file:
        assert "groups" not in file


def test_labels_and_geometries_have_the_hash_that_they_have_without_groups(tmp_path):
    for name, groups in (("with", ["a", "b"]), ("without", [None, None])):
        write_structures(tmp_path / f"{name}.h5", {TRAINING: structures(groups)})
    of_file = []
    for name in ("with", "without"):
        with Dataset(tmp_path / f"{name}.h5") as dataset:
            of_file.append(np.concatenate([*dataset.digests_of(np.arange(2))]))
    assert np.array_equal(*of_file)


def test_a_group_that_is_not_what_was_written_is_noticed(tmp_path):
    path = tmp_path / "mine.h5"
    write_structures(path, {TRAINING: structures(["cold", "warm"])})
    path.write_bytes(path.read_bytes().replace(b"warm", b"worm"))
    with Dataset(path) as dataset:
        assert dataset.structure(0).group == "cold"
        with pytest.raises(PiwslError, match="the group of a frame is not what was written"):
            dataset.groups_of(np.arange(2))
        with pytest.raises(PiwslError, match="is damaged"):
            dataset.structure(1)


@pytest.mark.parametrize(
    ("said", "name"),
    [(300, "300"), (300.0, "300"), ("300", "300"), (0.5, "0.5"), (True, "True"), ("e\u0301", "é"), (None, None)],
)
def test_a_group_is_one_whether_it_is_a_number_or_text(said, name):
    assert group_name(said) == name


# Where groups come from.


@pytest.mark.parametrize("names", [NAMES, (1, 2, 3, 4, 5), (0.5, 1.0, "1", "x", "y")])
def test_an_import_keeps_the_groups_that_the_test_is_held_out_by(tmp_path, names):
    path = imported(tmp_path, trajectories(20, names), test_frames=3, split=SPLIT)
    with Dataset(path) as dataset:
        assert len(dataset.indices(TRAINING)) == len(groups_in(path))
    assert set(groups_in(path)) < {group_name(name) for name in names}
    assert None not in groups_in(path)


def test_groups_are_said_beside_any_test(tmp_path):
    frames = trajectories(20)
    write_frames(tmp_path / "test.xyz", morse_frames("H2O", 2, seed=5))  # which say no trajectory
    path = imported(tmp_path, frames, test_file=str(tmp_path / "test.xyz"), groups={"key": "trajectory"})
    assert groups_in(path) == [NAMES[number % 5] for number in range(20)]
    assert groups_in(path, TEST) == [None, None]
    path = imported(tmp_path, frames, test_frames=4, groups={"by": "size"}, split=SPLIT, stride=2)
    assert set(groups_in(path)) == {"3"}
    path = imported(tmp_path, frames, test_frames=4, groups={"by": "composition"})
    assert set(groups_in(path)) == {"H2O"}


def test_a_frame_is_of_the_block_of_the_file_in_which_it_stands(tmp_path):
    frames = trajectories(20)
    write_frames(tmp_path / "test.xyz", morse_frames("H2O", 2, seed=5))
    blocks = {"by": "block", "blocks": 3}
    path = imported(tmp_path, frames, test_file=str(tmp_path / "test.xyz"), groups=blocks)
    assert groups_in(path) == [*"00000001111111222222"]
    assert groups_in(path, TEST) == [None, None]
    del frames[3].info["REF_energy"], frames[3].arrays["REF_forces"]  # a block keeps its place, whatever is dropped
    path = imported(tmp_path, frames, test_frames=7, split=blocks, drop=["unlabelled"], seed=1)
    assert groups_in(path) == [*"000000222222"]


def test_a_frame_is_of_its_own_group_when_others_are_dropped(tmp_path):
    frames = trajectories(20)
    del frames[3].info["REF_energy"], frames[3].arrays["REF_forces"]
    del frames[3].info["trajectory"]  # nobody asks what it belonged to
    frames[8].positions[1] = frames[8].positions[0]
    path = imported(
        tmp_path, frames, test_frames=2, drop=["unlabelled", "overlaps"], groups={"key": "trajectory"}, stride=1
    )
    energies = {atoms.info.get("REF_energy"): atoms.info.get("trajectory") for atoms in frames}
    with Dataset(path) as dataset:
        found = dataset.structures(dataset.indices(TRAINING))
    assert len(found) in (16, 17, 18)  # of the dropped ones some were held out
    assert [structure.group for structure in found] == [energies[structure.energy] for structure in found]


def test_a_training_frame_that_says_no_group_is_named(tmp_path):
    frames = trajectories(6)
    del frames[4].info["trajectory"]
    with pytest.raises(PiwslError, match=r"frame 4: has no trajectory, by which frames are grouped"):
        imported(tmp_path, frames, test_frames=2, groups={"key": "trajectory"})


def test_frames_that_a_round_bought_are_of_their_groups(tmp_path):
    write_structures(tmp_path / "training.h5", {TRAINING: structures(["a", "b", None, "c"])})
    bought = Round(dataset="mine", round=0, by="random", candidates=4, bought=[3, 0])
    write_json(tmp_path / "0.json", bought.model_dump())
    take_bought(tmp_path / "training.h5", [tmp_path / "0.json"], tmp_path / "n2.h5")
    assert groups_in(tmp_path / "n2.h5") == ["c", "a"]


def test_sampled_frames_are_of_their_trajectories_and_displaced_ones_of_nothing_but_themselves(tmp_path):
    names = ["training-300K-0", "training-600K-0", "training-modes-300K-0", "training-300K-1", "training-modes-300K-1"]
    frames = morse_frames("H2O", 5)
    for name, atoms in zip(names, frames, strict=True):
        atoms.info |= {"frame": name, "part": "training"}
    write_frames(tmp_path / "0-5.xyz", frames)
    assemble([tmp_path / "0-5.xyz"], [], [], tmp_path / "training.h5")
    assert groups_in(tmp_path / "training.h5") == [
        "training-300K", "training-600K", names[2], "training-300K", names[4],
    ]  # fmt: skip


# Which groups are validated on.


def mixed(frames: int, kinds: int, seed: int = 0) -> list[str | None]:
    return [f"g{kind}" for kind in np.random.default_rng(seed).integers(0, kinds, frames)]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("size", "kinds"), [(20, 10), (50, 10), (200, 40), (200, 5)])
def test_no_group_is_learned_from_and_validated_on(size, kinds, seed):
    groups, available = mixed(200, kinds), np.arange(200)
    split = split_groups(available, groups, size, seed, 0.2)
    validated, learned = ({groups[index] for index in part} for part in (split.validation, split.training))
    assert not validated & learned
    assert 0.1 * size <= len(split.validation) <= 0.4 * size
    again = split_groups(available, groups, size, seed, 0.2)
    assert np.array_equal(split.validation, again.validation)
    assert np.array_equal(split.training, again.training)


@pytest.mark.parametrize("size", [20, 57, 200])
def test_frames_of_a_size_are_those_that_it_has_with_validation_at_random(size):
    groups, available = mixed(200, 20), np.arange(1000, 1200)
    split, at_random = split_groups(available, groups, size, 3, 0.1), split_frames(available, size, 3, 0.1)
    both = [np.sort(np.concatenate([each.training, each.validation])) for each in (split, at_random)]
    assert np.array_equal(*both)
    # Those that are learned from stay in the seed's order.
    order = np.concatenate([at_random.validation, at_random.training]).tolist()
    assert [order.index(index) for index in split.training] == sorted(order.index(index) for index in split.training)


def test_another_seed_validates_on_other_groups():
    groups = [f"g{index % 10}" for index in range(100)]
    found = {frozenset(split_groups(np.arange(100), groups, 100, seed, 0.1).validation.tolist()) for seed in range(10)}
    assert len(found) > 3


def test_of_ten_members_each_validates_on_a_tenth_and_every_group_once():
    groups = [f"g{index % 20}" for index in range(200)]
    split = split_groups(np.arange(200), groups, 200, 0, 0.1, members=10)
    together = np.concatenate([split.validation, split.training])
    held_out = [together[window].tolist() for window in split.of_members]
    assert sorted(index for window in held_out for index in window) == [*range(200)]
    assert [len(window) for window in held_out] == [20] * 10
    assert sorted(held_out[0]) == sorted(split.validation.tolist())
    alone = split_groups(np.arange(200), groups, 200, 0, 0.1)
    assert np.array_equal(alone.validation, split.validation)


def test_no_group_is_held_out_twice_before_all_that_fit_were_held_out_once():
    groups = mixed(300, 30, seed=2)
    split = split_groups(np.arange(300), groups, 300, 0, 0.1, members=14)
    together, counts = np.concatenate([split.validation, split.training]), dict.fromkeys(groups, 0)
    for window in split.of_members:
        for group in {groups[index] for index in together[window]}:
            counts[group] += 1
    assert max(counts.values()) - min(counts.values()) <= 1


def test_beside_one_giant_group_the_tiny_ones_are_validated_on():
    groups = ["giant"] * 900 + [f"g{index}" for index in range(100)]
    for seed in range(5):
        split = split_groups(np.arange(1000), groups, 1000, seed, 0.05, members=3)
        assert len(split.validation) == 50
        assert "giant" not in {groups[index] for index in split.validation}


@pytest.mark.parametrize(
    ("groups", "fraction", "said"),
    [
        (["a"] * 20, 0.1, "are of one group"),
        (["a", "b"] * 10, 0.1, "2 groups of 10 to 10 frames, and validation_fraction: 0.1 asks for 2; say 0.5"),
        (["a"] * 19 + ["b"], 0.4, "asks for 8; say 0.05"),
        (["a", "b", "c"] * 10, 0.9, "all of which validation_fraction: 0.9 takes; say less"),
        (["a", "b", None, None], 0.5, "2 of 4 frames say no group"),
    ],
)
def test_groups_that_cannot_be_validated_on_are_refused_and_what_is_said_helps(groups, fraction, said):
    frames = len(groups)
    with pytest.raises(PiwslError, match=said) as raised:
        split_groups(np.arange(frames), groups, frames, 0, fraction)
    assert len(str(raised.value)) < 200
    if "; say 0" in said:
        split_groups(np.arange(frames), groups, frames, 0, float(said.rpartition(" ")[2]))


# Trainings.


def small(members: int = 1, **training: Any) -> PaiNN:
    settings = Training(
        **({"steps": 20, "validate_every": 10, "validation_by": "group", "validation_fraction": 0.2} | training)
    )
    return PaiNN(
        architecture="painn", cutoff=4.0, features=8, layers=1, radial=6, members=members, training=settings
    )  # fmt: skip


def point(size: int = 20) -> Run:
    return Run(dataset="mine", model="painn", loss="plain", size=size, seed=0)


@pytest.fixture
def dataset(tmp_path) -> Path:
    return imported(tmp_path, trajectories(30), test_frames=2, groups={"key": "trajectory"})


@pytest.mark.parametrize("most_held", [views.MOST_HELD, 0])
def test_a_run_says_which_groups_it_validates_on(dataset, tmp_path, monkeypatch, most_held):
    monkeypatch.setattr(views, "MOST_HELD", most_held)
    run.train_run(dataset, point(), small(), Loss(), tmp_path / "run" / "model.safetensors", tmp_path / "history.csv")
    found = read_json(tmp_path / "run" / "frames.json")
    with Dataset(dataset) as opened:
        validated, learned = (set(opened.groups_of(np.array(found[part]))) for part in ("validation", "training"))
    assert found["validation_groups"] == sorted(validated)
    assert validated | learned == set(NAMES)
    assert not validated & learned
    assert len(found["validation"]) + len(found["training"]) == 20


def test_every_member_learns_from_no_group_that_it_validates_on(dataset):
    frames = frames_of_run(dataset, None, point(28), small(members=5), Loss())
    held_out = []
    for each in frames.of_members(5):
        validated = {structure.group for structure in each.validation}
        assert not validated & {structure.group for structure in each.training}
        assert len(each.training) + len(each.validation) == 28
        held_out += sorted(validated)
    assert sorted(held_out) == sorted(NAMES)


def test_a_run_that_goes_on_after_validation_was_edited_begins_anew(dataset, tmp_path, monkeypatch):
    """What tells a checkpoint of another training from one's own."""
    found = []
    monkeypatch.setattr(run, "_set_aside_foreign_checkpoints", lambda folder, fingerprint: found.append(fingerprint))
    for number, by in enumerate(("frame", "group", "group")):
        folder = tmp_path / str(number)
        model = small(validation_by=by, steps=1, validate_every=1)
        run.train_run(dataset, point(), model, Loss(), folder / "model.safetensors", folder / "history.csv")
    assert found[0] != found[1] == found[2]


def test_frames_without_an_experiment_say_their_group_in_their_info(tmp_path):
    frames = trajectories(20)
    for atoms in frames:
        atoms.info["group"] = atoms.info["trajectory"]
    keys = {"features": 8, "layers": 1, "training": {"steps": 5, "validation_by": "group", "validation_fraction": 0.2}}
    piwsl.train(frames, tmp_path / "model", {"architecture": "painn"} | keys)
    with pytest.raises(
        PiwslError, match=r"20 of 20 frames say no group; give it \(without an experiment group=\.\.\. on"
    ):
        piwsl.train(morse_frames("H2O", 20), tmp_path / "none", {"architecture": "painn"} | keys)


def test_validation_at_random_is_named_in_no_file():
    """Checkpoints and model files of before are those of now."""
    assert "validation_by" not in small(validation_by="frame").plain()["training"]
    assert small().plain()["training"]["validation_by"] == "group"
    assert parse_model(small().plain(), "model") == small()


# The config.


def config(**edits: Any) -> dict[str, Any]:
    found = plain_experiment() | {"levels": {}, "sizes": [20]}
    found["models"]["painn"] |= {"atomic_references": "fitted"}
    found["models"]["painn"]["training"] = {"validation_by": "group", "validation_fraction": 0.2} | edits
    found["datasets"] = {"mine": {"file": "mine.xyz", "test_frames": 3, "split": SPLIT}}
    return found


def checked(folder: Path, found: dict[str, Any]) -> tuple[int, str]:
    (folder / "config.yaml").write_text(yaml.safe_dump(found))
    result = CliRunner().invoke(app, ["check", "config.yaml"])
    return result.exit_code, result.output


def test_check_draws_the_groups_of_every_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames("mine.xyz", trajectories(30))
    assert checked(tmp_path, config())[0] == 0
    code, said = checked(tmp_path, config(validation_fraction=0.05))
    assert (code, said.count("\n")) == (1, 1)
    assert "models.painn.training.validation_by: the 20 frames of size 20, seed" in said
    assert "(dataset 'mine')" in said
    write_frames("mine.xyz", trajectories(30, ("a", "b")))
    code, said = checked(tmp_path, config())
    assert (code, said.count("\n")) == (1, 1)
    assert "more than the training frames" in said or "are of one group" in said


def test_a_dataset_without_groups_is_refused_for_the_models_that_need_them_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames("mine.xyz", trajectories(30))
    found = config()
    found["datasets"]["other"] = {"file": "mine.xyz", "test_frames": 3}
    code, said = checked(tmp_path, found)
    assert (code, said.count("\n")) == (1, 1)
    assert "models.painn.training.validation_by: dataset 'other' has no groups: say groups there" in said
    assert checked(tmp_path, found | {"exclude": [{"dataset": "other"}]})[0] == 0
    found["datasets"]["other"]["groups"] = {"key": "trajectory"}
    assert checked(tmp_path, found)[0] == 0


def test_one_trajectory_of_a_sampled_molecule_is_refused():
    found = plain_experiment()
    found["models"]["painn"]["training"] = {"validation_by": "group"}
    found["datasets"]["ammonia"]["sampling"] |= {"temperatures": [300], "normal_modes": []}
    with pytest.raises(ConfigError, match="its frames are of one trajectory; sample at several temperatures"):
        parse_section(Experiment, found, "config.yaml")
    found["datasets"]["ammonia"]["sampling"] |= {"temperatures": [300, 600]}
    parse_section(Experiment, found, "config.yaml")


@pytest.mark.parametrize(
    ("section", "keys", "said"),
    [
        (GivenDataset, {"file": "a.xyz", "test_frames": 1, "groups": {"by": "group"}}, "go together"),
        (GivenDataset, {"file": "a.xyz", "test_frames": 1, "groups": {"by": "size", "key": "a"}}, "go together"),
        (GivenDataset, {"file": "a.xyz", "test_frames": 1, "groups": "trajectory"}, "expected keys and values"),
        (Training, {"validation_by": "group", "validation_fraction": 0}, "validation_by: no frame is validated on"),
        (Training, {"validation_by": "molecule"}, "validation_by"),
    ],
)
def test_what_cannot_be_meant_is_refused(section, keys, said):
    with pytest.raises(ConfigError, match=said):
        parse_section(section, keys, "config.yaml")


def test_a_gaussian_process_validates_on_none():
    with pytest.raises(ConfigError, match="training: validation_by: no frame is validated on"):
        parse_model({"architecture": "gaussian_process", "training": {"validation_by": "group"}}, "model")
