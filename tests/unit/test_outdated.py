"""Results that lie where those of the config belong, and are of other settings, are told from those of the config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from piwsl.config import Experiment, ReplicaSimulation, Run, parse_section
from piwsl.errors import PiwslError
from piwsl.files import write_json
from piwsl.models import Potential, save_model
from piwsl.models.committee import Committee
from piwsl.workflow.layout import Layout
from piwsl.workflow.outdated import check_settings, outdated, simulated_otherwise

PAINN: dict[str, Any] = {"architecture": "painn", "features": 8, "layers": 1, "training": {"steps": 20}}
STUDENT = PAINN | {"teacher": {"model": "painn", "loss": "supervised"}}
LAYOUT = Layout("x")
# What summaries said before they said all settings.
SUMMARY: dict[str, Any] = {
    "stable_ps": 0.5, "time_ps": 0.5, "ended": "completed", "mean_temperature_K": 301.0, "ensemble": "nvt",
    "temperatures_K": [300.0],
}  # fmt: skip


def experiment(**keys: Any) -> Experiment:
    config = {
        "experiment": "x",
        "datasets": {"mine": {"file": "mine.xyz", "test_frames": 4, "pool_file": "pool.xyz"}},
        "models": {"painn": PAINN},
        "losses": {"supervised": {}},
        "sizes": [4],
        "seeds": [0, 1],
        "simulations": {"nvt": {"time": 0.5, "starts": 2}},
    }
    return parse_section(Experiment, config | keys, "config.yaml")


def finish(done: Experiment) -> None:
    """Write the models and summaries of simulations of an experiment, those beside the grid included."""
    for run in done.every_run():
        model = done.models[run.model]
        members = [Potential(model, scale=1.0, references={1: -13.6}, neighbours=2.0) for _ in range(model.members)]
        potential = Committee(members) if len(members) > 1 else members[0]
        path = Path(LAYOUT.run(run).model)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(path, potential, {"run": run.plain(), "loss": done.losses[run.loss].plain()})
    for run in done.runs():
        for name in done.simulated(run):
            settings = done.simulations[name]
            summarize(run, name, SUMMARY | {"settings": settings.plain()})


def summarize(run: Run, name: str, said: dict[str, Any]) -> Path:
    path = Path(LAYOUT.run(run).simulation(name).summary)
    write_json(path, run.plain() | {"simulation": name} | said)
    return path


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def found(now: Experiment) -> list[tuple[str, str]]:
    return [(each.path.removeprefix("results/x/mine/"), each.said) for each in outdated(now)]


def test_results_of_the_config_are_taken_and_what_is_not_there_passed_over():
    finish(experiment())
    assert outdated(experiment()) == []
    assert outdated(experiment(seeds=[0, 1, 2])) == []
    check_settings(experiment())
    # Where a training runs, which runs are simulated, and defaults that are said: no result is another.
    elsewhere = PAINN | {"resources": {"mem_mb": 9000}, "cutoff": experiment().models["painn"].cutoff}
    again = {"nvt": {"time": 0.5, "starts": 2, "only": [{"seed": 1}], "temperature": 300, "timestep": 0.5}}
    assert outdated(experiment(models={"painn": elsewhere}, simulations=again)) == []


def test_a_model_of_other_settings_is_found_and_not_its_simulations_beside_it():
    finish(experiment())
    features = "trained with models.painn.features: 8, and the config says 16"
    assert found(experiment(models={"painn": PAINN | {"features": 16}}, simulations={"nvt": {"time": 9}})) == [
        ("painn/supervised/n4/seed0/model.safetensors", features),
        ("painn/supervised/n4/seed1/model.safetensors", features),
    ]


def test_a_teacher_beside_the_grid_that_is_of_other_settings_is_found():
    of = {"only": [{"model": "student"}], "seeds": [0]}
    finish(experiment(models={"painn": PAINN, "student": STUDENT}, **of))
    edited = PAINN | {"training": {"steps": 30}}
    assert found(experiment(models={"painn": PAINN, "student": STUDENT}, **of)) == []
    assert found(experiment(models={"painn": edited, "student": STUDENT}, **of)) == [
        ("painn/supervised/n4/seed0/model.safetensors",
         "trained with models.painn.training.steps: 20, and the config says 30"),
    ]  # fmt: skip


def test_a_committee_is_of_the_config_that_it_was_trained_by():
    done = experiment(models={"painn": PAINN | {"members": 2}})
    finish(done)
    assert outdated(done) == []
    assert "members: 2, and the config says 1" in found(experiment())[0][1]


def test_a_simulation_is_told_by_every_setting_that_makes_it():
    finish(experiment(seeds=[0]))
    for key, value in {"time": 1.0, "temperature": 310, "friction": 0.02, "seed": 3, "replicas": 2}.items():
        (each,) = outdated(experiment(seeds=[0], simulations={"nvt": {"time": 0.5, "starts": 2} | {key: value}}))
        assert each.path.endswith("seed0/simulations/nvt/summary.json")
        assert each.said.startswith(f"simulated with simulations.nvt.{key}")
    assert outdated(experiment(seeds=[0], simulations={"hot": {"temperature": 900}})) == []  # not there


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, None),
        # It is not known which friction it had.
        ({"friction": 0.02}, None),
        ({"time": 1.0}, "time: 0.5, and the config says 1.0"),
        ({"temperatures": [300, 400]}, "temperatures: [300.0], and the config says [300.0, 400.0]"),
        ({"ensemble": "nve"}, "ensemble: nvt, and the config says nve"),
    ],
)
def test_a_summary_of_before_is_told_by_the_settings_that_it_says(settings, said):
    path = summarize(experiment().runs()[0], "nvt", SUMMARY)
    now = ReplicaSimulation(**({"time": 0.5} | settings))
    assert simulated_otherwise(path, "nvt", now) == (said and f"simulated with simulations.nvt.{said}")


def test_what_the_oldest_summaries_do_not_say_is_not_held_against_them():
    silent = {key: value for key, value in SUMMARY.items() if key not in ("ensemble", "temperatures_K")}
    path = summarize(experiment().runs()[0], "nvt", silent)
    assert simulated_otherwise(path, "nvt", ReplicaSimulation(time=0.5, ensemble="nve", temperatures=[500.0])) is None


def test_settings_that_a_later_version_adds_have_their_defaults_in_summaries_of_before():
    settings = ReplicaSimulation(time=0.5)
    known = {key: value for key, value in settings.plain().items() if key != "bond_tolerance"}
    path = summarize(experiment().runs()[0], "nvt", SUMMARY | {"settings": known})
    assert simulated_otherwise(path, "nvt", settings) is None
    assert simulated_otherwise(path, "nvt", ReplicaSimulation(time=0.5, bond_tolerance=1.0)) is not None


def test_one_line_says_what_differs_and_how_all_are_made_anew():
    finish(experiment())
    models = [LAYOUT.run(run).model for run in experiment().runs()]
    with pytest.raises(PiwslError) as refused:
        check_settings(experiment(models={"painn": PAINN | {"layers": 2}}))
    assert str(refused.value) == (
        f"{models[0]}: trained with models.painn.layers: 1, and the config says 2 (1 more is of other settings); "
        f"have them made anew: snakemake --forcerun {' '.join(models)}"
    )
    summary = LAYOUT.run(experiment().runs()[0]).simulation("nvt").summary
    with pytest.raises(PiwslError, match=rf"says 0\.6; have it made anew: snakemake --forcerun {summary}$"):
        check_settings(experiment(seeds=[0], simulations={"nvt": {"time": 0.6, "starts": 2}}))


def test_of_many_the_rules_are_named_that_make_them():
    done = experiment(seeds=[*range(7)])
    finish(done)
    with pytest.raises(PiwslError, match=r"\(6 more are .*; have them made anew: snakemake --forcerun train$"):
        check_settings(experiment(seeds=[*range(7)], models={"painn": PAINN | {"layers": 2}}))


def test_a_file_that_cannot_be_read_is_not_taken_for_one_of_the_config():
    finish(experiment())
    first, second = (LAYOUT.run(run) for run in experiment().runs())
    Path(first.model).write_bytes(b"")
    Path(second.simulation("nvt").summary).write_text("{")
    assert [(each.path, each.rule) for each in outdated(experiment())] == [
        (first.model, "train"), (second.simulation("nvt").summary, "simulate"),
    ]  # fmt: skip
