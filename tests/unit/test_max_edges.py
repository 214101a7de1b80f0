"""Steps of no more edges than a limit, of molecules beside periodic cells; and structures dealt evenly to processes."""

from __future__ import annotations

import copy
import re
import signal
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.morse import MorsePotential
from helpers import displaced, morse_frames, plain_experiment
from test_devices import Recording
from test_training import interrupt, same_weights, small, train_in, two_processes_learn_what_one_does, unlabelled
from test_training import run as point
from typer.testing import CliRunner

from piwsl.architectures.painn import PaiNN
from piwsl.cli import app
from piwsl.config import ConfigError, Loss, Training, parse_section
from piwsl.data import edge_counts, views
from piwsl.data.batch import Batch, collate, count_neighbours, graph, neighbour_list
from piwsl.data.dataset import POOL, TEST, TRAINING, Dataset, write_dataset
from piwsl.data.views import StoredView, held, stored
from piwsl.errors import PiwslError
from piwsl.loss_terms.pitc import PITC
from piwsl.models import build_potential
from piwsl.pieces import Pieces
from piwsl.structures.frames import label, write_frames
from piwsl.structures.structure import from_atoms
from piwsl.training import run as training_run
from piwsl.training.batches import OrderBySize, StepBatches, dealt
from piwsl.training.module import Task
from piwsl.training.places import Places
from piwsl.training.run import Devices, train_run
from piwsl.training.sizes import reach

CUTOFF = 4.0
LOSS = Loss(forces=1.0, pitc=PITC(weight=0.1), displacement=0.01)


def crystals(count: int, seed: int = 0) -> list[Atoms]:
    """Return dense crystals, cells of one and of four atoms, labelled as the molecules are."""
    rng = np.random.default_rng(seed)
    frames = []
    for number in range(count):
        atoms = bulk("Ar", "fcc", a=rng.uniform(3.5, 4.4), cubic=number % 2 == 0)
        atoms.rattle(0.05, rng=rng)
        atoms.calc = MorsePotential(epsilon=0.1, r0=2.8, rho0=4.0, rcut1=5.0, rcut2=6.0)
        frames.append(label(atoms, atoms.get_potential_energy(), atoms.get_forces()))
    return frames


def mixed() -> list[Atoms]:
    """Return sparse and dense frames, and atoms without a neighbour."""
    alone = [label(Atoms("H"), 0.0, np.zeros((1, 3)))] * 2
    return morse_frames("H2O", 20, forces=True) + crystals(20) + morse_frames("NH3", 8, forces=True) + alone


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "dataset.h5"
    pool = unlabelled("H2O", 5) + unlabelled("NH3", 4)
    write_dataset(path, {TRAINING: mixed(), TEST: morse_frames("H2O", 5, seed=5, forces=True), POOL: pool})
    return path


@pytest.fixture
def nothing_is_held(monkeypatch):
    """As if the frames were too many for the memory."""
    monkeypatch.setattr(views, "MOST_HELD", 0.0)


def all_frames(path: Path) -> StoredView:
    dataset = Dataset(path)
    return stored(dataset, dataset.indices(TRAINING))


# Counting.


@pytest.mark.parametrize("cutoff", [1.5, 4.0, 7.0])
def test_edges_are_those_of_the_neighbour_list(cutoff):
    skewed = bulk("Cu")
    skewed.set_cell(skewed.cell.array @ [[1, 0, 0], [9, 1, 0], [0, 0, 1]])
    surface = bulk("Cu", cubic=True) * (1, 1, 3)
    surface.pbc = [True, True, False]
    for atoms in [*mixed(), skewed, surface]:
        structure = from_atoms(atoms)
        assert count_neighbours(structure, cutoff) == neighbour_list(structure, cutoff)[0].shape[1]


def test_edges_of_a_view_are_those_of_its_graphs_in_memory_or_not(dataset):
    frames = all_frames(dataset)
    expected = [each.edge_index.shape[1] for each in frames.graphs(CUTOFF, torch.float32)]
    assert len(set(expected)) > 5
    assert frames.edges(CUTOFF).tolist() == expected
    assert held([*frames]).edges(CUTOFF).tolist() == expected
    order = np.array([7, 3, 49, 3])
    assert frames.taken(order).edges(CUTOFF).tolist() == [expected[place] for place in order]


@pytest.fixture
def reads(monkeypatch) -> set[int]:
    """Places in the file of what was read by this process."""
    seen: set[int] = set()
    read = Dataset._read

    def noted(self, first, last):
        seen.update(range(first, last))
        return read(self, first, last)

    monkeypatch.setattr(Dataset, "_read", noted)
    return seen


@pytest.fixture
def written(tmp_path) -> Path:
    write_dataset(tmp_path / "d.h5", {TRAINING: mixed(), TEST: []})
    return tmp_path / "d.h5"


def test_each_frame_is_counted_once_whoever_asks(written, reads, capsys):
    some = all_frames(written)[:10]
    counts = all_frames(written).edges(CUTOFF)
    assert "counting the neighbours of 50 frames within 4 Å, once\n" in capsys.readouterr().out
    reads.clear()
    assert all_frames(written).edges(CUTOFF).tolist() == counts.tolist()
    assert some.without_forces().edges(CUTOFF).tolist() == counts[:10].tolist()
    assert (reads, capsys.readouterr().out) == (set(), "")
    assert some.edges(1.2).sum() < counts[:10].sum()  # of another cutoff, beside the first
    assert reads == set(range(10))
    reads.clear()
    all_frames(written)[5:15].edges(1.2)
    assert reads == set(range(10, 15))


def test_what_was_counted_before_an_interruption_is_kept(written, monkeypatch, reads):
    expected = held([*all_frames(written)]).edges(CUTOFF)
    monkeypatch.setattr(edge_counts, "KEPT_AFTER", 20)
    count, counted = edge_counts.count_neighbours, []

    def interrupted(structure, cutoff):
        if len(counted) == 47:
            raise KeyboardInterrupt
        counted.append(structure)
        return count(structure, cutoff)

    monkeypatch.setattr(edge_counts, "count_neighbours", interrupted)
    with pytest.raises(KeyboardInterrupt):
        all_frames(written).edges(CUTOFF)
    monkeypatch.setattr(edge_counts, "count_neighbours", count)
    reads.clear()
    assert all_frames(written).edges(CUTOFF).tolist() == expected.tolist()
    assert reads == set(range(40, 50))


def test_counts_of_other_frames_and_damaged_ones_are_not_believed(written):
    expected = all_frames(written).edges(CUTOFF).tolist()
    (kept,) = written.parent.glob("d.edges-4.npz")
    whole = kept.read_bytes()
    of_entry = whole.index(b"PK\x01\x02")  # in the table of contents: said to be encrypted, or of an unknown method
    flipped = [
        whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :] for at, bit in ((of_entry + 8, 1), (of_entry + 10, 2))
    ]
    for damaged in (whole[:-100], b"", whole.replace(whole[300:310], b"0123456789"), *flipped):
        kept.write_bytes(damaged)
        assert all_frames(written).edges(CUTOFF).tolist() == expected
        assert kept.read_bytes() == whole
    frames = mixed()[::-1]
    write_dataset(written, {TRAINING: frames, TEST: []})
    assert all_frames(written).edges(CUTOFF).tolist() == expected[::-1]


def test_where_the_disk_keeps_nothing_counts_are_found_all_the_same(written, monkeypatch, capsys):
    def refuses(path, write):
        raise PermissionError(13, "Permission denied", str(path))

    expected = held([*all_frames(written)]).edges(CUTOFF)
    monkeypatch.setattr(edge_counts, "write_atomically", refuses)
    monkeypatch.setattr(edge_counts, "KEPT_AFTER", 20)
    assert all_frames(written).edges(CUTOFF).tolist() == expected.tolist()
    said = f"{written.with_name('d.edges-4.npz')}: permission denied; choose another place, or ask its owner; numbers"
    assert capsys.readouterr().out.count(said) == 1


def test_several_processes_count_what_one_does(written, monkeypatch):
    monkeypatch.setattr(edge_counts, "COUNTED_AT_ONCE", 7)
    expected = held([*all_frames(written)]).edges(CUTOFF)
    assert all_frames(written)[::-1].edges(CUTOFF, processes=2).tolist() == expected[::-1].tolist()


@pytest.mark.parametrize("processes", [1, 2])
def test_what_cannot_be_counted_is_named(tmp_path, monkeypatch, processes):
    flat = crystals(1)[0]
    flat.set_cell([[5.0, 0, 0], [0, 5.0, 0], [5.0, 5.0, 0]])
    write_dataset(tmp_path / "d.h5", {TRAINING: [*crystals(9), flat], TEST: []})
    monkeypatch.setattr(edge_counts, "COUNTED_AT_ONCE", 4)
    for frames in (all_frames(tmp_path / "d.h5"), held([*all_frames(tmp_path / "d.h5")])):
        with pytest.raises(PiwslError, match=r"^frame 9: the cell has no volume"):
            frames.edges(CUTOFF, processes)


# Dealing.


def test_no_process_has_more_than_the_mean_and_the_largest_structure():
    rng = np.random.default_rng(0)
    for ranks in (1, 2, 3, 8):
        for count in (1, 5, 40):
            sizes = rng.integers(1, 500, count)
            places = dealt(sizes, ranks)
            assert sorted(chain(*places)) == [*range(count)]
            assert all(own == sorted(own) for own in places)
            loads = [sizes[own].sum() for own in places]
            assert max(loads) <= sizes.sum() / ranks + sizes.max() * (1 - 1 / ranks)


def test_processes_have_about_equally_many_edges_where_dealt_in_turn_they_have_not():
    rng = np.random.default_rng(0)
    sizes = np.where(rng.random(2000) < 0.2, 5000, 50) * rng.integers(8, 13, 2000) // 10
    order = OrderBySize(sizes, (100_000, 0), seed=0)
    ours, in_turn = [], []
    for step in range(8):
        frames = order.frames(step)
        places = [order.places(step, rank, 4) for rank in range(4)]
        assert sorted(place for own in places for place in own.own) == [*range(len(frames))]
        assert {own.whole for own in places} == {len(frames)}
        ours.append(max(sizes[frames[own.own]].sum() for own in places) / sizes[frames].sum() * 4)
        in_turn.append(max(sizes[frames[rank::4]].sum() for rank in range(4)) / sizes[frames].sum() * 4)
    assert max(ours) < 1.1
    assert np.mean(in_turn) > 1.3


def test_each_process_has_its_frames_of_labelled_ones_and_pool():
    sizes, pool = np.array([100, 1, 1, 50, 50, 2]), np.array([30, 30, 1, 1])
    order = OrderBySize(sizes, (204, 62), 0, pool)
    graphs, of_pool = ([_marked(number) for number in range(first, last)] for first, last in ((0, 6), (6, 10)))
    found = []
    for rank in range(3):
        batch = StepBatches(graphs, order, range(1), rank=rank, ranks=3, pool=of_pool)[0]
        found.append(batch.energy.int().tolist())
    assert sorted(chain(*found)) == [*range(10)]
    every = np.concatenate([sizes, pool])
    assert sorted(every[own].sum() for own in found) == [83, 83, 100]


def _marked(number: int) -> Batch:
    """Return a graph that is told by its energy."""
    return graph(from_atoms(label(Atoms("H"), float(number), None)), CUTOFF, torch.float64)


# Trainings.


def edges_of_steps(path: Path, model: PaiNN, loss: Loss, size: int) -> list[list[int]]:
    """Return the numbers of edges of the structures of steps that a training would make."""
    frames = training_run.frames_of_run(path, None, point(size), model, loss).seen_by(loss)
    sizes = training_run.Sizes.found(frames, model, loss)
    pieces = Pieces(path.with_name("pieces.json"), "one")
    recipe = training_run._Recipe(model, loss, 0, False, Devices("cpu", 1), 0, pieces, sizes)
    task = training_run._task(recipe, frames, None)
    found = []
    for step in range(40):
        batch = StepBatches(task.graphs, task.order, range(40), pool=task.pool)[step]
        of_structures = batch.structure_index[batch.edge_index[0]]
        found.append(torch.bincount(of_structures, minlength=batch.structures).tolist())
    return found


@pytest.mark.parametrize("pool", [0.0, 0.4])
def test_no_batch_has_more_edges_and_few_are_needed(dataset, pool):
    loss = LOSS.model_copy(update={"pool": pool})
    found = edges_of_steps(dataset, small(max_edges=500), loss, size=50)
    assert len({len(step) for step in found}) > 1
    # Up to 12 of the molecules, and some 60 of the larger crystals.
    assert max(map(max, found)) > 55
    assert max(map(sum, found)) <= 500
    if not pool:
        assert np.mean([sum(step) for step in found]) > 0.6 * 500


def test_a_structure_without_edges_counts_as_one(tmp_path):
    path = tmp_path / "d.h5"
    write_dataset(path, {TRAINING: [label(Atoms("H"), 0.0, None)] * 30, TEST: []})
    model = small(max_edges=4, validation_fraction=0.0)
    assert max(map(len, edges_of_steps(path, model, Loss(), size=30))) == 4


@pytest.mark.parametrize("pool", [0.0, 0.5])
def test_a_run_that_is_told_to_stop_ends_with_the_weights_of_one_that_was_not(dataset, tmp_path, pool):
    loss = LOSS.model_copy(update={"pool": pool})
    whole = train_in(tmp_path / "whole", dataset, small(max_edges=200), loss)
    stopped = interrupt(tmp_path / "run", dataset, 37, signal.SIGTERM, loss, max_edges=200)
    assert "training was stopped by SIGTERM at step 38; started again" in stopped.stderr
    assert same_weights(train_in(tmp_path / "run", dataset, small(max_edges=200), loss), whole)


@pytest.mark.parametrize("threads", [1, 2])
def test_frames_that_are_read_on_the_way_train_the_same(dataset, tmp_path, monkeypatch, threads):
    model = small(max_edges=200)
    whole = train_in(tmp_path / "whole", dataset, model, LOSS)
    monkeypatch.setattr(views, "MOST_HELD", 0)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    (tmp_path / "read").mkdir()
    files = tmp_path / "read" / "model.safetensors", tmp_path / "read" / "history.csv"
    train_run(dataset, point(), model, LOSS, *files, threads=threads)
    assert same_weights(files[0], whole)


@pytest.mark.usefixtures("nothing_is_held")
def test_a_committee_counts_what_each_member_learns_from(dataset, tmp_path):
    model = small(max_edges=200, steps=10, validate_every=5, validation_fraction=0.3).model_copy(update={"members": 3})
    assert train_in(tmp_path, dataset, model, LOSS).exists()


def test_several_processes_learn_what_one_does(tmp_path):
    path = tmp_path / "dataset.h5"
    write_dataset(path, {TRAINING: crystals(15) + morse_frames("NH3", 15, forces=True), TEST: morse_frames("NH3", 2)})
    # In double precision rounding does not grow to a difference.
    model = small(max_edges=200).model_copy(update={"dtype": "float64"})
    loss = LOSS.model_copy(update={"pitc": PITC(weight=0.1, share=0.5)})
    two_processes_learn_what_one_does(tmp_path, path, model, loss)


def gradient_of_an_epoch(folder: Path, monkeypatch, most: int) -> tuple[dict[str, torch.Tensor], int]:
    """Return the summed gradients of an epoch at fixed weights, each times its structures, and its number of steps."""
    folder.mkdir()
    frames = [from_atoms(atoms) for atoms in morse_frames("H2O", 6) + crystals(6) + morse_frames("NH3", 4)]
    graphs = [graph(structure, CUTOFF, torch.float64) for structure in frames]
    sizes = np.array([each.edge_index.shape[1] for each in graphs])
    order = OrderBySize(sizes, (most, 0), 3)
    structures, step = [], 0
    while sum(structures) < len(graphs):
        structures.append(len(order.frames(step)))
        step += 1
    training = Training(steps=step, max_edges=most, validate_every=step, learning_rate=1e-30, gradient_clip=1e9)
    config = PaiNN(architecture="painn", cutoff=CUTOFF, features=8, layers=2, radial=4, dtype="float64")
    torch.manual_seed(0)
    potential = build_potential(config, frames)
    monkeypatch.setattr(Recording, "folder", folder, raising=False)
    monkeypatch.setattr(training_run, "PotentialModule", Recording)
    none = np.empty(0, dtype=np.int64)
    task = Task(training, Loss(forces=0.0), 3, graphs, [collate(graphs)], np.arange(16), sizes=(sizes, none))
    places, pieces = Places(folder, folder / "history.csv"), Pieces(folder / "pieces.json", "one")
    training_run._fit(copy.deepcopy(potential), task, places, Devices("cpu", 1), pieces)
    total: dict[str, torch.Tensor] = {}
    for number, count in enumerate(structures):
        gradients, _ = torch.load(folder / f"rank0-step{number}.pt")
        total = {name: total.get(name, 0.0) + count * gradient for name, gradient in gradients.items()}
    return total, step


def test_an_epoch_has_the_gradient_of_all_frames_at_once_however_it_is_cut(tmp_path, monkeypatch):
    expected, steps = gradient_of_an_epoch(tmp_path / "whole", monkeypatch, 1_000_000)
    found, more_steps = gradient_of_an_epoch(tmp_path / "cut", monkeypatch, 100)
    assert (steps, more_steps > 3) == (1, True)
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10 * scale)


# What is refused.


@pytest.mark.parametrize("most_held", [0.0, views.MOST_HELD])
def test_a_frame_that_has_more_edges_than_a_step_is_refused_before_training(dataset, tmp_path, monkeypatch, most_held):
    monkeypatch.setattr(views, "MOST_HELD", most_held)
    words = r"^model 'm': training\.max_edges: 20, and training frame (\d+) has (\d+) edges; raise max_edges, or lower"
    with pytest.raises(PiwslError, match=words) as refused:
        train_in(tmp_path, dataset, small(max_edges=20), LOSS)
    named = re.match(words, str(refused.value))
    assert named is not None
    frame, edges = map(int, named.groups())
    learned_from = training_run.frames_of_run(dataset, None, point(), small(max_edges=20), LOSS).training.indices
    counts = all_frames(dataset).edges(reach(small(max_edges=20), LOSS))
    assert counts[frame] == edges == counts[learned_from].max()
    with pytest.raises(PiwslError, match=r"90, 45 of them for frames of the training, and training frame"):
        train_in(tmp_path, dataset, small(max_edges=90), LOSS.model_copy(update={"pool": 0.5}))
    assert not (tmp_path / "checkpoints").exists()


def test_check_refuses_a_limit_that_a_frame_is_above(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "mine.xyz", morse_frames("CH3OH", 8))
    config = plain_experiment() | {"levels": {}, "sizes": [4]}
    config["datasets"] = {"mine": {"file": "mine.xyz", "test_frames": 2}}
    for most, code in ((30, 0), (29, 1)):
        config["models"]["painn"] |= {"atomic_references": "fitted", "training": {"max_edges": most}}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        result = CliRunner().invoke(app, ["check", "config.yaml"])
        assert result.exit_code == code
    said = "models.painn.training.max_edges: 29, and training frame 0 (CH4O) has 30 edges; raise max_edges, or lower th"
    assert said in result.output
    assert result.output.count("\n") == 1


def test_check_counts_the_frames_of_a_reach_once_whatever_runs_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "mine.xyz", morse_frames("CH3OH", 8))
    config = plain_experiment() | {"levels": {}, "sizes": [4]}
    config["datasets"] = {"mine": {"file": "mine.xyz", "test_frames": 2}}
    model = config["models"]["painn"] | {"atomic_references": "fitted", "training": {"max_edges": 30}}
    config["models"] = {"one": model, "other": model}
    weak = {"pitc": {"weight": 1}, "displacement": 0.01}
    config["losses"] = {"plain": {}, "weights": {"energy": 2}, "weak": weak, "weaker": weak | {"energy": 2}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    count, counted = edge_counts.count_neighbours, []

    def noted(structure, cutoff):
        counted.append(cutoff)
        return count(structure, cutoff)

    monkeypatch.setattr(edge_counts, "count_neighbours", noted)
    assert CliRunner().invoke(app, ["check", "config.yaml"]).exit_code == 0
    assert {round(cutoff - min(counted), 6): counted.count(cutoff) for cutoff in counted} == {0.0: 6, 0.08: 6}


@pytest.mark.parametrize("limit", [{"max_edges": 12}, {"max_atoms": 6}])
@pytest.mark.parametrize("larger", ["file", "test_file", "pool_file"])
def test_check_looks_at_those_geometries_that_are_learned_from(tmp_path, monkeypatch, larger, limit):
    monkeypatch.chdir(tmp_path)
    files = {key: f"{key}.xyz" for key in ("file", "test_file", "pool_file")}
    for seed, key in enumerate(files):
        name, rng = "H2O2" if key == larger else "H2O", np.random.default_rng(seed)
        write_frames(tmp_path / files[key], [displaced(name, 0.02, rng) for _ in range(4)])
    config = plain_experiment() | {"sizes": [2], "losses": {"weak": {"pitc": {"weight": 1}, "pool": 0.5}}}
    level = config["datasets"]["ammonia"]["level"]
    section = {"geometries": files, "level": level, "training_frames": 2, "test_frames": 1, "pool_frames": 2}
    config["datasets"] = {"mine": section}
    config["models"]["painn"]["training"] = limit
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(app, ["check", "config.yaml"])
    part = {"file": "training", "pool_file": "pool"}.get(larger)
    assert result.exit_code == (0 if part is None else 1), result.output
    if part is not None:
        assert f"of them for frames of the {part}, and {part} frame {larger}-0 (H2O2) has" in result.output


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"max_edges": 100, "batch_size": 8}, "max_edges: says how large a step is, as batch_size does; leave one"),
        ({"max_edges": 100, "max_atoms": 100}, "max_edges: says how large a step is, as max_atoms does; leave one"),
        ({"max_edges": 100, "compile": True}, "max_edges: steps differ in size, and compile is for one size"),
        ({"max_edges": 1}, "max_edges"),
    ],
)
def test_what_does_not_go_with_it_is_refused(keys, said):
    with pytest.raises(ConfigError, match=said):
        parse_section(Training, keys, "models.painn.training")


def test_a_training_without_it_is_what_it_was():
    assert "max_edges" not in Training().model_dump()
