"""Which frames are worth a label: those that a process or a committee is least sure of, and what becomes of a round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from helpers import displaced, morse_frames, plain_experiment
from run_files import files_of
from typer.testing import CliRunner

import piwsl
from piwsl.acquisition.choice import SHORTLIST, at_random, by_disagreement, by_force_variance, by_variance
from piwsl.acquisition.rounds import Bought, Labels, Wanted, choose_round, complete_round, take_bought
from piwsl.architectures.gaussian_process.likelihood import Parameters
from piwsl.architectures.gaussian_process.process import Network
from piwsl.cli import app
from piwsl.config import Acquisition, ConfigError, Experiment, Loss, parse_section
from piwsl.config.acquisition import round_name, round_number
from piwsl.data.batch import collate, graphs
from piwsl.data.dataset import TEST, TRAINING, Dataset, write_dataset
from piwsl.errors import PiwslError
from piwsl.evaluation.predict import predict
from piwsl.files import write_json, write_json_lines
from piwsl.models import Committee, Potential
from piwsl.preflight import check_experiment
from piwsl.records import Finding, Round, read_labellings, read_record
from piwsl.reference.engines.tblite import TBLite
from piwsl.reference.labelling import label_frames
from piwsl.reference.planning import label_spans, structures
from piwsl.reference.selection import descriptors
from piwsl.report.write import ForPrint, write_report
from piwsl.structures.frames import read_frames, write_frames
from piwsl.structures.structure import Structure, from_atoms

LABELLED = morse_frames("NH3", 8, forces=True)
PROCESS = {"architecture": "gaussian_process"}
COMMITTEE = {"architecture": "painn", "features": 8, "layers": 1, "members": 3, "training": {"steps": 20}}


def geometries(count: int, seed: int = 1, amplitude: float = 0.08) -> list[Structure]:
    rng = np.random.default_rng(seed)
    return [from_atoms(displaced("NH3", amplitude, rng)) for _ in range(count)]


@pytest.fixture(scope="module", params=[0.0, 1.0], ids=["energies alone", "with forces"])
def process(request, tmp_path_factory) -> Potential:
    return trained_process(tmp_path_factory.mktemp("process"), Loss(forces=request.param))


def trained_process(folder: Path, loss: Loss) -> Potential:
    potential = piwsl.train(LABELLED, folder, PROCESS, loss)
    network = potential.learned.network
    # A shorter length and more noise than the likeliest: else rounding, not the choice, would be looked at.
    network.set_parameters(Parameters(torch.full_like(network.lengths, 0.3), 1.0, 1e-3, 1e-2))
    return potential


@pytest.fixture(scope="module")
def committee(tmp_path_factory) -> Committee:
    return piwsl.train(LABELLED, tmp_path_factory.mktemp("committee"), COMMITTEE, Loss(forces=0.0))


# By variance.


def forces_variance(network: Network, potential: Potential, frames: list[Structure], seen: list[Structure]) -> float:
    """The sum of variances of all force components at some geometries once the energies of others are known, by
    central differences: the variance of a difference of two energies, which knows no covariance of forces."""
    known = knowing_energies(network, frames)
    step, total = 1e-3, 0.0
    for structure in seen:
        moved = []
        for atom in range(len(structure.numbers)):
            for axis in range(3):
                for side in (step, -step):
                    positions = structure.positions.copy()
                    positions[atom, axis] += side
                    moved.append(replace(structure, positions=positions))
        posterior = known.posterior(batch_of(potential, moved))
        covariance = posterior.covariance_left(posterior.positions, forces=False)[:, :, 0] * posterior.amplitude**2
        plus, minus = torch.arange(0, len(moved), 2), torch.arange(1, len(moved), 2)
        variances = covariance[plus, plus] + covariance[minus, minus] - 2 * covariance[plus, minus]
        total += float(variances.sum()) / (2 * step) ** 2
    return total


def knowing_energies(network: Network, frames: list[Structure]) -> Network:
    """A process as of `knowing_more` that knows of these structures the energies alone."""
    found = knowing_more(network, frames)
    found.labelled[: len(network.labelled)] = network.labelled
    found.labelled[len(network.labelled) :, 1:] = False
    return found


def test_each_frame_by_force_variance_is_the_one_that_leaves_least_of_forces_everywhere(process):
    candidates, network = geometries(6), process.learned.network
    chosen = by_force_variance(process, candidates, 3).order
    for number, index in enumerate(chosen):
        known = [candidates[each] for each in chosen[:number]]
        left = {
            each: forces_variance(network, process, [*known, candidates[each]], candidates)
            for each in range(len(candidates))
            if each not in chosen[:number]
        }
        assert index == min(left, key=left.__getitem__)


def test_what_an_energy_takes_away_is_what_is_less_of_the_variance_of_forces(process):
    candidates, network = geometries(4), process.learned.network
    gains = network.force_variance(batch_of(process, candidates), batch_of(process, candidates[:2]))
    before = forces_variance(network, process, [], candidates[:2])
    after = [forces_variance(network, process, [each], candidates[:2]) for each in candidates]
    np.testing.assert_allclose(gains.gains(), before - np.array(after), rtol=5e-3)
    gains.learn(1)
    both = [forces_variance(network, process, [candidates[1], each], candidates[:2]) for each in candidates]
    np.testing.assert_allclose(gains.gains()[[0, 2, 3]], after[1] - np.array(both)[[0, 2, 3]], rtol=1e-2)


def test_of_frames_alike_one_is_bought_and_the_spread_is_that_of_the_energies(process):
    first, second, *_ = geometries(2)
    choice = by_force_variance(process, [first, first, second], 3)
    assert choice.order.index(2) < 2
    np.testing.assert_allclose(choice.spread, by_variance(process, [first, first, second], 1).spread)
    assert by_force_variance(process, [first], 5).order == [0]


def batch_of(potential: Potential, frames: list[Structure]):
    return collate(graphs(frames, potential.cutoff, potential.dtype, range(len(frames))))


def knowing_more(network: Network, frames: list[Structure]) -> Network:
    """Return a process with the same parameters that knows the labels of some more structures: all of it computed anew.

    What the labels are, weights would say, which no variance depends on.
    """
    positions = torch.tensor(np.array([each.positions - each.positions.mean(axis=0) for each in frames]))
    whole = torch.cat([network.positions, positions.reshape(-1, *network.positions.shape[1:])])
    found = Network(len(whole), whole.shape[1], len(network.permutations), forces=network.weights.shape[1] > 1)
    found.numbers.copy_(network.numbers)
    found.permutations.copy_(network.permutations)
    found.positions.copy_(whole)
    found.labelled.fill_(True)
    if network.averaged is not None:
        found.labelled[:, 0] = False
        found.averaged = torch.ones(len(whole), dtype=torch.bool)
    found.set_parameters(network.kernel_parameters)
    return found


def test_each_frame_is_the_one_of_largest_variance_after_those_before_it_are_known(process):
    check_order_by_variance(process)


def test_of_forces_alone_each_frame_is_the_one_of_largest_variance_after_those_before_it_are_known(tmp_path):
    check_order_by_variance(trained_process(tmp_path / "gradient", Loss(energy=0)))


def check_order_by_variance(process: Potential) -> None:
    candidates, network = geometries(12), process.learned.network
    batch, chosen = batch_of(process, candidates), by_variance(process, candidates, 6).order
    posterior = network.posterior(batch)
    for number, index in enumerate(chosen):
        expected = knowing_more(network, [candidates[each] for each in chosen[:number]]).energy_variance(batch)
        torch.testing.assert_close(posterior.variance(), expected, rtol=1e-6, atol=1e-10)
        left = [each for each in range(12) if each not in chosen[:number]]
        assert index == max(left, key=lambda each: expected[each])
        posterior.learn(index)
    assert len(set(chosen)) == 6


def test_the_spread_before_is_that_of_predictions_and_the_order_is_not(process):
    candidates = geometries(30)
    choice = by_variance(process, candidates, 10)
    spread = predict(process, candidates).energy_std
    np.testing.assert_allclose(choice.spread, spread, rtol=1e-6)
    assert choice.unit == "eV"
    # Whoever goes by the variance of the beginning buys neighbours of what is bought already.
    assert choice.order[0] == np.argmax(spread)
    assert choice.order != np.argsort(-spread)[:10].tolist()


def test_labels_of_candidates_are_not_looked_at(process):
    bare = geometries(10)
    labelled = [
        from_atoms(piwsl.structures.frames.label(each.atoms(), 1e6 * number, None)) for number, each in enumerate(bare)
    ]
    assert by_variance(process, bare, 5).order == by_variance(process, labelled, 5).order


def test_of_frames_alike_the_first_is_bought_and_the_others_last(process):
    first, second, *_ = geometries(2)
    turned = first.atoms()
    turned.rotate(70, (1, 2, 3))
    order = by_variance(process, [first, first, second, from_atoms(turned)], 4).order
    assert order.index(2) < 2
    assert order.index(0) < order.index(1)


def test_a_single_candidate_is_chosen_and_no_more(process):
    choice = by_variance(process, geometries(1), 5)
    assert choice.order == [0]
    assert choice.spread.shape == (1,)


def test_a_model_without_a_variance_and_another_molecule_are_refused(process, committee):
    with pytest.raises(PiwslError, match="architecture 'painn' has no variance that further labels change"):
        by_variance(committee, geometries(2), 1)
    with pytest.raises(PiwslError, match="was not trained on O"):
        by_variance(process, [from_atoms(molecule("H2O"))], 1)
    with pytest.raises(PiwslError, match="one molecule"):
        by_variance(process, [from_atoms(molecule("N2"))], 1)


# By disagreement.


def test_frames_are_the_farthest_among_those_that_a_committee_disagrees_most_on(committee):
    candidates, bought = geometries(40), [from_atoms(atoms) for atoms in LABELLED]
    choice = by_disagreement(committee, candidates, bought, 3, reserve=2)
    spread = np.array([np.sqrt((std**2).sum(axis=1)).max() for std in predict(committee, candidates).forces_std])
    np.testing.assert_allclose(choice.spread, spread)
    shortlist = set(np.argsort(-spread)[: SHORTLIST * 3].tolist())
    assert set(choice.order) <= shortlist
    assert len(set(choice.order)) == 5
    vectors = descriptors([each.atoms() for each in (*candidates, *bought)])
    known = list(range(len(candidates), len(vectors)))
    for index in choice.order:
        nearest = {
            each: np.linalg.norm(vectors[known] - vectors[each], axis=1).min() for each in shortlist - set(known)
        }
        assert nearest[index] == max(nearest.values())
        known.append(index)


def test_disagreement_is_asked_of_committees_about_molecules(committee, process):
    assert by_disagreement(committee, geometries(1), [], 4, reserve=4).order == [0]
    with pytest.raises(PiwslError, match="no committee"):
        by_disagreement(process, geometries(2), [], 1)
    with pytest.raises(PiwslError, match="periodic"):
        by_disagreement(committee, [from_atoms(bulk("N", "fcc", a=4.0))], [], 1)


# By chance.


def test_chance_has_one_order_a_seed_which_begins_with_all_elements():
    frames = [from_atoms(molecule(name)) for name in ("H2", *["H2O"] * 30, "CH4", "NH3")]
    order = at_random(frames, 0)
    assert sorted(order) == list(range(33))
    assert order == at_random(frames, 0)
    assert order != at_random(frames, 1)
    first = set().union(*(set(frames[index].numbers.tolist()) for index in order[:3]))
    assert first == {1, 6, 7, 8}


# Rounds.


def written(folder: Path, frames: list[Atoms]) -> Path:
    path = folder / "candidates.xyz"
    write_frames(path, frames)
    return path


def rounds_of(
    folder: Path, candidates: Path, *counts: int, by: str = "random", model: Path | None = None
) -> list[Round]:
    """Choose rounds of so many frames; the first at random, all others as said."""
    records: list[Path] = []
    for number, count in enumerate(counts):
        wanted = Wanted("d", number, count, by if number else "random", seed=0)
        record = folder / f"{number}.json"
        asked = model if number else None
        choose_round(wanted, candidates, records, asked, folder / f"{number}.xyz", record)
        records.append(record)
    return [read_record(Round, path) for path in records]


def test_rounds_share_no_frame_and_more_rounds_begin_with_the_fewer(tmp_path):
    candidates = written(tmp_path, [each.atoms() for each in geometries(20)])
    rounds = rounds_of(tmp_path, candidates, 4, 3, 3)
    bought = [index for each in rounds for index in each.bought]
    assert len(bought) == len(set(bought)) == 10
    assert [each.candidates for each in rounds] == [20, 16, 13]
    assert [len(each.reserve) for each in rounds] == [4, 3, 3]
    # Chance goes on where it was, so that further rounds leave those before as they are.
    assert bought == at_random(geometries(20), 0)[:10]
    frames = read_frames(tmp_path / "1.xyz")
    every = read_frames(candidates)
    for atoms, index in zip(frames, [*rounds[1].bought, *rounds[1].reserve], strict=True):
        np.testing.assert_array_equal(atoms.positions, every[index].positions)


def test_a_model_is_asked_about_the_candidates_that_are_left(process, tmp_path, capsys):
    model = tmp_path / "model.safetensors"
    piwsl.models.save_model(model, process, {})
    candidates = geometries(12)
    first, second = rounds_of(
        tmp_path, written(tmp_path, [each.atoms() for each in candidates]), 3, 4, by="variance", model=model
    )
    left = [index for index in range(12) if index not in first.bought]
    choice = by_variance(process, [candidates[index] for index in left], 8)
    assert [*second.bought, *second.reserve] == [left[position] for position in choice.order]
    assert second.spread_largest == pytest.approx(choice.spread.max())
    assert second.spread_median == pytest.approx(np.median(choice.spread))
    assert (first.unit, first.spread_median) == (None, None)
    assert "round 1: 4 of 9 candidates, by variance; spread before: median" in capsys.readouterr().out


def test_the_last_candidates_are_bought_without_a_reserve_and_more_are_refused(tmp_path):
    candidates = written(tmp_path, [each.atoms() for each in geometries(5)])
    rounds = rounds_of(tmp_path, candidates, 3, 2)
    assert rounds[1].reserve == []
    with pytest.raises(PiwslError, match=r"datasets.d.acquisition: round 2 takes 1 frames, and 0 of 5 are left"):
        rounds_of(tmp_path, candidates, 3, 2, 1)


def clash(atoms: Atoms) -> Atoms:
    """Return a frame that no level labels: two atoms on top of one another."""
    broken = atoms.copy()
    broken.positions[1] = broken.positions[2] + 0.1
    return broken


def completed(folder: Path, frames: list[Atoms], count: int, max_failed: float = 0.5) -> Round:
    """Choose a start of some frames, label them in two jobs, and complete it."""
    candidates = written(folder, frames)
    (chosen,) = rounds_of(folder, candidates, count)
    store, level = folder / "store", TBLite.model_validate({"engine": "tblite", "method": "gfn2-xtb"})
    own = read_frames(folder / "0.xyz")[:count]
    for name, some in (("a", own[:1]), ("b", own[1:])):
        labelled, records = label_frames(some, level, store, None, 1000, lambda line: None)
        write_frames(folder / f"{name}.xyz", labelled)
        write_json_lines(folder / f"{name}.jsonl", records)
    complete_round(
        folder / "0.json", folder / "0.xyz", [folder / "a.xyz", folder / "b.xyz"],
        [folder / "a.jsonl", folder / "b.jsonl"], Labels(level, None, store, 1000, max_failed),
        Bought(folder / "bought.xyz", folder / "further.jsonl", folder / "bought.json"),
    )  # fmt: skip
    assert chosen.failed == {}
    return read_record(Round, folder / "bought.json")


def test_a_round_whose_frames_are_labelled_is_as_it_was_chosen(tmp_path):
    found = completed(tmp_path, [each.atoms() for each in geometries(10)], 4)
    assert found == read_record(Round, tmp_path / "0.json")
    assert len(read_frames(tmp_path / "bought.xyz")) == 4
    assert read_labellings(tmp_path / "further.jsonl") == []


def test_the_next_best_take_the_places_of_frames_that_fail_and_are_not_asked_for_again(tmp_path, capsys):
    frames = [each.atoms() for each in geometries(10)]
    order = at_random(geometries(10), 0)
    # One of the first job, which is all of it, one of the second, and the first of the reserve.
    for position in (0, 2, 4):
        frames[order[position]] = clash(frames[order[position]])
    found = completed(tmp_path, frames, 4, max_failed=0.8)
    assert found.bought == [order[position] for position in (1, 3, 5, 6)]
    assert set(found.failed) == {order[position] for position in (0, 2, 4)}
    assert all(reason.startswith("geometry: atoms ") for reason in found.failed.values())
    for atoms, index in zip(read_frames(tmp_path / "bought.xyz"), found.bought, strict=True):
        np.testing.assert_allclose(atoms.positions, frames[index].positions, atol=1e-6)
        assert "REF_energy" in atoms.info
    assert [row.status for row in read_labellings(tmp_path / "further.jsonl")] == ["failed", "ok", "ok"]
    assert f"candidate {order[5]} takes the place of one that failed" in capsys.readouterr().out
    wanted = Wanted("d", 1, 3, "random", seed=0)
    choose_round(
        wanted, tmp_path / "candidates.xyz", [tmp_path / "bought.json"], None, tmp_path / "1.xyz", tmp_path / "1.json"
    )
    assert read_record(Round, tmp_path / "1.json").bought == order[7:]


def test_a_round_stops_where_more_fail_than_may_or_nobody_is_left(tmp_path):
    good = [each.atoms() for each in geometries(8)]
    order = at_random(geometries(8), 0)
    broken = [clash(atoms) if order.index(index) in (0, 1) else atoms for index, atoms in enumerate(good)]
    with pytest.raises(PiwslError, match=r"2 frames failed, of 4, more than max_failed \(0.1\) allows: geometry"):
        completed(tmp_path, broken, 4, max_failed=0.1)
    # One may fail, however few they are.
    one = [clash(atoms) if order.index(index) == 0 else atoms for index, atoms in enumerate(good)]
    assert len(completed(tmp_path, one, 4, max_failed=0.0).bought) == 4
    all_of_them = at_random(geometries(3), 0)
    few = [clash(atoms) if index == all_of_them[0] else atoms for index, atoms in enumerate(good[:3])]
    with pytest.raises(PiwslError, match="1 frames failed, and no candidate is left to take the place"):
        completed(tmp_path, few, 3)


def test_published_frames_are_taken_in_the_order_in_which_they_were_bought(tmp_path):
    whole = tmp_path / "training.h5"
    write_dataset(whole, {TEST: LABELLED[:2], TRAINING: LABELLED[2:]}, {1: -13.6}, [Finding(said="odd")])
    rounds_of(tmp_path, whole, 2, 2)
    take_bought(whole, [tmp_path / "0.json", tmp_path / "1.json"], tmp_path / "n4.h5")
    bought = [index for number in (0, 1) for index in read_record(Round, tmp_path / f"{number}.json").bought]
    with Dataset(tmp_path / "n4.h5") as found:
        energies = [each.energy for each in found.structures(found.indices(TRAINING))]
        assert found.atomic_energies() == {1: -13.6}
        assert len(found) == 4
    assert energies == [LABELLED[2:][index].info["REF_energy"] for index in bought]
    assert all("REF_energy" not in atoms.info for atoms in read_frames(tmp_path / "0.xyz"))


# What the config says.

BY_VARIANCE = {"start": 4, "rounds": 2, "each": 3, "by": "variance", "model": "process", "loss": "supervised"}


def experiment(**edits: Any) -> dict[str, Any]:
    """Return an experiment of a computed dataset with an acquisition, some of its keys replaced."""
    config = plain_experiment()
    config["datasets"]["ammonia"] |= {"training_frames": 20, "acquisition": BY_VARIANCE | edits}
    models = {"process": PROCESS, "painn": config["models"]["painn"], "committee": COMMITTEE}
    only = [{"model": "process", "loss": "supervised"}]
    losses = {"supervised": {}, "weak": {"pitc": {"weight": 0.1}}}
    return config | {"models": models, "losses": losses, "sizes": [4, 10], "seeds": [0, 1], "only": only}


def test_sizes_and_rounds_name_one_another():
    acquisition = Acquisition.model_validate(BY_VARIANCE)
    assert acquisition.sizes == [4, 7, 10]
    assert [acquisition.round_of(size) for size in acquisition.sizes] == [0, 1, 2]
    assert [acquisition.frames_of(number) for number in acquisition.numbers] == [4, 3, 3]
    assert [acquisition.chooser(number) for number in acquisition.numbers] == ["random", "variance", "variance"]
    assert [round_number(name) for name in (round_name(12), "training", "round-", "round-1x")] == [12, None, None, None]


def test_the_models_that_are_asked_are_runs_of_each_size_but_the_last():
    found = parse_section(Experiment, experiment(seed=5), "config.yaml")
    assert [(run.model, run.loss, run.size, run.seed) for run in found.asked("ammonia")] == [
        ("process", "supervised", 4, 5), ("process", "supervised", 7, 5),
    ]  # fmt: skip
    chance = parse_section(Experiment, experiment(by="random", model=None, loss=None), "config.yaml")
    assert chance.asked("ammonia") == []


@pytest.mark.parametrize(
    ("edits", "complaint"),
    [
        ({"rounds": 6}, "acquisition: start and rounds take 22 frames, and there are 20 training_frames to choose"),
        ({"model": "painn"}, "acquisition.model: 'painn' has no variance; name a model of"),
        ({"by": "disagreement", "model": "painn"}, "'painn' is no committee, whose members could disagree"),
        ({"by": "disagreement"}, "acquisition.model: 'process' is no committee"),
        ({"model": "proces"}, "acquisition.model: no model 'proces'; did you mean 'process'?"),
        ({"loss": "weeak"}, "acquisition.loss: no loss 'weeak'"),
        ({"model": None}, "acquisition: model: this key is missing; by: variance asks a model of that"),
        ({"by": "random"}, "acquisition: model: chance asks no model; leave it out"),
        ({"start": 1}, "acquisition.start"),
        ({"rounds": 0}, "acquisition.rounds"),
        ({"each": 2}, "sizes: 10 of dataset 'ammonia' is none of 4, 6, 8, which its acquisition has"),
        ({"loss": "weak"}, "losses.weak.pitc: a Gaussian process knows"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(edits, complaint):
    with pytest.raises(ConfigError) as refused:
        parse_section(Experiment, experiment(**edits), "config.yaml")
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def given(folder: Path, frames: list[Atoms], **edits: Any) -> dict[str, Any]:
    write_frames(folder / "mine.xyz", frames)
    config = experiment()
    mine = {"file": str(folder / "mine.xyz"), "test_frames": 2, "acquisition": BY_VARIANCE | edits}
    return config | {"datasets": {"mine": mine}, "sizes": [4, 7]}


def test_published_frames_must_suffice_and_be_molecules(tmp_path):
    check_experiment(parse_section(Experiment, given(tmp_path, morse_frames("NH3", 12)), "config.yaml"), "config.yaml")
    few = parse_section(Experiment, given(tmp_path, morse_frames("NH3", 11)), "config.yaml")
    with pytest.raises(ConfigError, match="start and rounds take 10 frames, and there are 9 to choose from"):
        check_experiment(few, "config.yaml")
    frames = morse_frames("NH3", 12)
    for atoms in frames:
        atoms.set_cell(np.eye(3) * 9)
        atoms.pbc = True
    crystal = parse_section(Experiment, given(tmp_path, frames), "config.yaml")
    with pytest.raises(
        ConfigError, match=r"datasets.mine.acquisition.by: variance is of molecules, and frames are peri"
    ):
        check_experiment(crystal, "config.yaml")


def test_variance_is_of_one_molecule(tmp_path):
    both = given(tmp_path, morse_frames("NH3", 8) + morse_frames("H2O", 8))
    with pytest.raises(ConfigError, match="variance is of one molecule, and frames are of H2O and H3N"):
        check_experiment(parse_section(Experiment, both, "config.yaml"), "config.yaml")
    chance = given(tmp_path, morse_frames("NH3", 8) + morse_frames("H2O", 8), by="random", model=None, loss=None)
    chance["only"] = [{"model": "painn", "loss": "supervised"}]
    check_experiment(parse_section(Experiment, chance, "config.yaml"), "config.yaml")


def test_rounds_are_labelled_in_place_of_the_frames_that_they_are_chosen_from():
    found = parse_section(Experiment, experiment(), "config.yaml")
    dataset = found.datasets["ammonia"]
    spans = label_spans(dataset, structures(dataset), found.levels[dataset.level])
    frames = {labels: span.last - span.first for labels, span in spans.items() if span.part != TEST}
    assert frames == {"round-0": 4, "round-1": 3, "round-2": 3}


def test_the_plan_counts_rounds_and_no_other_training_frame(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(yaml.safe_dump(experiment()))
    result = CliRunner().invoke(app, ["plan", "config.yaml"])
    assert result.exit_code == 0, result.output
    assert "  rounds: 10 frames, frames not made yet: 3 jobs" in result.output
    # Of sizes 4 and 7, seed 0, whose models choose, one is of the grid.
    assert "4 training runs, and 1 whose models choose frames." in result.output
    assert "training: " not in result.output


# The report.


def test_the_report_says_what_chose_each_round_and_what_took_the_place_of_frames_that_failed(tmp_path):
    found = parse_section(Experiment, experiment(), "config.yaml")
    start = Round(dataset="ammonia", round=0, by="random", candidates=20, bought=[7, 3, 1, 0], reserve=[2])
    first = Round(
        dataset="ammonia", round=1, by="variance", learned=4, candidates=16, unit="eV", spread_median=0.0123,
        spread_largest=0.4567, bought=[5, 9, 8], failed={6: "SCF: <none> converged"},
    )  # fmt: skip
    for number, record in enumerate((start, first)):
        write_json(tmp_path / f"{number}.json", record.model_dump())
    files = files_of(tmp_path, found.runs(), {"supervised": [10.0, 20.0]})
    rounds = [tmp_path / "0.json", tmp_path / "1.json"]
    page, table = tmp_path / "report.html", tmp_path / "results.csv"
    write_report(found, replace(files, rounds=rounds), page, table, ForPrint(tmp_path / "figures", tmp_path / "tables"))
    html = page.read_text()
    assert (
        "4 frames at random, then 2 rounds of 3 by variance of the model process with loss supervised, seed 0" in html
    )
    assert "ammonia, round 1: candidate 6: SCF: &lt;none&gt; converged" in html
    assert [cell in html for cell in (">12.3<", ">457<", ">meV<")] == [True] * 3
    printed = pd.read_csv(tmp_path / "tables" / "acquisition.csv")
    assert printed["bought"].tolist() == [4, 3]
    assert printed["failed"].tolist() == [0, 1]
    write_report(found, files, page, table)
    assert "Which frames were labelled" not in page.read_text()
