"""Versions that stand in several files are the same in all of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib

import yaml
from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_conda_environment_has_the_versions_of_pyproject():
    environment = yaml.safe_load((ROOT / "envs" / "piwsl.yaml").read_text())
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert [line for line in pip if "==" in line] == PROJECT["dependencies"]
    assert "piwsl @ file://${PIWSL_HOME}" in pip
    assert any(str(entry).replace(" ", "") == "python=3.11" for entry in environment["dependencies"])


def test_constraints_have_the_versions_of_pyproject():
    constraints = (ROOT / "constraints.txt").read_text().lower().splitlines()
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    assert [line for line in wanted if line.lower() not in constraints] == []
    assert "torch==2.13.0" in constraints


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]


def test_every_rule_has_what_a_rule_must_have():
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        for rule in re.split(r"^(?=rule )", path.read_text(), flags=re.MULTILINE)[1:]:
            name = rule.split(":")[0]
            for directive in ("log", "conda", "resources", "message", "script"):
                assert f"    {directive}:\n" in rule, f"{path.name}, {name} has no {directive}"
            assert "mem_mb=" in rule, name
            assert "runtime=" in rule, name


def test_the_executor_is_a_package_of_its_own(tmp_path):
    source = ROOT / "src" / "snakemake_executor_plugin_submitit"
    assert not [
        path.name for path in source.glob("*.py") if re.search(r"^\s*(import|from) piwsl", path.read_text(), re.M)
    ]
    shutil.copytree(source, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(tmp_path), "./source"]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("snakemake_executor_plugin_submitit-*.whl")
    shutil.unpack_archive(wheel, tmp_path / "installed", "zip")
    asking = "import snakemake_executor_plugin_submitit as plugin; print(plugin.__file__, plugin.Executor.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", asking], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == [
        str(tmp_path / "installed" / "snakemake_executor_plugin_submitit" / "__init__.py"), "Executor",
    ], done.stderr  # fmt: skip


def test_the_workflow_of_the_repository_makes_what_must_pass_elsewhere():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    parts = workflow["jobs"]["make"]["strategy"]["matrix"]["include"]
    targets = [target for part in parts for target in part["targets"].split()]
    assert targets == re.findall(r"^timed make (\S+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
