"""How Snakemake is told of an experiment: one file, read as `piwsl check` reads it, or a module's keys and values."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, morse_frames, snakemake

from piwsl.config import ConfigError
from piwsl.preflight import load_experiment
from piwsl.structures.frames import write_frames

TINY = """
experiment: tiny
datasets:
  mine: {file: mine.xyz, test_frames: 4}
models:
  painn: {architecture: painn, features: 8, layers: 1, training: {steps: 10, learning_rate: 1e-3}}
losses:
  supervised: {}
sizes: [4]
seeds: [0]
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("workflow", "envs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "Snakefile", tmp_path)
    write_frames(tmp_path / "mine.xyz", morse_frames("H2O", 10))
    (tmp_path / "config.yaml").write_text(TINY)
    return tmp_path


def complaint(folder: Path, *arguments: str) -> str:
    """Return the one line with which Snakemake ends."""
    result = snakemake(folder, "--dry-run", "--quiet", *arguments)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line.removeprefix("error: ")


@pytest.mark.parametrize(
    "text",
    [
        TINY + "seeds: [1]\n",
        TINY.replace("seeds: [0]", "seeds: [18446744073709551616]"),
        TINY.replace("experiment: tiny", "experiment: labels"),
        TINY.replace("mine.xyz", "'{a}.xyz'"),
    ],
    ids=["a key twice", "a seed of 65 bits", "the store's folder", "a wildcard"],
)
def test_snakemake_refuses_what_check_refuses_with_the_same_line(folder, monkeypatch, text):
    (folder / "config.yaml").write_text(text)
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError) as refused:
        load_experiment(Path("config.yaml"))
    assert complaint(folder) == str(refused.value)


def test_what_a_config_asks_yte_to_run_is_not_run(folder):
    (folder / "config.yaml").write_text('__use_yte__: true\n?open("executed", "w").close():\n  a: 1\n' + TINY)
    assert "config.yaml: line 1: __use_yte__ would make Snakemake run what stands in this file" in complaint(folder)
    assert not (folder / "executed").exists()


def test_keys_on_the_command_line_several_files_and_none_are_refused(folder):
    (folder / "other.yaml").write_text(TINY)
    assert complaint(folder, "--config", "seeds=3").startswith("--config seeds=...: keys stand in a config file alone")
    assert complaint(folder, "--configfile", "config.yaml", "other.yaml") == (
        "--configfile: one file is an experiment, found config.yaml, other.yaml"
    )
    (folder / "config.yaml").unlink()
    assert complaint(folder) == "config.yaml: No such file or directory"


def test_the_rules_are_a_module_of_another_workflow(folder):
    (folder / "outer").mkdir()
    (folder / "mine.xyz").rename(folder / "outer" / "mine.xyz")
    snakefile = folder / "outer" / "Snakefile"
    module = 'module piwsl:\n    snakefile: "../Snakefile"\n    config: config["piwsl"]\nuse rule * from piwsl\n'
    snakefile.write_text('configfile: "outer.yaml"\n' + module)
    (folder / "outer" / "outer.yaml").write_text(
        yaml.safe_dump({"piwsl": yaml.safe_load(TINY.replace("1e-3", "0.001"))})
    )
    result = snakemake(folder / "outer", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "train" in result.stdout + result.stderr
    snakefile.write_text(module.replace('config["piwsl"]', '{"experiment": 3}'))
    assert complaint(folder / "outer") == "Snakefile: experiment: input should be a valid string, found 3"
