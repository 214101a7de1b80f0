"""Groups: several jobs of the workflow in one of the cluster, which runs as many of them at a time as fit its share.

Snakemake would ask for all that members need which could run at once: for eight tests of one CPU, eight CPUs and
eight times the memory. Here they are laid into fewer CPUs, and into the memory of a node, layer after layer; the time
is that of all layers. Members with a GPU run one after another: side by side, each would take the first of the job's.
Where all of them say how much of its memory they need, and the memory of a GPU is known, as many share it as fit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from snakemake.common.tbdstring import TBDString
from snakemake.resources import GroupResources
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_submitit.parameters import ResourceError
from snakemake_executor_plugin_submitit.partitions import Partition

CPUS, MEMORY, GPUS, GPU_MEMORY = "_cores", "mem_mb", "gpu", "gpu_mem_mb"
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


def bounded_resources(
    group: Any, most_cpus: int, known: Mapping[str, Partition], gpu_memory: int = 0
) -> dict[str, Any]:
    """Return the resources of a group: CPUs and memory of its widest layer, and the time of all layers.

    Args:
        group: Snakemake's job.
        most_cpus: of members that run at a time; one that asks for more is given what it asks for.
        known: partitions by name; the largest node of those that the group names bounds its CPUs and memory, too.
        gpu_memory: of one GPU, MB; 0: not known, and no GPU is shared.

    Raises:
        ResourceError: members of different partitions, one that needs more memory than a GPU has, or the like.
    """
    shares = _shares_gpu(group, gpu_memory)
    layers = [[_member(job, GPUS if shares else GPU_MEMORY) for job in layer] for layer in group.toposorted]
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
    if shares:
        constraints[GPU_MEMORY] = gpu_memory
    elif gpus := _widest(members, GPUS):
        constraints[GPUS] = gpus
    try:
        resources = GroupResources.basic_layered(layers, constraints, run_local=False)
    except WorkflowError as error:
        raise ResourceError(f"{group.name}: {error}") from None
    once = {name: max(_amounts(said, name)) for name in OF_THE_WHOLE if name in resources}
    return dict(resources) | once | ({GPUS: 1} if shares else {})


def _shares_gpu(group: Any, gpu_memory: int) -> bool:
    """Whether those members that ask for a GPU share one: each says how much of its memory it needs."""
    with_gpu = [job.resources for job in group.jobs if job.resources.get(GPUS)]
    needs = [_needed_of_gpu(group.name, member, gpu_memory) for member in with_gpu] if gpu_memory else []
    return bool(needs) and all(needs) and all(member[GPUS] == 1 for member in with_gpu)


def _needed_of_gpu(name: str, member: Mapping[str, Any], gpu_memory: int) -> int:
    """Return how much of a GPU's memory a member needs, MB; 0 where it does not say."""
    needed = member.get(GPU_MEMORY, 0)
    if isinstance(needed, TBDString):
        return 0
    if not isinstance(needed, int) or needed < 0:
        raise ResourceError(f"{name}: {GPU_MEMORY} is {needed!r}; expected a whole number of MB")
    if needed > gpu_memory:
        raise ResourceError(f"{name}: {GPU_MEMORY} is {needed}, but submitit-group-gpu-mem-mb is {gpu_memory}")
    return needed


def shared_resources(group: Any, resources: Mapping[str, Any], gpu_memory: int = 0) -> dict[str, Any]:
    """Return what members of a group wait for each other's share of, beside the CPUs.

    Args:
        group: Snakemake's job.
        resources: as of `bounded_resources`.
        gpu_memory: of one GPU, MB; 0: not known.
    """
    of_gpu = GPU_MEMORY if _shares_gpu(group, gpu_memory) else GPUS
    shared = {name: resources[name] for name in (MEMORY, of_gpu) if resources.get(name)}
    # The Snakemake in the job knows of threads alone.
    beyond = any(member.resources.get(CPUS_PER_TASK) for member in group.jobs)
    return shared | ({CPUS_PER_TASK: resources[CPUS]} if beyond else {})


def _member(job: Any, of_no_account: str) -> _Member:
    resources = {name: value for name, value in dict(job.resources).items() if name != of_no_account}
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
