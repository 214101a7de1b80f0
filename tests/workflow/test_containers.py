"""Rules in containers, by a program that plays Apptainer: the image's Python, and of the machine what is bound."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import containers
import pytest
from experiment import planned
from helpers import snakemake
from snakemake.deployment.singularity import Image
from snakemake_interface_common.exceptions import WorkflowError

import piwsl
from piwsl.errors import PiwslError
from piwsl.preflight import check_image

IN_CONTAINERS = ("--sdm", "apptainer")
IMAGE, DEFINITION = "envs/piwsl.sif", "envs/piwsl.def"
# Which the Python of the image, as it is played, does not have.
SOURCES = Path(piwsl.__file__).parent.parent
MINE = "results/tiny/mine/painn/supervised/n4/seed0"


@pytest.fixture
def apptainer(tmp_path, monkeypatch) -> containers.Apptainer:
    if reason := containers.install():
        pytest.skip(reason)
    played = containers.Apptainer(tmp_path / "programs")
    monkeypatch.setenv("PATH", f"{played.path}:{os.environ['PATH']}")
    return played


def build(folder: Path) -> None:
    subprocess.run(["apptainer", "build", IMAGE, DEFINITION], cwd=folder, check=True)


def test_rules_run_in_the_image_with_the_sources_of_the_checkout(rerun, apptainer):
    build(rerun)
    shutil.rmtree(rerun / MINE)
    result = snakemake(rerun, *IN_CONTAINERS)
    assert result.returncode == 0, result.stdout + result.stderr
    calls = apptainer.calls("exec")
    # What is run last: bash -c "set -euo pipefail; python .snakemake/scripts/tmp12345678.train.py"
    scripts = {call[-1].split(".")[-2] for call in calls}
    assert {"train", "evaluate", "simulate", "report"} <= scripts
    for call in calls:
        assert str(rerun / IMAGE) in call
        assert call[call.index("--home") + 1] == str(rerun)
        assert any(word.startswith(f"{SOURCES}:/mnt/") for word in call)


def test_results_are_not_made_again_for_another_image_or_for_none(rerun, apptainer):
    build(rerun)
    assert planned(rerun, *IN_CONTAINERS) == {}
    shutil.rmtree(rerun / MINE)
    assert snakemake(rerun, *IN_CONTAINERS).returncode == 0
    (rerun / IMAGE).rename(rerun / "another.sif")
    assert planned(rerun) == {}
    (rerun / IMAGE).symlink_to(rerun / "another.sif")
    (rerun / "another.sif").write_text("%environment\n    export LC_ALL=C\n")
    assert planned(rerun, *IN_CONTAINERS) == {}


def test_an_image_that_is_not_there_is_said_before_anything_is_made(rerun, apptainer):
    result = snakemake(rerun, *IN_CONTAINERS)
    assert result.returncode == 1
    assert f"error: {IMAGE}: with --sdm apptainer all rules run in this image, and it is not there" in result.stderr
    assert f"apptainer build {IMAGE} {DEFINITION}" in result.stderr


def test_an_image_whose_path_snakemake_does_not_take_is_said_with_its_path(tmp_path):
    image = tmp_path / "my checkout" / IMAGE
    image.parent.mkdir(parents=True)
    image.touch()
    with pytest.raises(WorkflowError, match="whitespace"):
        Image(str(image), None, False)
    with pytest.raises(PiwslError, match=f"{image}: Snakemake takes no image with a space in its path; move"):
        check_image(image)
    image.parent.rename(tmp_path / "envs")
    check_image(tmp_path / IMAGE)
