"""A budget of CPU hours in place of numbers of frames: what it buys, and that this is what runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import ROOT
from typer.testing import CliRunner

from piwsl.cli import app
from piwsl.config import ComputedDataset, ConfigError, Experiment, json_schema
from piwsl.config.level_checks import unquestioned
from piwsl.preflight import check_experiment, load_experiment
from piwsl.reference.budget import Division, planned
from piwsl.reference.planning import label_batches, sampling_cpu_s, structures
from piwsl.workflow.cheap_labels import CheapJobs
from piwsl.workflow.planned import divisions, parse_experiment

ACQUISITION = {"by": "variance", "model": "process", "loss": "supervised"}
CONFIG: dict[str, Any] = {
    "experiment": "few",
    "levels": {"small": {"method": "hf", "basis": "sto-3g"}},
    "datasets": {
        "methanol": {
            "molecule": {"name": "CH3OH"},
            "sampling": {"temperatures": [300, 500]},
            "level": "ccsdt-cbs",
            "cheap_levels": ["gfn2-xtb", "small"],
            "budget": {"cpu_hours": 1.0},
        }
    },
    "models": {"process": {"architecture": "gaussian_process"}},
    "losses": {"supervised": {}},
    "seeds": [0],
}
STUDENT = {"architecture": "painn", "teacher": {"model": "process", "loss": "supervised"}}


def edited(models: Mapping[str, Any] | None = None, **dataset: Any) -> dict[str, Any]:
    """The experiment with other keys of its dataset; None takes one out."""
    keys = deepcopy(CONFIG)
    section = keys["datasets"]["methanol"] | dataset
    keys["datasets"]["methanol"] = {key: value for key, value in section.items() if value is not None}
    keys["models"] |= models or {}
    return keys


def division(keys: Mapping[str, Any]) -> Division:
    return divisions(keys, "config.yaml")["methanol"]


def dataset(keys: Mapping[str, Any]) -> ComputedDataset:
    section = parse_experiment(keys, "config.yaml").datasets["methanol"]
    assert isinstance(section, ComputedDataset)
    return section


def hours_of(experiment: Experiment) -> float:
    """What labels and sampling take as the jobs that will run are estimated, one by one."""
    section = experiment.datasets["methanol"]
    assert isinstance(section, ComputedDataset)
    every = structures(section)
    jobs = [*label_batches(section, every, experiment.levels[section.level]).values()]
    cheap = CheapJobs("methanol", section, experiment.levels)
    jobs += [job for level in cheap.levels for part in cheap.parts for job in cheap.batches(level, part).values()]
    sampled = sum(sampling_cpu_s(section, every, part) for part in ("training", "test", "pool"))
    return (sum(job.cpu_s for job in jobs) + sampled) / 3600


@pytest.mark.parametrize("hours", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("acquisition", [None, ACQUISITION])
def test_what_is_planned_is_what_runs_and_is_within_the_budget(
    hours: float, acquisition: dict[str, str] | None
) -> None:
    keys = edited(models={"student": STUDENT}, budget={"cpu_hours": hours}, acquisition=acquisition)
    said = division(keys).cpu_hours
    assert said == pytest.approx(hours_of(parse_experiment(keys, "config.yaml")))
    assert 0.85 * hours < said <= hours


def test_the_keys_that_stand_for_the_budget_are_the_same_experiment() -> None:
    keys = edited(models={"student": STUDENT}, acquisition=ACQUISITION)
    found = division(keys)
    rounds = found.acquisition
    assert rounds is not None
    said = edited(
        models={"student": STUDENT},
        acquisition=ACQUISITION | {"rounds": rounds.rounds, "each": rounds.each},
        budget=None,
        **found.frames,
    )
    assert dataset(keys).model_copy(update={"budget": None}) == dataset(said)


@pytest.mark.parametrize("edits", [{}, {"acquisition": ACQUISITION}, {"training_forces": True, "level": "dft"}])
def test_the_report_plans_as_the_budget_was_divided(edits: dict[str, Any]) -> None:
    keys = edited(models={"student": STUDENT}, **edits)
    experiment = parse_experiment(keys, "config.yaml")
    section = experiment.datasets["methanol"]
    assert isinstance(section, ComputedDataset)
    cheap = [unquestioned(experiment.levels[name]) for name in section.cheap_levels]
    assert planned("methanol", section, experiment.levels[section.level], cheap) == division(keys).shares


def test_a_larger_budget_buys_more_of_everything() -> None:
    small, large = (division(edited(budget={"cpu_hours": hours})) for hours in (0.5, 2.0))
    assert small.learned < large.learned
    assert small.frames["test_frames"] < large.frames["test_frames"]


def test_test_frames_get_their_share_at_most() -> None:
    found = division(edited(budget={"cpu_hours": 2.0, "test_share": 0.5}, forces_by="differences"))
    of_test = sum(share.cpu_hours for share in found.shares if "test" in share.what)
    assert 0.5 < of_test <= 1.0


def test_what_is_not_needed_is_left_of_a_large_budget() -> None:
    found = division(edited(budget={"cpu_hours": 500}))
    assert (found.learned, found.frames["test_frames"], found.frames["test_force_frames"]) == (1000, 200, 16)
    assert found.cpu_hours < 100
    by_differences = division(edited(budget={"cpu_hours": 500}, forces_by="differences"))
    assert (by_differences.learned, by_differences.frames["test_slope_frames"]) == (1000, 100)


def test_the_test_gets_slopes_where_forces_take_dozens_of_energies_and_else_forces() -> None:
    radical = {"name": "CH3", "multiplicity": 2}
    for edits in (
        {"forces_by": "differences"},
        {"level": "ccsdt-cbs-tz", "budget": {"cpu_hours": 3}},
        {"molecule": radical},
    ):
        differences = division(edited(**edits)).frames
        assert differences["test_force_frames"] == 0
        assert differences["test_slope_frames"] > 10
    for level in ("ccsdt-cbs", "dft"):
        analytic = division(edited(level=level, cheap_levels=["gfn2-xtb"], budget={"cpu_hours": 5})).frames
        assert analytic["test_force_frames"] == 16
        assert analytic["test_slope_frames"] == 0


def test_forces_and_slopes_of_the_test_are_of_as_many_frames_as_tell_an_error_or_of_none() -> None:
    """One slope has no standard error, and one frame's forces tell little of others: energies take their part."""
    for molecule, key, fewest in (
        ({"name": "CH3OH"}, "test_force_frames", 3),
        ({"name": "CH3", "multiplicity": 2}, "test_slope_frames", 10),
    ):
        budgets = [{"cpu_hours": hours} for hours in (0.08, 0.1, 0.12, 0.15, 0.2)]
        found = [division(edited(molecule=molecule, cheap_levels=["gfn2-xtb"], budget=each)) for each in budgets]
        counts = [each.frames[key] for each in found]
        assert counts[0] == 0 < fewest <= counts[-1]
        assert [number for number in counts if 0 < number < fewest] == []
        assert {"test_force_frames": 0, "test_slope_frames": 0, key: counts[-1]}.items() <= found[-1].frames.items()
        without = division(edited(molecule=molecule, cheap_levels=["gfn2-xtb"], budget=budgets[0], **{key: 0}))
        assert without == found[0]
    assert division(edited(test_force_frames=1)).frames["test_force_frames"] == 1


def test_a_pool_is_for_what_learns_from_one() -> None:
    assert dataset(edited()).pool_frames is None
    taught = dataset(edited(models={"student": STUDENT}))
    assert taught.pool_frames == min(1000, 4 * taught.training_frames)


def test_numbers_that_are_said_stay() -> None:
    found = dataset(edited(test_frames=33, test_force_frames=0))
    assert (found.test_frames, found.test_force_frames) == (33, 0)
    rounds = dataset(edited(acquisition=ACQUISITION | {"rounds": 3})).acquisition
    assert rounds is not None
    assert rounds.rounds == 3
    assert dataset(edited(acquisition=ACQUISITION | {"each": 10})).acquisition.each == 10  # type: ignore[union-attr]  # as above
    forces = dataset(edited(test_force_frames=20, test_slope_frames=7, budget={"cpu_hours": 9}))
    assert (forces.test_force_frames, forces.test_slope_frames) == (20, 7)
    assert forces.test_frames >= 27
    few = dataset(edited(test_frames=12, budget={"cpu_hours": 9}))
    assert (few.test_force_frames, few.test_slope_frames) == (12, 0)
    few = dataset(edited(test_frames=12, budget={"cpu_hours": 9}, forces_by="differences"))
    assert (few.test_force_frames, few.test_slope_frames) == (0, 12)


def test_training_forces_cost_what_they_take() -> None:
    energies = division(edited(level="dft", cheap_levels=["gfn2-xtb"]))
    forces = division(edited(level="dft", cheap_levels=["gfn2-xtb"], training_forces=True))
    assert forces.learned < energies.learned


def test_forces_are_bought_of_as_many_frames_as_all_models_learn_from() -> None:
    """A Gaussian process takes 8000 labels, of methanol 421 frames with forces."""
    much = {"level": "mp2-cbs", "budget": {"cpu_hours": 1000}}
    keys = edited(training_forces=True, **much)
    assert dataset(keys).training_frames == 420
    check_experiment(parse_experiment(keys, "config.yaml"), "config.yaml")
    assert dataset(edited(**much)).training_frames == 1000
    assert dataset(keys | {"models": {"painn": {"architecture": "painn"}}}).training_frames == 1000


def test_candidates_are_several_times_what_is_bought() -> None:
    found = dataset(edited(acquisition=ACQUISITION))
    assert found.acquisition is not None
    assert 5 * found.acquisition.frames <= found.training_frames <= 2.5 * 5 * found.acquisition.frames
    assert found.acquisition.rounds <= 8


@pytest.mark.parametrize(
    "said",
    [{"each": 10}, {"each": 40}, {"each": 3}, {"rounds": 30}, {"rounds": 3}, {"start": 300}, {"rounds": 4, "each": 7}],
)
@pytest.mark.parametrize("hours", [0.7, 2.0])
def test_what_is_said_of_an_acquisition_stays(said: dict[str, int], hours: float) -> None:
    hours += 2 * ("start" in said)
    rounds = dataset(edited(acquisition=ACQUISITION | said, budget={"cpu_hours": hours})).acquisition
    assert rounds is not None
    assert {key: getattr(rounds, key) for key in said} == said
    assert rounds.rounds >= 1 <= rounds.each


def test_training_frames_that_are_said_bound_the_rounds() -> None:
    found = dataset(edited(acquisition=ACQUISITION, training_frames=100, budget={"cpu_hours": 5}))
    assert found.acquisition is not None
    assert found.training_frames == 100 >= found.acquisition.frames > 70


@pytest.mark.parametrize("forces_by", [None, "differences"])
def test_a_larger_budget_keeps_the_frames_of_a_smaller(forces_by: str | None) -> None:
    """All parts take the first frames of what is sampled; forces, or slopes, are of the first test frames."""
    edits = {"models": {"student": STUDENT}, "forces_by": forces_by}
    divided = [division(edited(**edits, budget={"cpu_hours": hours})) for hours in (0.3, 0.6, 1, 2)]
    for small, large in pairwise(divided):
        assert all(large.frames[key] >= number for key, number in small.frames.items())
        assert 0 in (large.frames["test_force_frames"], large.frames["test_slope_frames"])


def test_the_hours_that_an_error_asks_for_suffice() -> None:
    for edits in ({"training_frames": 600}, {"acquisition": ACQUISITION | {"start": 400}}, {"training_forces": True}):
        with pytest.raises(ConfigError, match=r"too few: \d+ frames") as raised:
            division(edited(**edits, budget={"cpu_hours": 0.02}))
        hours = float(re.search(r"take ([\d.e+-]+);", str(raised.value))[1])  # type: ignore[index]  # matched above
        assert division(edited(**edits, budget={"cpu_hours": hours})).cpu_hours <= hours


def test_sizes_are_halves_of_what_there_is() -> None:
    section = dataset(edited())
    frames = section.training_frames
    sizes = {run.size for run in parse_experiment(edited(), "config.yaml").runs()}
    assert sizes == {frames, frames // 2, frames // 4, *([frames // 8] if frames >= 80 else [])}
    bought = parse_experiment(edited(acquisition=ACQUISITION), "config.yaml")
    rounds = bought.datasets["methanol"].acquisition
    assert rounds is not None
    assert {run.size for run in bought.runs()} <= set(rounds.sizes)
    assert max(run.size for run in bought.runs()) == rounds.frames


def test_given_geometries_are_all_that_there_is(tmp_path: Path) -> None:
    from ase.build import molecule
    from ase.io import write

    frames = [molecule("CH3OH") for _ in range(60)]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.02, seed=number)
    write(tmp_path / "frames.xyz", frames)
    file = {"geometries": {"file": str(tmp_path / "frames.xyz")}, "molecule": None, "sampling": None}
    for models in ({}, {"student": STUDENT}):
        experiment = parse_experiment(edited(models=models, budget={"cpu_hours": 9}, **file), "config.yaml")
        check_experiment(experiment, "config.yaml")
        section = experiment.datasets["methanol"]
        assert isinstance(section, ComputedDataset)
        assert section.training_frames + (section.pool_frames or 0) <= 48
        assert section.test_frames == 12
        assert (section.pool_frames is not None) == bool(models)


def test_a_pool_with_a_file_takes_nothing_from_training_frames(tmp_path: Path) -> None:
    from ase.build import molecule
    from ase.io import write

    frames = [molecule("CH3OH") for _ in range(80)]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.02, seed=number)
    files = {"file": frames[:40], "test_file": frames[40:55], "pool_file": frames[55:]}
    for key, some in files.items():
        write(tmp_path / f"{key}.xyz", some)
    said = {"geometries": {key: str(tmp_path / f"{key}.xyz") for key in files}, "molecule": None, "sampling": None}
    experiment = parse_experiment(edited(models={"student": STUDENT}, budget={"cpu_hours": 9}, **said), "config.yaml")
    check_experiment(experiment, "config.yaml")
    section = experiment.datasets["methanol"]
    assert isinstance(section, ComputedDataset)
    assert (section.training_frames, section.test_frames, section.pool_frames) == (40, 15, 25)


@pytest.mark.parametrize(
    ("edits", "problem"),
    [
        ({"budget": {"cpu_hours": 0.01}}, r"datasets\.methanol\.budget: 0\.01 CPU hours are too few: .* take 0\.\d+;"),
        ({"budget": {"cpu_hours": 0}}, r"datasets\.methanol: budget\.cpu_hours: "),
        ({"budget": {"hours": 1}}, r"datasets\.methanol: budget: unknown key 'hours'; did you mean 'cpu_hours'"),
        ({"budget": 50}, r"datasets\.methanol: budget: expected keys and values"),
        ({"level": "ccsdt-cb"}, r"no level 'ccsdt-cb'.*ccsdt-cbs"),
        ({"molecule": {"name": "CH3O"}}, r"multiplicity: 'CH3O' has 1 unpaired"),
        ({"molecule": {"name": "nothing"}}, r"datasets\.methanol\.molecule: "),
        ({"acquisition": {"by": "best"}}, r"datasets\.methanol\.acquisition: "),
        ({"acquisition": 3}, r"acquisition: expected keys and values"),
        ({"training_frames": "many"}, r"training_frames: "),
        ({"test_force_frames": -1}, r"test_force_frames: "),
        ({"test_force_frames": 10**9}, r"test_force_frames: "),
        ({"acquisition": ACQUISITION | {"start": 1000}}, r"acquisition: of 1000 frames .* leaves too few for rounds"),
        ({"acquisition": ACQUISITION | {"each": 2000}}, r"acquisition: of 1000 frames .* leaves too few for rounds"),
    ],
)
def test_what_is_wrong_is_one_line(edits: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as raised:
        parse_experiment(edited(**edits), "config.yaml")
    assert "\n" not in str(raised.value)


def test_names_and_numbers_that_cannot_be_are_one_line_too() -> None:
    keys = edited()
    keys["datasets"] = {2024: keys["datasets"]["methanol"]}
    with pytest.raises(ConfigError, match="datasets"):
        parse_experiment(keys, "config.yaml")


def test_without_a_budget_numbers_are_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"training_frames: this key is missing"):
        parse_experiment(edited(budget=None), "config.yaml")


def test_sizes_of_given_frames_are_asked_for() -> None:
    keys = edited() | {"datasets": {"mine": {"file": "mine.xyz", "test_frames": 3}}}
    with pytest.raises(ConfigError, match=r"sizes: this key is missing; say how many frames of dataset 'mine'"):
        parse_experiment(keys, "config.yaml")


def test_editors_do_not_ask_for_what_a_budget_says() -> None:
    definitions = json.loads(json_schema())["$defs"]
    assert set(definitions["ComputedDataset"]["required"]) == {"level"}
    assert set(definitions["Acquisition"]["required"]) == {"by"}


def test_plan_prints_the_division_and_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(edited(acquisition=ACQUISITION, budget={"cpu_hours": 40})))
    said = CliRunner().invoke(app, ["plan", "config.yaml"]).stdout
    section = load_experiment(config).datasets["methanol"]
    assert isinstance(section, ComputedDataset)
    assert f"in place of the budget: training_frames: {section.training_frames}, " in said
    assert "budget 40 CPU hours, " in said
    assert (
        "are left: further energies of one molecule teach little; forces (training_forces: true), or a sharper level,"
        in said
    )
    assert said.count(" rounds: ") == 3  # all of the level in one line, and so of both cheap ones


def test_the_guide_shows_the_plan_of_its_experiment() -> None:
    said = CliRunner().invoke(app, ["plan", "workflow/experiments/fifty-hours.yaml"]).stdout
    shown = [line for line in said.splitlines() if "budget" in line or "CPU hours are left" in line]
    assert len(shown) == 3
    page = (ROOT / "docs" / "how-to" / "fifty-hours.md").read_text()
    assert [line for line in shown if line not in page] == []


@pytest.mark.parametrize(
    ("smiles", "level", "cell"),
    [
        ("NCC(=O)O", "ccsdt-cbs-tz", "| glycine, 10 | 1000 | 1000 | 1000 | {} |"),
        ("c1ccccc1", "ccsdt-cbs", "950 | {} |"),
    ],
)
def test_the_guide_says_how_many_energies_a_budget_buys(smiles: str, level: str, cell: str) -> None:
    keys = edited(
        models={"student": STUDENT},
        molecule={"smiles": smiles},
        level=level,
        cheap_levels=["gfn2-xtb"],
        budget={"cpu_hours": 50},
    )
    assert cell.format(division(keys).learned) in (ROOT / "docs" / "how-to" / "fifty-hours.md").read_text()
