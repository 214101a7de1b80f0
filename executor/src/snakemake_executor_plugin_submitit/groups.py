"""Groups: several jobs of the workflow in one of the cluster, which runs as many of them at a time as fit its share.

Snakemake would ask for all that members need which could run at once: for eight tests of one CPU, eight CPUs and
eight times the memory. Here they are laid into fewer CPUs, and into the memory of a node, layer after layer; the time
is that of all layers. Members with a GPU run one after another: side by side, each would take the first of the job's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from snakemake.resources import GroupResources
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_submitit.parameters import ResourceError
from snakemake_executor_plugin_submitit.partitions import Partition

CPUS, MEMORY, GPUS = "_cores", "mem_mb", "gpu"
# What the scheduler is told in place of the threads, where a job says so.
CPUS_PER_TASK = "cpus_per_task"
# What a job says once, or for each of its CPUs: not the more, the more members run at a time.
OF_THE_WHOLE = ("mem_mb_per_cpu", "nodes", "tasks")


@dataclass(frozen=True, eq=False)
class _Member:
    """What the laying into layers sees of a job."""

    resources: dict[str, Any]
    pipe_group: Any


def groups_of(dag: Any) -> list[Any]:
    """Return the groups that are to be submitted, as far as Snakemake can see now."""
    groups = dict.fromkeys(dag.get_job_group(job) for job in dag.needrun_jobs())
    return [group for group in groups if group is not None and not group.is_local]


def bounded_resources(group: Any, most_cpus: int, known: Mapping[str, Partition]) -> dict[str, Any]:
    """Return the resources of a group: CPUs and memory of its widest layer, and the time of all layers.

    Args:
        group: Snakemake's job.
        most_cpus: of members that run at a time; one that asks for more is given what it asks for.
        known: partitions by name; the largest node of those that the group names bounds its CPUs and memory, too.

    Raises:
        ResourceError: members of different partitions, or the like.
    """
    layers = [[_member(job) for job in layer] for layer in group.toposorted]
    members = [member for layer in layers for member in layer]
    said = [member.resources for member in members]
    names = str(said[0].get("slurm_partition", "")).split(",")
    nodes = [known[name] for name in names if name in known]
    bounds = {CPUS: min(most_cpus, max((node.cpus for node in nodes), default=most_cpus))}
    if nodes:
        bounds[MEMORY] = max(node.memory_mb for node in nodes)
    constraints = group.global_resources.copy()
    for name, bound in bounds.items():
        given = constraints.get(name).value
        constraints[name] = max(_widest(members, name), min(bound, given or bound))
    if gpus := _widest(members, GPUS):
        constraints[GPUS] = gpus
    try:
        resources = GroupResources.basic_layered(layers, constraints, run_local=False)
    except WorkflowError as error:
        raise ResourceError(f"{group.name}: {error}") from None
    once = {name: max(_amounts(said, name)) for name in OF_THE_WHOLE if name in resources}
    return dict(resources) | once


def shared_resources(group: Any, resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return what members of a group wait for each other's share of, beside the CPUs.

    Args:
        group: Snakemake's job.
        resources: as of `bounded_resources`.
    """
    shared = {name: resources[name] for name in (MEMORY, GPUS) if resources.get(name)}
    # The Snakemake in the job knows of threads alone.
    beyond = any(member.resources.get(CPUS_PER_TASK) for member in group.jobs)
    return shared | ({CPUS_PER_TASK: resources[CPUS]} if beyond else {})


def _member(job: Any) -> _Member:
    resources = dict(job.resources)
    cpus = resources.pop(CPUS_PER_TASK, None)
    return _Member(resources if cpus is None else resources | {CPUS: cpus}, job.pipe_group)


def _amounts(members: Iterable[Mapping[str, Any]], name: str) -> list[int]:
    """Return how much members ask for; those say nothing whose inputs decide and are not there yet."""
    return [amount for member in members if isinstance(amount := member.get(name, 0), int)]


def _widest(members: Iterable[_Member], name: str) -> int:
    """Return what is needed at one time in any case: by one member, or by those that a pipe joins."""
    together: dict[Any, int] = defaultdict(int)
    for member in members:
        together[member.pipe_group or member] += sum(_amounts([member.resources], name))
    return max(together.values())
