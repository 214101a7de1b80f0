"""How the report was made: versions, what the losses are called elsewhere, the whole configuration."""

from __future__ import annotations

import platform
from importlib.metadata import version

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
{% if brought %}
Not of piwsl: {% for kind, source in brought.items() %}{{ kind }} of {{ source }}{{ ", " if not loop.last }}
{%- endfor %}.
{% endif %}
The weak losses PITC and PISC of order 1 are those of Takamoto, Zaverkin and Niepert, <em>Physics-Informed Weakly
Supervised Learning for Interatomic Potentials</em>, ICML 2025; order 2 takes the mean force of both ends.</p>
<details><summary>The configuration, defaults included</summary><pre>{{ config }}</pre></details>
"""


class Making(ReportSection):
    """What another needs to make it again."""

    title = "How it was made"
    place = 80

    def html(self, context: Context) -> str:
        """Return versions and configuration."""
        return render(
            TEMPLATE,
            versions={package: version(package) for package in PACKAGES} | {"python": platform.python_version()},
            brought=brought(context.experiment),
            config=yaml.safe_dump(context.experiment.plain(), sort_keys=False, allow_unicode=True),
        )


def brought(experiment: Experiment) -> dict[str, str]:
    """Return names and versions of the distributions that bring what an experiment's runs used, by kind."""
    found: dict[str, str] = {}
    for run in experiment.runs():
        found |= of_dataset(experiment.datasets[run.dataset], experiment.levels)
        found |= of_training(experiment.models[run.model], experiment.losses[run.loss])
    for name in SECTIONS:
        found |= SECTIONS.named_source(name)
    return dict(sorted(found.items()))
