"""The sentence that the report begins with: the best potential of each dataset, said as a chemist reads it once."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers import morse_frames

from piwsl.config import Experiment, parse_section
from piwsl.data.dataset import TEST, TRAINING, Dataset, write_dataset
from piwsl.report.context import Context
from piwsl.report.sections.best import BestPotential, best, line
from piwsl.report.sections.errors import BY_SLOPES, mean_rows
from piwsl.report.tables import MEASURES
from piwsl.report.words import model_in_words

XTB = "gfn2-xtb"
CONFIG = {
    "experiment": "best",
    "datasets": {
        "water": {"file": "a.xyz", "test_frames": 2, "pool_file": "b.xyz", "level": "CCSD(T)", "cheap_levels": [XTB]}
    },
    "models": {
        "painn": {"architecture": "painn"},
        "difference": {"architecture": "painn", "baseline": XTB},
        "student": {"architecture": "painn", "teacher": {"model": "painn", "loss": "weak"}},
        "committee": {"architecture": "painn", "members": 4},
    },
    "losses": {"supervised": {}, "weak": {"pitc": {"weight": 1.0}}},
    "sizes": [4, 8],
    "seeds": [0, 1],
}
CHEAP = {"energy_mae_meV": 20.0, "force_mae_meV_per_A": 100.0}


def experiment(**changes: Any) -> Experiment:
    return parse_section(Experiment, CONFIG | changes, "config.yaml")


def runs(model: str, errors: list[tuple[float, float]], **more: Any) -> list[dict[str, Any]]:
    """Return rows of a model, a seed each, with errors of energies and forces (meV, meV/Å)."""
    row = {"dataset": "water", "model": model, "loss": "supervised", "size": 8}
    row |= {"stable_ps": 1.0, "time_ps": 1.0, "failed": 0, BY_SLOPES: math.nan} | more
    return [
        row | {"seed": seed, "observation": f"seed {seed}", "energy_mae_meV": energy, "force_mae_meV_per_A": force}
        for seed, (energy, force) in enumerate(errors)
    ]


def context(rows: list[dict[str, Any]], cheap: dict[str, float] | None = None, **more: Any) -> Context:
    levels = [{"dataset": "water", "level": XTB} | cheap] if cheap else []
    given = {"experiment": experiment(), "datasets": []} | more
    return Context(
        runs=pd.DataFrame(rows),
        files={},
        records=[],
        free_atoms=[],
        cheap=pd.DataFrame(levels, columns=["dataset", "level", *MEASURES]),
        **given,
    )


def said(rows: list[dict[str, Any]], cheap: dict[str, float] | None = None, **more: Any) -> dict[str, str]:
    given = context(rows, cheap, **more)
    return line("water", *best(given.runs, given.experiment), given)


def test_it_says_labels_level_errors_what_costs_nothing_and_stability():
    rows = runs("painn", [(2.0, 30.0), (4.0, 50.0)]) + runs("committee", [(5.0, 60.0)] * 2)
    assert said(rows, CHEAP) == {
        "text": "With 8 reference energies (CCSD(T)), painn (supervised) errs on average by 3 meV in energies and 40 "
        "meV/Å in forces: below what GFN2-xTB gives, which needs no training (20 meV, 100 meV/Å). Its dynamics stayed "
        "stable for all of 1 ps at 300 K.",
        "where": "water, means over 2 seeds",
        "kind": "better",
    }


def test_the_best_has_the_smallest_geometric_mean_of_both_errors():
    # 6 x 20 = 120 of the one is less than 2 x 90 = 180 of the other, whose energies are better.
    rows = runs("painn", [(2.0, 90.0)], size=4) + runs("committee", [(6.0, 20.0)], size=4)
    alone, corrected = best(pd.DataFrame(rows), experiment())
    assert (alone.model, alone.score) == ("committee", pytest.approx(math.sqrt(120.0)))
    assert corrected is None


@pytest.mark.parametrize(
    ("errors", "words", "kind"),
    [
        ((25.0, 40.0), ": only in forces below what GFN2-xTB gives, which needs", "undecided"),
        ((5.0, 140.0), ": only in energies below what GFN2-xTB gives, which needs", "undecided"),
        ((25.0, 140.0), ": not below what GFN2-xTB gives, which needs no training (20 meV, 100 meV/Å).", "worse"),
    ],
)
def test_what_is_not_below_a_cheap_level_is_said_as_plainly(errors, words, kind):
    found = said(runs("painn", [errors]), CHEAP)
    assert words in found["text"]
    assert found["kind"] == kind


def test_each_of_several_cheap_levels_is_compared_and_the_least_verdict_is_shown():
    section = CONFIG["datasets"]["water"] | {"cheap_levels": [XTB, "gfn1-xtb"]}
    given = context(runs("painn", [(3.0, 40.0)]), CHEAP, experiment=experiment(datasets={"water": section}))
    second = {"dataset": ["water"], "level": ["gfn1-xtb"], "energy_mae_meV": [1.0], "force_mae_meV_per_A": [2.0]}
    given = replace(given, cheap=pd.concat([given.cheap, pd.DataFrame(second)]))
    found = line("water", *best(given.runs, given.experiment), given)
    assert "(20 meV, 100 meV/Å); not below what GFN1-xTB gives, which needs no training (1 meV" in found["text"]
    assert found["kind"] == "worse"


def test_a_better_one_that_computes_a_cheap_level_is_named_beside_it_and_a_worse_one_is_not():
    rows = runs("painn", [(3.0, 40.0)])
    better = said(rows + runs("difference", [(1.0, 9.0)], size=4), CHEAP)["text"]
    assert better.startswith("With 8 reference energies (CCSD(T)), painn (supervised) errs")
    assert better.endswith(
        "Better is difference (supervised), which computes GFN2-xTB at every step, with 4 reference energies "
        "(CCSD(T)): 1 meV in energies and 9 meV/Å in forces."
    )
    assert "difference" not in said(rows + runs("difference", [(4.0, 41.0)]), CHEAP)["text"]


def test_where_none_runs_by_itself_that_is_said():
    text = said(runs("difference", [(1.0, 9.0)]), CHEAP)["text"]
    assert "difference (painn, difference to gfn2-xtb; supervised) errs" in text
    assert text.endswith("It computes GFN2-xTB at every step; no model here runs by itself.")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("painn", ""),
        ("difference", "painn, difference to gfn2-xtb"),
        ("student", "painn, taught by painn (weak)"),
        ("committee", "painn, 4 members"),
    ],
)
def test_a_model_is_named_by_what_it_is_beyond_what_its_name_says(model, words):
    assert model_in_words(model, experiment().models[model]) == words
    assert f"{model} ({f'{words}; ' if words else ''}supervised) errs" in said(runs(model, [(1.0, 9.0)]))["text"]


def test_the_table_says_it_below_the_name_of_each_model():
    rows = [row for name in CONFIG["models"] for size in (4, 8) for row in runs(name, [(1.0, 9.0)], size=size)]
    unknown = dict.fromkeys(["energy_constant_meV", "stable_ps", "stress_mae_meV_per_A3"], math.nan)
    found = mean_rows(context([row | unknown for row in rows], CHEAP | unknown))
    assert [(row.model, row.more) for row in found if row.size == 8] == [
        ("painn", ""),
        ("difference", "painn, difference to gfn2-xtb"),
        ("student", "painn, taught by painn (weak)"),
        ("committee", "painn, 4 members"),
    ]


def test_without_force_labels_energies_alone_count():
    rows = runs("painn", [(3.0, math.nan)]) + runs("committee", [(2.0, math.nan)])
    found = said(rows, CHEAP | {"force_mae_meV_per_A": math.nan})
    assert "committee (painn, 4 members; supervised) errs on average by 2 meV in energies: below what" in found["text"]
    assert "which needs no training (20 meV)." in found["text"]
    assert found["where"] == "water, one seed"


def test_without_whole_forces_what_slopes_say_of_them_counts_and_is_called_what_it_is():
    unknown = (2.0, math.nan)
    rows = runs("painn", [unknown], **{BY_SLOPES: 40.0}) + runs("committee", [unknown], **{BY_SLOPES: 30.0})
    found = said(rows, CHEAP | {"force_mae_meV_per_A": math.nan, BY_SLOPES: 35.0})
    assert "errs on average by 2 meV in energies and 30 meV/Å in forces (root mean square, by slopes)" in found["text"]
    assert "which needs no training (20 meV, 35 meV/Å)" in found["text"]
    assert found["kind"] == "better"


def test_one_whose_error_is_no_number_in_any_seed_is_not_the_best():
    rows = runs("painn", [(1.0, 1.0), (math.nan, math.nan)]) + runs("committee", [(5.0, 60.0)] * 2)
    assert said(rows)["text"].startswith("With 8 reference energies (CCSD(T)), committee")
    assert BestPotential().html(context(runs("painn", [(math.nan, 1.0)]))) == ""


def test_without_a_cheap_level_nothing_is_compared():
    found = said(runs("painn", [(3.0, 40.0)]))
    assert "3 meV in energies and 40 meV/Å in forces. Its dynamics" in found["text"]
    assert found["kind"] == "undecided"


def test_dynamics_whose_steps_do_not_divide_the_time_are_stable_for_all_of_it_where_none_failed():
    # 1 ps by 0.3 fs are 3333 steps, 0.9999 ps.
    rows = runs("painn", [(3.0, 40.0)], stable_ps=0.9999)
    assert "Its dynamics stayed stable for all of 1 ps at 300 K." in said(rows)["text"]


def test_dynamics_that_broke_are_said_to_have_lasted_so_long():
    broken = runs("painn", [(3.0, 40.0)] * 2, stable_ps=0.25, failed=1)
    broken[1] |= {"stable_ps": 1.0, "failed": 0}
    assert "Its dynamics stayed stable for 0.62 of 1 ps at 300 K on average." in said(broken)["text"]
    assert "stable for 0.25 of 1 ps at 300 K on average." in said(broken[:1])["text"]


def dataset(folder: Path, forces: list[bool]) -> Path:
    path = folder / "water" / "dataset.h5"
    training = [morse_frames("H2O", 1, forces=with_forces)[0] for with_forces in forces]
    write_dataset(path, {TRAINING: training, TEST: morse_frames("H2O", 1)})
    return path


@pytest.mark.parametrize(
    ("forces", "loss", "words"),
    [
        ([False, False], {}, "With 8 reference energies, painn"),
        ([True, True], {}, "With 8 reference energies and the forces of these frames, painn"),
        ([True, False], {}, "With 8 reference energies and forces of some of these frames, painn"),
        ([True, True], {"forces": 0.0}, "With 8 reference energies, painn"),
        ([True, True], {"energy": 0.0}, "With the reference forces of 8 frames, painn"),
    ],
    ids=["energies", "forces", "some forces", "forces not looked at", "forces alone"],
)
def test_forces_that_were_learned_from_are_counted(tmp_path, forces, loss, words):
    datasets = {"water": {"file": "a.xyz", "test_frames": 2}}
    models = {"painn": {"architecture": "painn"}}
    given = experiment(datasets=datasets, models=models, losses={"supervised": loss})
    path = dataset(tmp_path, forces)
    assert said(runs("painn", [(3.0, 40.0)]), experiment=given, datasets=[path])["text"].startswith(words)


@pytest.mark.parametrize(
    ("energies", "forces", "size", "words"),
    [
        (2, 8, 8, "With reference energies of 2 of 8 frames (CCSD(T)) and the forces of all, painn"),
        (2, 8, 4, "With reference energies of some of 4 frames (CCSD(T)) and the forces of all, painn"),
        (7, 4, 8, "With reference energies of 7 of 8 frames (CCSD(T)) and forces of some of them, painn"),
        (8, 8, 4, "With 4 reference energies (CCSD(T)) and the forces of these frames, painn"),
    ],
)
def test_energies_that_were_learned_from_are_counted_and_not_frames(tmp_path, energies, forces, size, words):
    path = tmp_path / "water" / "dataset.h5"
    training = morse_frames("H2O", 8, forces=True)
    for atoms in training[energies:]:
        del atoms.info["REF_energy"]
    for atoms in training[: 8 - forces]:
        del atoms.arrays["REF_forces"]
    write_dataset(path, {TRAINING: training, TEST: morse_frames("H2O", 1)})
    given = context(runs("painn", [(3.0, 40.0)], size=size), datasets=[path])
    assert line("water", *best(given.runs, given.experiment), given)["text"].startswith(words)


def test_a_student_had_the_forces_that_its_teacher_had(tmp_path):
    losses = {"supervised": {"forces": 0.0}, "weak": {"pitc": {"weight": 1.0}}}
    given = {"experiment": experiment(losses=losses), "datasets": [dataset(tmp_path, [True, True])]}
    rows = runs("student", [(3.0, 40.0)])
    assert said(rows, **given)["text"].startswith("With 8 reference energies (CCSD(T)) and the forces of these frames")


def test_which_frames_are_labelled_is_known_without_reading_them(tmp_path):
    with Dataset(dataset(tmp_path, [True, False, True])) as opened:
        assert opened.labelled("reference", "forces").tolist() == [True, False, True, False]
        assert opened.labelled("reference", "energy").all()
        assert not opened.labelled(XTB, "energy").any()


def test_each_dataset_has_a_line_and_names_are_escaped():
    datasets = CONFIG["datasets"] | {"other": {"file": "c.xyz", "test_frames": 2, "level": "<b>DLPNO"}}
    models = {"painn": {"architecture": "painn"}}
    rows = runs("painn", [(3.0, 40.0)]) + runs("painn", [(1.0, 20.0)], dataset="other")
    html = BestPotential().html(context(rows, CHEAP, experiment=experiment(datasets=datasets, models=models)))
    assert html.count("<li") == 2
    assert html.index("water, one seed") < html.index("(&lt;b&gt;DLPNO)") < html.index("other, one seed")
