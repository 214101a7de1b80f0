"""Where the numbers come from: versions, machine, what the losses are called elsewhere, the configuration as run."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from piwsl.config import Experiment
from piwsl.config.distributions import of_dataset, of_training
from piwsl.report.context import Context
from piwsl.report.markup import render
from piwsl.report.sections import SECTIONS, ReportSection

PACKAGES = ["piwsl", "torch", "pyscf", "tblite", "ase", "snakemake"]

TEMPLATE = """\
<p>Versions: {% for package, number in versions.items() %}{{ package }} {{ number }}{{ ", " if not loop.last }}
{%- endfor %}.
{% if state %}
Source: git {{ state }}.
{% endif %}
The report was written on {{ machine }}; logs of jobs name the machines of theirs.
{% if brought %}
Not of piwsl: {% for kind, source in brought.items() %}{{ kind }} of {{ source }}{{ ", " if not loop.last }}
{%- endfor %}.
{% endif %}
The weak losses PITC and PISC of order 1 are those of Takamoto, Zaverkin and Niepert, <em>Physics-Informed Weakly
Supervised Learning for Interatomic Potentials</em>, ICML 2025; order 2 takes the mean force of both ends.</p>
<details><summary>The configuration as run; what differs from the defaults is marked</summary>
<pre>
{%- for line in config %}
{% if line.said %}<mark>{{ line.text }}</mark>{% else %}{{ line.text }}{% endif %}

{% endfor %}
</pre></details>
"""


class Making(ReportSection):
    """What another needs to make it again."""

    title = "Where the numbers come from"
    place = 80

    def html(self, context: Context) -> str:
        """Return versions and configuration."""
        return render(
            TEMPLATE,
            versions={package: version(package) for package in PACKAGES} | {"python": platform.python_version()},
            brought=brought(context.experiment),
            state=git_state(Path(__file__).parent),
            machine=machine(),
            config=list(lines(context.experiment.plain(), context.experiment.beyond_defaults())),
        )


@dataclass(frozen=True)
class Line:
    """A line of the configuration."""

    text: str
    said: bool
    """Whether it differs from the default."""


def lines(section: dict[str, Any], said: Any, indent: int = 0) -> Iterator[Line]:
    """Yield a section as lines of YAML.

    Args:
        section: as plain values, defaults included.
        said: what of it differs from the defaults; None where nothing does.
        indent: how many spaces stand before it.
    """
    for key, value in section.items():
        differs = isinstance(said, dict) and key in said
        if isinstance(value, dict) and value:
            yield Line(f"{' ' * indent}{_yaml(key)}:", differs)
            yield from lines(value, said[key] if differs else None, indent + 2)
        else:
            yield from (Line(" " * indent + text, differs) for text in _yaml({key: value}).splitlines())


def _yaml(value: Any) -> str:
    written = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
    return str(written).removesuffix("\n").removesuffix("\n...")


def git_state(folder: Path) -> str:
    """Return the commit that a folder is checked out at, marked -dirty where files were changed; "" outside of git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def machine() -> str:
    """Return the processor that this runs on, how many cores it may use, and the operating system."""
    names = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", names.read_text()) if names.exists() else None
    processor = found[1] if found else platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {platform.system()}"


def brought(experiment: Experiment) -> dict[str, str]:
    """Return names and versions of the distributions that bring what an experiment's runs used, by kind."""
    found: dict[str, str] = {}
    for run in experiment.runs():
        found |= of_dataset(experiment.datasets[run.dataset], experiment.levels)
        found |= of_training(experiment.models[run.model], experiment.losses[run.loss])
    for name in SECTIONS:
        found |= SECTIONS.named_source(name)
    return dict(sorted(found.items()))
