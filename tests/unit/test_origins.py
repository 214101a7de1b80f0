"""What frames were made from is noted beside them once they are made, and by nothing that did not end."""

from __future__ import annotations

from pathlib import Path

import pytest

from piwsl.config import Experiment, parse_section
from piwsl.workflow.jobs import Jobs
from piwsl.workflow.origins import are_of_config, noted_origin, origin_of

HERE = Path("data")
FRAMES = HERE / "frames" / "training.xyz"


def jobs(**edits: object) -> Jobs:
    water = {
        "molecule": {"smiles": "O"},
        "sampling": {"temperatures": [300]},
        "level": "demo",
        "training_frames": 5,
        "test_frames": 2,
    }
    config = {
        "experiment": "small",
        "datasets": {"water": water | edits},
        "models": {"painn": {"architecture": "painn"}},
        "losses": {"supervised": {}},
        "sizes": [4],
        "seeds": [0],
    }
    return Jobs(parse_section(Experiment, config, "config.yaml"), Path("workflow/scripts"))


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FRAMES.parent.mkdir(parents=True)
    with noted_origin(str(FRAMES), origin_of(jobs(), "water", "training")):
        FRAMES.touch()


@pytest.mark.usefixtures("made")
def test_frames_are_of_the_config_they_were_made_by():
    assert are_of_config(jobs(), "water", HERE, "training")
    assert are_of_config(jobs(training_frames=50, test_frames=20, level="mp2-cbs"), "water", HERE, "training")
    for others in (
        {"molecule": {"smiles": "OO"}},
        {"sampling": {"temperatures": [450]}},
        {"selection": "farthest_point"},
    ):
        assert not are_of_config(jobs(**others), "water", HERE, "training")


@pytest.mark.usefixtures("made")
def test_a_molecule_of_a_file_is_told_by_what_is_in_it():
    Path("mine.xyz").write_text("1\n\nHe 0 0 0\n")
    one = origin_of(jobs(molecule={"file": "mine.xyz"}), "water", "test")
    Path("mine.xyz").write_text("1\n\nNe 0 0 0\n")
    assert origin_of(jobs(molecule={"file": "mine.xyz"}), "water", "test") != one


@pytest.mark.usefixtures("made")
def test_a_job_that_did_not_end_leaves_no_note_of_what_was_there_before():
    note = FRAMES.with_suffix(".json")
    assert note.exists()
    with pytest.raises(ZeroDivisionError), noted_origin(str(FRAMES), "something else"):
        1 / 0  # noqa: B018
    assert not note.exists()


@pytest.mark.usefixtures("made")
def test_frames_without_a_note_pass_for_the_configs_and_those_with_a_broken_one_do_not():
    FRAMES.with_suffix(".json").write_text("{")
    assert not are_of_config(jobs(), "water", HERE, "training")
    FRAMES.with_suffix(".json").unlink()
    assert are_of_config(jobs(), "water", HERE, "training")
