"""The config as Snakemake planned with it: a job reads its config when it starts, and is given a copy to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from snakemake.common.configfile import load_configfile
from snakemake.utils import update_config

FILE = "config.yaml"


def planned_config(workflow: Any) -> str | None:
    """Return the config that a workflow was planned with as YAML, or None where it has none.

    Config files of the command line and `--config` are as they were read; those that the workflow itself names are
    read again.

    Args:
        workflow: Snakemake's.
    """
    settings = workflow.config_settings
    config: dict[str, Any] = {}
    if not settings.replace_workflow_config:
        for name in workflow.configfiles[len(settings.configfiles) :]:
            # The workflow may have changed its folder since it named them.
            places = (Path(name), Path(workflow.workdir_init) / name)
            if found := next(filter(Path.exists, places), None):
                update_config(config, load_configfile(found))
    update_config(config, settings.overwrite_config)
    return yaml.safe_dump(_plain(config), sort_keys=False) if config else None


def frozen_arguments(path: Path) -> list[str]:
    """Return what the inner Snakemake is told, as its last arguments: this config stands for all that were named."""
    return ["--configfiles", str(path), "--config", "--replace-workflow-config"]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
