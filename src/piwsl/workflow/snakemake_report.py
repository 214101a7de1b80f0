"""Snakemake's own report of a run: every job's run time, and how each result was made, with our report inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_snakemake_report(workflow: Any, path: Path) -> None:
    """Write what `snakemake --report` would, of a workflow whose results are made.

    Args:
        workflow: Snakemake's, with its jobs planned.
        path: a .zip file.
    """
    from snakemake.report import auto_report
    from snakemake.report.html_reporter import ReportSettings
    from snakemake.settings.types import GlobalReportSettings
    from snakemake_interface_report_plugins.registry import ReportPluginRegistry

    plugin = ReportPluginRegistry().get_plugin("html")
    workflow.async_run(auto_report(workflow.dag, plugin, ReportSettings(path=path), GlobalReportSettings()))
