"""The report says what the numbers say, and no more."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd
import pytest
from helpers import morse_frames, plain_experiment
from run_files import files_of

from piwsl.config import Experiment, parse_section
from piwsl.data.dataset import TEST, TRAINING, write_dataset
from piwsl.files import write_json, write_json_lines
from piwsl.records import Finding
from piwsl.report.context import Context
from piwsl.report.sections.reference import reference_summaries
from piwsl.report.sections.summary import asked
from piwsl.report.sections.verdicts import comparisons, multiplicity, pooled, sentence, standing, verdicts_on
from piwsl.report.tables import run_table
from piwsl.report.write import write_report

DEFAULT = plain_experiment()


@pytest.fixture
def experiment() -> Experiment:
    return parse_section(Experiment, DEFAULT, "config.yaml")


def compared(
    folder: Path, experiment: Experiment, energy: dict[str, list[float]], pair_potential: Collection[str] = ()
) -> list[dict[str, str]]:
    files = files_of(folder, experiment.runs(), energy, pair_potential=pair_potential)
    found = pooled(comparisons(run_table(files.errors, files.simulations), experiment))
    return [sentence(comparison, stood) for comparison, stood in zip(found, standing(found), strict=True)]


@pytest.fixture
def of_three() -> Experiment:
    return parse_section(Experiment, DEFAULT | {"seeds": [0, 1, 2]}, "config.yaml")


def test_an_effect_is_claimed_with_its_interval(tmp_path, of_three):
    found = compared(tmp_path, of_three, {"supervised": [10.0, 20.0, 40.0], "weak": [5.0, 10.0, 20.0]})
    assert [said["kind"] for said in found] == ["better", "better"]  # energy and force
    assert found[0]["text"] == "energy error 50 % lower (ratio 0.5, 95 % interval 0.5 to 0.5, 3 seeds)"
    assert found[0]["where"] == "ammonia, painn, weak against supervised, sizes pooled"


def test_harm_is_said_as_plainly(tmp_path, of_three):
    found = compared(tmp_path, of_three, {"supervised": [10.0, 20.0, 40.0], "weak": [15.0, 30.0, 60.0]})
    assert found[0]["kind"] == "worse"
    assert found[0]["text"].startswith("energy error 50 % higher")


def test_what_agrees_to_five_digits_is_no_difference(tmp_path, of_three):
    found = compared(
        tmp_path, of_three, {"supervised": [128.174, 128.175, 128.176], "weak": [128.177, 128.178, 128.180]}
    )
    assert {said["kind"] for said in found} == {"alike"}
    assert "too small to matter (ratio 1, " in found[0]["text"]


def test_an_interval_that_holds_1_decides_nothing(tmp_path, of_three):
    found = compared(tmp_path, of_three, {"supervised": [10.0, 20.0, 30.0], "weak": [5.0, 12.0, 36.0]})
    assert {said["kind"] for said in found} == {"undecided"}
    assert found[0]["text"].startswith("undecided on the energy error: the interval holds 1 (ratio 0.711, ")


@pytest.mark.parametrize("seeds", [1, 2])
def test_less_than_three_seeds_decide_nothing_and_stand_in_a_table(tmp_path, seeds):
    experiment = parse_section(Experiment, DEFAULT | {"seeds": [*range(seeds)]}, "config.yaml")
    files = files_of(tmp_path, experiment.runs(), {"supervised": [10.0] * seeds, "weak": [1.0] * seeds})
    found = comparisons(run_table(files.errors, files.simulations), experiment)
    html = verdicts_on(found, "the loss")
    assert "<li" not in html
    assert "No verdict: none of these comparisons has the 3 seeds that one takes." in html
    assert "<details open><summary>6 comparisons, not corrected for their number" in html
    assert html.count("<td>undecided</td>") == 6  # energies and forces, at two sizes and pooled


def test_enough_seeds_are_told_in_a_line_and_sizes_in_a_table_that_is_folded(tmp_path, of_three):
    files = files_of(tmp_path, of_three.runs(), {"supervised": [10.0, 20.0, 40.0], "weak": [5.0, 10.0, 20.0]})
    html = verdicts_on(comparisons(run_table(files.errors, files.simulations), of_three), "the loss")
    assert html.count('<li class="better">') == 2
    assert "<details><summary>Size by size, 4 comparisons" in html


def test_intervals_beyond_all_sense_are_not_written_out(tmp_path, experiment):
    files = files_of(tmp_path, experiment.runs(), {"supervised": [1.0, 100.0], "weak": [100.0, 1.0]})
    html = verdicts_on(comparisons(run_table(files.errors, files.simulations), experiment), "the loss")
    assert "&lt; 0.001 to &gt; 1000" in html


@pytest.mark.parametrize("with_pair", [["weak"], ["supervised"]])
def test_unlike_models_are_not_compared_in_silence(tmp_path, experiment, of_three, with_pair):
    energy = {"supervised": [10.0, 20.0, 30.0], "weak": [5.0, 12.0, 20.0]}
    assert all("corrects a pair" in said["text"] for said in compared(tmp_path, of_three, energy, with_pair))
    files = files_of(tmp_path / "two", experiment.runs(), energy, pair_potential=with_pair)
    html = verdicts_on(comparisons(run_table(files.errors, files.simulations), experiment), "the loss")
    assert html.count("<td>undecided; one corrects a pair potential</td>") == 6


def test_like_models_are_compared_without_a_word_of_it(tmp_path, of_three):
    energy = {"supervised": [10.0, 20.0, 30.0], "weak": [5.0, 12.0, 20.0]}
    for name, with_pair in (("both", ["weak", "supervised"]), ("neither", [])):
        assert not any("corrects" in said["text"] for said in compared(tmp_path / name, of_three, energy, with_pair))


PITC = {"pitc": {"weight": 1.0}}


@pytest.mark.parametrize(
    ("losses", "pairs"),
    [
        # Forces that one learns from and the other does not are not what the term brings.
        (
            {"both": {}, "weak": PITC, "energies": {"forces": 0}, "weak-energies": PITC | {"forces": 0}},
            ["weak against both", "weak-energies against energies"],
        ),
        (
            {"light": {"forces": 1}, "heavy": {"forces": 100}, "weak": PITC | {"forces": 100}},
            ["weak against heavy"],
        ),
        # None is like it: the nearest.
        ({"mae": {"function": "mae"}, "mse": {}, "weak": PITC | {"forces": 0}}, ["weak against mse"]),
        # What a supervised loss does not look at makes none less like it.
        (
            {"structure": {"per": "structure"}, "inert": {"huber": 0.5, "displacement": 0.05}, "weak": PITC},
            ["weak against inert"],
        ),
    ],
)
def test_a_weak_loss_is_compared_with_what_is_the_same_without_its_terms(tmp_path, losses, pairs):
    experiment = parse_section(Experiment, DEFAULT | {"losses": losses, "seeds": [0, 1, 2]}, "config.yaml")
    found = compared(tmp_path, experiment, {name: [10.0, 20.0, 30.0] for name in losses})
    assert sorted({said["where"].split(", ")[2] for said in found}) == pairs
    context = Context(experiment, pd.DataFrame(), {}, [], [], [], pd.DataFrame())
    added = [pair.replace(" against", " (pitc) adds to") for pair in pairs]
    assert f"{''.join(f', and what {each}' for each in added)}: " in asked(context)


def test_a_weak_loss_is_compared_with_one_that_its_model_is_trained_by(tmp_path):
    models = {"painn": DEFAULT["models"]["painn"], "schnet": {"architecture": "schnet"}}
    losses = {"energies": {"forces": 0}, "both": {}, "weak": PITC}
    config = DEFAULT | {"models": models, "losses": losses, "exclude": [{"model": "schnet", "loss": "both"}]}
    found = compared(tmp_path, parse_section(Experiment, config, "config.yaml"), {name: [1.0, 2.0] for name in losses})
    pairs = {(said["where"].split(", ")[1], said["where"].split(", ")[2]) for said in found}
    assert {("painn", "weak against both"), ("schnet", "weak against energies")} <= pairs


def test_many_weak_losses_are_not_named(tmp_path):
    losses = {"plain": {}} | {f"weak{more}": PITC | {"displacement": 0.01 * more} for more in range(1, 7)}
    experiment = parse_section(Experiment, DEFAULT | {"losses": losses}, "config.yaml")
    context = Context(experiment, pd.DataFrame(), {}, [], [], [], pd.DataFrame())
    assert ", and what 6 weak losses add to supervised ones: " in asked(context)


def test_forces_of_a_cheaper_level_are_weak_supervision_not_the_baseline(tmp_path):
    losses = {"cheap-forces": {"weak_forces": {"weight": 1.0}}, "plain": {}}
    config = DEFAULT | {"losses": losses}
    config["datasets"] = {"ammonia": config["datasets"]["ammonia"] | {"weak_forces": "gfn2-xtb"}}
    experiment = parse_section(Experiment, config, "config.yaml")
    found = compared(tmp_path, experiment, {"cheap-forces": [5.0, 10.0], "plain": [10.0, 20.0]})
    assert {said["where"] for said in found} == {"ammonia, painn, cheap-forces against plain, sizes pooled"}
    assert "ratio 0.5," in found[0]["text"]


def test_without_a_weak_loss_models_are_compared_with_the_first(tmp_path):
    models = {"painn": DEFAULT["models"]["painn"], "schnet": {"architecture": "schnet"}}
    config = DEFAULT | {"losses": {"supervised": {}}, "models": models}
    experiment = parse_section(Experiment, config, "config.yaml")
    found = compared(tmp_path, experiment, {"supervised": [10.0, 20.0]})
    assert {said["where"] for said in found} == {"ammonia, supervised, schnet against painn, sizes pooled"}


def test_with_nothing_to_compare_there_is_no_such_section(tmp_path):
    experiment = parse_section(Experiment, DEFAULT | {"losses": {"supervised": {}}}, "config.yaml")
    files = files_of(tmp_path, experiment.runs(), {"supervised": [10.0, 20.0]})
    write_report(experiment, files, tmp_path / "report.html", tmp_path / "results.csv")
    assert "Paired comparisons" not in (tmp_path / "report.html").read_text()


def test_so_many_comparisons_are_said_to_show_something_by_chance(tmp_path, of_three):
    files = files_of(tmp_path, of_three.runs(), {"supervised": [10.0, 20.0, 30.0], "weak": [5.0, 9.0, 16.0]})
    found = pooled(comparisons(run_table(files.errors, files.simulations), of_three))
    said = multiplicity(found, [True, False])
    assert said.startswith("2 comparisons with 3 seeds or more: without any effect, 0.1 of their intervals")
    assert said.endswith("2 called better or worse, of which 1 stand after Holm's correction for their number.")
    assert sentence(found[0], stands=False)["text"].endswith("does not stand the correction for their number")


def test_rows_come_by_size_with_the_losses_side_by_side(tmp_path, experiment):
    files = files_of(tmp_path, experiment.runs(), {"supervised": [1.0, 2.0], "weak": [3.0, 4.0]})
    table = run_table(files.errors, files.simulations)
    assert table["size"].tolist() == sorted(table["size"])
    assert table["loss"].tolist()[:4] == ["supervised", "supervised", "weak", "weak"]
    for index, row in table.iterrows():
        assert f'"seed": {row["seed"]}' in files.errors[index].read_text()
        assert f'"loss": "{row["loss"]}"' in files.errors[index].read_text()


@pytest.mark.parametrize("with_forces", [True, False])
def test_the_report_is_one_file_that_needs_nothing_else(tmp_path, experiment, with_forces):
    files = files_of(tmp_path, experiment.runs(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]}, with_forces)
    records = tmp_path / "datasets" / "ammonia" / "labels" / "training" / "0a" / "00000-00010.jsonl"
    write_json_lines(
        records,
        [{"status": "ok", "cpu_s": 2.0, "t1_diagnostic": 0.006, "frozen_orbitals": 1,
              "forces": "differences", "scf": {"hf/cc-pvdz": {"converged_by": "second order"}}},
         {"status": "failed", "frame": "training-600K-7", "step": "geometry", "reason": "atoms 0 (N) <b> close"}],
    )  # fmt: skip
    files.records.append(records)
    atoms = tmp_path / "datasets" / "ammonia" / "isolated-atoms.json"
    write_json(atoms, {"H": {"status": "ok", "energy_eV": -13.6057}})
    files.atoms.append(atoms)
    write_report(experiment, files, tmp_path / "report.html", tmp_path / "results.csv")
    html = (tmp_path / "report.html").read_text()
    assert "<script src=" not in html
    assert '<link rel="stylesheet"' not in html
    assert "training-600K-7" in html
    assert "atoms 0 (N) &lt;b&gt; close" in html
    assert ("not labelled" in html) == (not with_forces)
    assert "8.5 ± 4.9" in html
    assert "1 (central differences)" in html
    assert "−13.6057" in html
    assert len(pd.read_csv(tmp_path / "results.csv")) == 8


def test_a_level_is_written_as_its_formula(experiment):
    assert str(experiment.levels["ccsdt-cbs"]) == (
        "DF-HF/CBS(cc-pvtz, cc-pvqz) + DF-MP2/CBS(cc-pvtz, cc-pvqz) + [CCSD(T) - MP2]/cc-pvdz, frozen core"
    )


def test_the_reference_stage_is_summarised_by_dataset(tmp_path):
    path = tmp_path / "datasets" / "x" / "labels" / "test" / "0a" / "00000-00010.jsonl"
    write_json_lines(path, [{"status": "failed", "frame": "a", "step": "s", "reason": "r"}])
    (summary,) = reference_summaries([path])
    assert (summary.dataset, summary.labelled, len(summary.failed)) == ("x", 0, 1)
    assert summary.seconds_per_energy is None
    assert summary.doubtful == []


def test_doubtful_frames_are_listed_with_why_the_first_of_them(tmp_path, experiment):
    files = files_of(tmp_path, experiment.runs(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    path = tmp_path / "datasets" / "x" / "labels" / "test" / "0a" / "00000-00010.jsonl"
    why = "T1 diagnostic 0.140, beyond 0.02"
    write_json_lines(path, [{"status": "ok", "frame": f"frame-{n}-", "doubt": why} for n in range(23)])
    files.records.append(path)
    write_report(experiment, files, tmp_path / "report.html", tmp_path / "results.csv")
    html = (tmp_path / "report.html").read_text()
    assert html.count(why) == 20
    assert "frame-19-" in html
    assert "frame-20-" not in html
    assert "And 3 more" in html


def test_large_errors_are_written_without_exponents(tmp_path, experiment):
    files = files_of(tmp_path, experiment.runs(), {"supervised": [110.0, 130.0], "weak": [5.0, 12.0]})
    write_report(experiment, files, tmp_path / "report.html", tmp_path / "results.csv")
    html = (tmp_path / "report.html").read_text()
    assert "120 ± 14<" in html
    assert "1200 ± 140<" in html
    assert "85 ± 49<" in html


def test_what_looked_odd_about_the_data_stands_before_all_numbers(tmp_path, experiment):
    files = files_of(tmp_path, experiment.runs(), {"supervised": [10.0, 20.0], "weak": [5.0, 12.0]})
    for name, warnings in (("ammonia", ["energies: are they in <Hartree>?"]), ("orderly", [])):
        files.datasets.append(tmp_path / name / "dataset.h5")
        frames = {TRAINING: morse_frames("NH3", 2), TEST: morse_frames("NH3", 1)}
        write_dataset(files.datasets[-1], frames, findings=[Finding(said=each) for each in warnings])
    write_report(experiment, files, tmp_path / "report.html", tmp_path / "results.csv")
    html = (tmp_path / "report.html").read_text()
    body = html[html.index('<div id="content"') :]
    assert body.index("energies: are they in &lt;Hartree&gt;?") < body.index("Paired comparisons")
    assert "orderly" not in body
