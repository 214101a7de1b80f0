"""What the partitions of a cluster allow: a job that asks for more would wait in the queue for ever."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from snakemake_executor_plugin_submitit.parameters import ResourceError, whole_megabytes

# After the name of a partition, as sinfo has it.
DEFAULT = "*"
# A user's own default, which sbatch reads.
OWN_DEFAULT = "SBATCH_PARTITION"


@dataclass(frozen=True)
class Partition:
    """The limits of a partition: those of its largest node."""

    minutes: float
    """inf: unlimited."""
    cpus: int
    memory_mb: int
    is_default: bool = False
    """Whether jobs that name no partition go there."""


def minutes_of(text: str) -> float:
    """Read a time of SLURM, [days-]hours:minutes:seconds, minutes:seconds or infinite, as minutes."""
    if text in ("infinite", "n/a"):
        return float("inf")
    days, _, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    hours, minutes, seconds = [0] * (3 - len(parts)) + parts
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60


def partitions() -> dict[str, Partition]:
    """Ask sinfo for the partitions, by name.

    Raises:
        OSError, subprocess.CalledProcessError: there is no SLURM here.
    """
    command = ["sinfo", "--all", "--noheader", "--Node", "--format", "%P|%l|%c|%m"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Partition] = {}
    for line in answer.splitlines():
        told, limit, cpus, memory = line.split("|")
        name = told.removesuffix(DEFAULT)
        node = Partition(minutes_of(limit), int(cpus.rstrip("+")), int(memory.rstrip("+")), told != name)
        known = found.get(name, node)
        found[name] = replace(node, cpus=max(known.cpus, node.cpus), memory_mb=max(known.memory_mb, node.memory_mb))
    return found


def check_fits(parameters: Mapping[str, Any], known: Mapping[str, Partition]) -> None:
    """Refuse a job that no partition among those it names would ever start.

    Args:
        parameters: of the submission; a job that names no partition is not checked: a cluster may send it
            elsewhere than to its default, by what it asks for.
        known: partitions by name.

    Raises:
        ResourceError: which resource, what was found, and what is allowed.
    """
    limits = _named(parameters, known)
    wanted: dict[str, tuple[float, list[float], str]] = {
        "runtime": (parameters.get("timeout_min", 0), [limit.minutes for limit in limits], "minutes"),
        "threads": (
            parameters["cpus_per_task"] * parameters["tasks_per_node"], [limit.cpus for limit in limits], "CPUs a node"
        ),
        "mem_mb": (int(1024 * parameters.get("mem_gb", 0)), [limit.memory_mb for limit in limits], "MB a node"),
    }  # fmt: skip
    for key, (value, allowed, unit) in wanted.items():
        if allowed and value > max(allowed):
            raise ResourceError(
                f"{parameters['name']}: {key} is {value}, but partition {parameters['slurm_partition']} has "
                f"{max(allowed):g} {unit}; ask for less, or for another slurm_partition"
            )


def grown_to_fit(parameters: Mapping[str, Any], known: Mapping[str, Partition]) -> dict[str, Any]:
    """Return what a retry asks for, whose time and memory have grown: no more than its partitions have."""
    fitting = dict(parameters)
    limits = _named(parameters, known) or _default(known)
    most = {
        "timeout_min": max((limit.minutes for limit in limits), default=float("inf")),
        "mem_gb": max((whole_megabytes(limit.memory_mb) for limit in limits), default=float("inf")),
    }
    for key in most.keys() & parameters.keys():
        if parameters[key] > most[key]:
            fitting[key] = int(most[key]) if key == "timeout_min" else most[key]
    return fitting


def goes_elsewhere(parameters: Mapping[str, Any], known: Mapping[str, Partition]) -> bool:
    """Whether a job that names no partition asks for more than the default has: if it runs, it runs elsewhere.

    How many GPUs partitions have is not asked: whoever wants one may be sent elsewhere.
    """
    if _named(parameters, known):
        return False
    cpus = parameters["cpus_per_task"] * parameters["tasks_per_node"]
    too_wide = any(cpus > limit.cpus for limit in _default(known))
    return too_wide or "gpus_per_node" in parameters or grown_to_fit(parameters, known) != parameters


def _default(known: Mapping[str, Partition]) -> list[Partition]:
    """Return where a job goes that names no partition; none where the user's own default is another."""
    return [] if OWN_DEFAULT in os.environ else [partition for partition in known.values() if partition.is_default]


def _named(parameters: Mapping[str, Any], known: Mapping[str, Partition]) -> list[Partition]:
    """Return the partitions that a job names."""
    asked = [name for name in str(parameters.get("slurm_partition", "")).split(",") if name]
    if unknown := [name for name in asked if name not in known]:
        raise ResourceError(
            f"{parameters['name']}: slurm_partition: there is no '{unknown[0]}'; sinfo lists {', '.join(sorted(known))}"
        )
    return [known[name] for name in asked]
