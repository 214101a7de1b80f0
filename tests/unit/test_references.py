"""Which atomic references a model has is said: in the log, in its file, by the evaluation and in the report."""

from __future__ import annotations

import pytest
from ase.build import molecule
from helpers import CONSERVATIVE, morse_frames, plain_experiment
from run_files import files_of

from piwsl.config import Experiment, Loss, Run, parse_section
from piwsl.data.dataset import TEST, TRAINING, write_dataset
from piwsl.evaluation.evaluate import evaluate
from piwsl.files import read_json, write_json
from piwsl.models.statistics import reference_energies, undetermined_elements
from piwsl.models.storage import read_header
from piwsl.report.write import write_report
from piwsl.structures.frames import label
from piwsl.structures.structure import from_atoms
from piwsl.training.frames import TrainingFrames, frames_of_structures
from piwsl.training.references import references_in_words
from piwsl.training.run import train_run

FREE = {1: -13.6, 8: -2041.8}
STATED = {"H": -13.6, "O": -2041.8}


def frames_of(*names: str, free_atoms: dict[int, float] | None = None) -> TrainingFrames:
    structures = [from_atoms(label(molecule(name), -1.0, None)) for name in names]
    whole = CONSERVATIVE["painn"]
    model = whole.model_copy(update={"training": whole.training.model_copy(update={"validation_fraction": 0.0})})
    return frames_of_structures(structures, model, 0, free_atoms=free_atoms)


@pytest.mark.parametrize(
    ("names", "open_elements"),
    [
        (["H2O"], [1, 8]),
        (["H2O", "H2O"], [1, 8]),
        (["H2O", "H2O2"], []),
        (["H2O", "CH4"], [1, 6, 8]),
        (["H2O", "CH4", "H2"], []),
        (["H2O", "N2"], [1, 8]),
        (["H2"], []),
    ],
)
def test_elements_that_compositions_do_not_tell_apart_are_known(names, open_elements):
    assert undetermined_elements([from_atoms(molecule(name)) for name in names]) == open_elements


def test_a_fit_that_is_left_open_is_the_smallest():
    water = [from_atoms(label(molecule("H2O"), -10.0, None))] * 2
    assert reference_energies(water) == pytest.approx({1: -4.0, 8: -2.0})  # along two H, one O


@pytest.mark.parametrize(
    ("references", "names", "free", "with_pairs", "said"),
    [
        ("fitted", ["H2O", "H2O2"], {}, True, "least squares of the training energies, an energy an element"),
        (
            "fitted",
            ["H2O"],
            {},
            False,
            "least squares of the training energies, an energy an element; compositions leave those of H, O open: the "
            "smallest that fit, for these compositions alone",
        ),
        (
            "fitted",
            ["H2O", "H2O2"],
            FREE,
            False,
            "least squares of the training energies, an energy an element; the free atoms of the data are not used",
        ),
        (
            "fitted",
            ["H2O", "H2O2"],
            FREE,
            True,
            "least squares of the training energies, an energy an element; the free atoms of the data take part in the "
            "fit of the pair potential alone",
        ),
        (
            "free_atoms",
            ["H2O"],
            FREE,
            True,
            "free atoms at the level of the labels, and one fitted energy an atom of any element",
        ),
        (
            STATED,
            ["H2O"],
            FREE,
            False,
            "stated in the config, and one fitted energy an atom of any element; the free atoms of the data are not "
            "used",
        ),
    ],
)
def test_references_are_said_in_a_line(references, names, free, with_pairs, said):
    model = CONSERVATIVE["painn"].model_copy(update={"atomic_references": references})
    assert references_in_words(model, frames_of(*names, free_atoms=free), with_pairs) == said


def test_a_difference_has_no_use_for_free_atoms():
    model = CONSERVATIVE["painn"].model_copy(update={"baseline": "gfn2-xtb"})
    said = references_in_words(model, frames_of("H2O", "H2O2", free_atoms=FREE), True)
    assert said.startswith("least squares of the training energies less gfn2-xtb, an energy an element")
    assert said.endswith("; the free atoms of the data are not used")


def test_the_log_the_model_file_and_the_errors_say_it(tmp_path, capsys):
    path, model_path = tmp_path / "dataset.h5", tmp_path / "model.safetensors"
    frames = {TRAINING: morse_frames("H2O", 8, forces=True), TEST: morse_frames("H2O", 2, seed=1)}
    write_dataset(path, frames, FREE)
    model = CONSERVATIVE["painn"]
    short = model.model_copy(update={"training": model.training.model_copy(update={"steps": 2, "validate_every": 2})})
    run = Run(dataset="d", model="m", loss="l", size=8, seed=0)
    train_run(path, run, short, Loss(forces=1.0), model_path, tmp_path / "history.csv")
    said = read_header(model_path)["provenance"]["references"]
    assert "leave those of H, O open" in said
    assert said.endswith("the free atoms of the data are not used")
    assert f"atomic references: {said}\n" in capsys.readouterr().out
    written = [tmp_path / name for name in ("errors.json", "predictions.parquet", "worst.xyz")]
    evaluate(path, run, model_path, *written)
    assert read_json(written[0])["references"] == said


def test_the_report_has_a_row_for_models_that_are_alike(tmp_path):
    experiment = parse_section(Experiment, plain_experiment(), "config.yaml")
    files = files_of(tmp_path, experiment.runs(), {"supervised": [10.0, 20.0], "weak": [5.0, 10.0]})
    for path in files.errors:
        write_json(path, read_json(path) | {"references": "least squares <of> energies"})
    write_report(experiment, files, tmp_path / "report.html", tmp_path / "results.csv")
    html = (tmp_path / "report.html").read_text()
    sizes = ", ".join(map(str, experiment.sizes))
    cells = ["ammonia", "painn", "supervised, weak", sizes, "", "least squares &lt;of&gt; energies"]
    assert html.count("".join(f"<td>{cell}</td>" for cell in cells)) == 1


def test_the_report_says_how_many_times_a_baseline_is_taken(tmp_path):
    config = plain_experiment()
    config["datasets"]["ammonia"]["cheap_levels"] = ["gfn2-xtb"]
    config["models"]["painn"]["baseline"] = "gfn2-xtb"
    experiment = parse_section(Experiment, config, "config.yaml")
    files = files_of(tmp_path, experiment.runs(), {"supervised": [10.0, 20.0], "weak": [5.0, 10.0]})
    for number, path in enumerate(files.errors):
        said = {"references": "least squares", "baseline_scale": 0.85 + 0.1 * (number == 0)}
        write_json(path, read_json(path) | said)
    write_report(experiment, files, tmp_path / "report.html", tmp_path / "results.csv")
    assert "<td>0.85 to 0.95 × gfn2-xtb</td><td>least squares</td>" in (tmp_path / "report.html").read_text()


def test_a_report_of_models_that_do_not_say_it_has_no_such_rows(tmp_path):
    experiment = parse_section(Experiment, plain_experiment(), "config.yaml")
    files = files_of(tmp_path, experiment.runs(), {"supervised": [10.0, 20.0], "weak": [5.0, 10.0]})
    write_report(experiment, files, tmp_path / "report.html", tmp_path / "results.csv")
    assert "Atomic references" not in (tmp_path / "report.html").read_text()
