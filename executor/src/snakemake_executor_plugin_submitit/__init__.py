"""Snakemake executor that submits through submitit: to SLURM, to processes of this machine, or inline for debugging."""

from __future__ import annotations

import importlib
from typing import Any

# Where what Snakemake looks for here lies. It is imported when asked for: a job on a node imports `payload` alone, and
# pays for nothing else.
_PLACES = {"Executor": "executor", "ExecutorSettings": "settings", "common_settings": "settings"}


def __getattr__(name: str) -> Any:
    """Return a part of the plugin (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
