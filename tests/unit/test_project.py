"""What stands in several files is the same in all of them: packages, their versions and that of the project."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata

import pytest
import yaml
from helpers import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from piwsl.extras import PACKAGES

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXECUTOR = tomllib.loads((ROOT / "executor" / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
OWN = {project["name"] for project in (PROJECT, EXECUTOR)}
PINS = {
    canonicalize_name(name): Version(version)
    for name, version in (line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
}


def others(requirements: Iterable[str]) -> list[Requirement]:
    """Return the requirements that are no package of this repository, each once."""
    parsed = {requirement.name: requirement for requirement in map(Requirement, requirements)}
    return [requirement for name, requirement in sorted(parsed.items()) if name not in OWN]


def without_development() -> list[str]:
    extras = [line for name, lines in EXTRAS.items() if name != "dev" for line in lines]
    return PROJECT["dependencies"] + extras + EXECUTOR["dependencies"]


DIRECT = others(without_development() + EXTRAS["dev"])


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_the_lower_bound_of_every_package_is_the_version_that_was_tested(requirement):
    tested = PINS[canonicalize_name(requirement.name)]
    assert tested in requirement.specifier
    assert f">={tested}" in str(requirement.specifier)


def test_constraints_pin_all_that_comes_with_what_is_asked_for():
    """As the environment of these tests has it; torch brings its own CUDA packages where it is built for CUDA."""
    waiting: list[Requirement] = list(DIRECT)
    came: dict[str, set[str]] = {}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        extras = {"", *requirement.extras} - came.setdefault(name, set())
        if name.startswith(("nvidia-", "cuda-", "triton")) or not extras:
            continue
        came[name] |= extras
        for wanted in map(Requirement, metadata.requires(name) or []):
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(wanted)
    assert sorted(PINS) == sorted(name for name, extras in came.items() if extras)
    installed = {name: Version(Version(metadata.version(name)).public) for name in PINS}
    assert installed == PINS


def test_constraints_hold_versions_alone():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert lines == sorted(lines, key=str.lower)
    assert "torch==2.13.0" in lines


def test_conda_environment_has_the_packages_of_pyproject_in_the_versions_of_the_constraints():
    environment = yaml.safe_load((ROOT / "envs" / "piwsl.yaml").read_text())
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    wanted = others(without_development())
    assert [line for line in pip if "==" in line] == [
        f"{requirement.name}=={PINS[canonicalize_name(requirement.name)]}" for requirement in wanted
    ]
    assert "piwsl[all] @ file://${PIWSL_HOME}" in pip
    assert "snakemake-executor-plugin-submitit @ file://${PIWSL_HOME}/executor" in pip
    assert any(str(entry).replace(" ", "") == "python=3.11" for entry in environment["dependencies"])


def test_the_image_has_the_packages_of_pyproject_in_the_versions_of_the_constraints():
    definition = (ROOT / "envs" / "piwsl.def").read_text()
    sections = dict(re.findall(r"^%(\w+)\n((?:    .*\n)*)", definition, re.MULTILINE))
    copied = dict(line.split() for line in sections["files"].splitlines())
    assert all(target == f"/build/{source}" and (ROOT / source).exists() for source, target in copied.items())
    # What building the two packages reads.
    assert {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "src", "executor"} < copied.keys()
    install = "python -m pip install --no-cache-dir --constraint constraints.txt ./executor '.[all]'"
    assert install in sections["post"]
    assert "python -m pip uninstall --yes " + " ".join(sorted(OWN)) in sections["post"]
    environment = yaml.safe_load((ROOT / "envs" / "piwsl.yaml").read_text())
    (python,) = re.findall(r"^From: python:([\d.]+)-slim", definition, re.MULTILINE)
    assert f"python ={python}" in environment["dependencies"]


def test_all_is_every_extra_and_development_stands_on_it():
    (every,) = map(Requirement, EXTRAS["all"])
    assert every.extras == set(EXTRAS) - {"all", "dev"}
    assert "piwsl[all]" in EXTRAS["dev"]


def test_a_missing_package_is_said_to_come_with_an_extra_that_brings_it():
    distributions = metadata.packages_distributions()
    core = {requirement.name for requirement in others(PROJECT["dependencies"])}
    said = set()
    for module, (_, extra) in PACKAGES.items():
        brought = {canonicalize_name(requirement.name) for requirement in others(EXTRAS[extra])}
        here = {canonicalize_name(name) for name in distributions[module]}
        assert here & brought, f"{module} does not come with [{extra}]"
        said |= here
    optional = {canonicalize_name(r.name) for e, lines in EXTRAS.items() if e != "dev" for r in others(lines)}
    assert optional - said - core == set()


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]


def rules() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each rule of the workflow."""
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        for rule in re.split(r"^(?=rule )", path.read_text(), flags=re.MULTILINE)[1:]:
            yield f"{path.name}, {rule.split(':')[0]}", rule


def test_every_rule_has_what_a_rule_must_have():
    for name, rule in rules():
        for directive in ("log", "conda", "resources", "message", "script"):
            assert f"    {directive}:\n" in rule, f"{name} has no {directive}"
        assert "mem_mb=" in rule, name
        assert "runtime=" in rule, name


def test_what_notes_each_frame_of_given_files_has_more_memory_in_each_attempt():
    """How many frames there are is not known before they are read."""
    reading = {name: rule for name, rule in rules() if "jobs.given_files(" in rule}
    assert len(reading) == 3
    for name, rule in reading.items():
        assert "mem_mb=growing(" in rule, name


def test_the_workflow_of_the_repository_makes_what_must_pass_elsewhere():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    parts = workflow["jobs"]["make"]["strategy"]["matrix"]["include"]
    targets = [target for part in parts for target in part["targets"].split()]
    here = re.findall(r"^ *timed make (\S+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert sorted(targets) == sorted(here)
