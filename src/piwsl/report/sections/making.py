"""How the report was made: versions, what the losses are called elsewhere, the whole configuration."""

from __future__ import annotations

import platform
from importlib.metadata import version

import yaml

from piwsl.report.context import Context
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection

PACKAGES = ["piwsl", "torch", "pyscf", "tblite", "ase", "snakemake"]

TEMPLATE = """\
<p>Versions: {% for package, number in versions.items() %}{{ package }} {{ number }}{{ ", " if not loop.last }}
{%- endfor %}.
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
            config=yaml.safe_dump(context.experiment.plain(), sort_keys=False, allow_unicode=True),
        )
