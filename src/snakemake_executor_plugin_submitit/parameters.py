"""From Snakemake's resources, under the names of the official SLURM executor, to submitit's parameters."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

# What the executor itself says to sbatch.
OWN_OPTIONS = {"job-name", "array", "output", "error", "signal", "open-mode", "requeue", "no-requeue", "wait", "wrap"}
SHORT_OPTIONS = {"J": "job-name", "a": "array", "o": "output", "e": "error", "W": "wait"}
NAMED = {
    "slurm_partition": "slurm_partition",
    "slurm_account": "slurm_account",
    "qos": "slurm_qos",
    "constraint": "slurm_constraint",
}


class ResourceError(ValueError):
    """Resources that no scheduler would accept; the text says which and what would be right."""


def submission_parameters(name: str, resources: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """Return the parameters of one job for submitit's AutoExecutor.

    Args:
        name: of the rule, or of the group.
        resources: of the job: runtime (minutes), mem_mb, mem_mb_per_cpu, gpu, nodes, tasks, slurm_partition,
            slurm_account, qos, constraint, slurm_extra; others are not the scheduler's business.
        threads: CPUs of a task.

    Raises:
        ResourceError: a value that cannot be.
    """
    parameters: dict[str, Any] = {
        "name": name,
        "cpus_per_task": _count(name, "threads", resources.get("cpus_per_task", threads), least=1),
        "nodes": _count(name, "nodes", resources.get("nodes", 1), least=1),
        "tasks_per_node": _count(name, "tasks", resources.get("tasks", 1), least=1),
        "stderr_to_stdout": True,
    }
    if "runtime" in resources:
        parameters["timeout_min"] = _count(name, "runtime", resources["runtime"], least=1)
    if memory := _memory(name, resources, parameters["cpus_per_task"]):
        # submitit cuts what is no whole MB off.
        parameters["mem_gb"] = (memory + 0.5) / 1024
    if gpus := _count(name, "gpu", resources.get("gpu", 0), least=0):
        parameters["gpus_per_node"] = gpus
    parameters |= {ours: _line(name, key, resources[key]) for key, ours in NAMED.items() if resources.get(key)}
    parameters["slurm_additional_parameters"] = _extra(
        name, _line(name, "slurm_extra", resources.get("slurm_extra") or "")
    )
    return parameters


def _line(name: str, key: str, value: Any) -> str:
    """Return a text that stays within its line of the script that sbatch reads: what follows would be run."""
    if len(str(value).splitlines()) > 1:
        raise ResourceError(f"{name}: {key} is {value!r}; expected one line")
    return str(value)


def _count(name: str, key: str, value: Any, least: int) -> int:
    try:
        count = int(value)
    except (TypeError, ValueError):
        raise ResourceError(f"{name}: {key} is {value!r}; expected a whole number") from None
    if count < least:
        raise ResourceError(f"{name}: {key} is {count}; expected at least {least}")
    return count


def _memory(name: str, resources: Mapping[str, Any], cpus: int) -> int:
    if "mem_mb_per_cpu" in resources and "mem_mb" in resources:
        raise ResourceError(f"{name}: mem_mb and mem_mb_per_cpu are both given; say one")
    if "mem_mb_per_cpu" in resources:
        return cpus * _count(name, "mem_mb_per_cpu", resources["mem_mb_per_cpu"], least=1)
    return _count(name, "mem_mb", resources["mem_mb"], least=1) if "mem_mb" in resources else 0


def _extra(name: str, text: str) -> dict[str, Any]:
    """Parse `slurm_extra`, a string of options of sbatch."""
    options: dict[str, Any] = {"requeue": True}
    words = shlex.split(text)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            raise ResourceError(
                f"{name}: slurm_extra: found '{word}'; expected an option of sbatch, such as --exclusive"
            )
        key, given, value = word.lstrip("-").partition("=")
        key = SHORT_OPTIONS.get(key, key)
        if key in OWN_OPTIONS:
            raise ResourceError(f"{name}: slurm_extra: --{key} is set by the executor; take it out")
        if not given and words and not words[0].startswith("-"):
            value, given = words.pop(0), "="
        options[key.replace("-", "_")] = value if given else True
    return options
