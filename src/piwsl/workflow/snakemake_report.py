"""Snakemake's own report of a run: every job's run time, and how each result was made, with our report inside."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from piwsl.errors import reason


def write_snakemake_report(workflow: Any, path: Path) -> None:
    """Write what `snakemake --report` would, of a workflow whose results are made; a failure is but said.

    Args:
        workflow: Snakemake's, with its jobs planned.
        path: a .zip file.
    """
    from snakemake.report import auto_report
    from snakemake.report.html_reporter import ReportSettings
    from snakemake.settings.types import GlobalReportSettings
    from snakemake_interface_report_plugins.registry import ReportPluginRegistry

    try:
        plugin = ReportPluginRegistry().get_plugin("html")
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
            written = Path(folder, path.name)
            workflow.async_run(auto_report(workflow.dag, plugin, ReportSettings(path=written), GlobalReportSettings()))
            written.replace(path)
    except Exception as error:  # of Snakemake's: all results are made
        print(f"warning: {path} is not written: {reason(error)}", file=sys.stderr)
