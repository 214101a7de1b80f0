"""From Snakemake's resources, under the names of the official SLURM executor, to submitit's parameters."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

# What the executor itself says to sbatch, or what would keep it from learning the job's id.
OWN_OPTIONS = {
    "job-name", "array", "output", "error", "signal", "open-mode", "requeue", "no-requeue", "wait", "wrap", "parsable",
    "quiet", "test-only", "clusters", "help", "usage", "version",
}  # fmt: skip
# What a resource says: of two values, one would be overruled without a word.
RESOURCE_OPTIONS = {
    "time": "runtime", "mem": "mem_mb", "mem-per-cpu": "mem_mb_per_cpu", "cpus-per-task": "threads", "nodes": "nodes",
    "ntasks": "tasks", "ntasks-per-node": "tasks", "gpus-per-node": "gpu", "partition": "slurm_partition",
    "account": "slurm_account", "qos": "qos", "constraint": "constraint",
}  # fmt: skip
# The one option of sbatch that is also the beginning of one above.
OTHER_OPTIONS = {"gpus"}
OPTION_NAME = re.compile(r"[a-z][a-z0-9-]*")
SHORT_OPTIONS = {
    "a": "array", "A": "account", "b": "begin", "B": "extra-node-info", "c": "cpus-per-task", "C": "constraint",
    "d": "dependency", "D": "chdir", "e": "error", "F": "nodefile", "G": "gpus", "h": "help", "H": "hold",
    "i": "input", "J": "job-name", "k": "no-kill", "L": "licenses", "m": "distribution", "M": "clusters", "n": "ntasks",
    "N": "nodes", "o": "output", "O": "overcommit", "p": "partition", "q": "qos", "Q": "quiet", "s": "oversubscribe",
    "S": "core-spec", "t": "time", "u": "usage", "v": "verbose", "V": "version", "w": "nodelist", "W": "wait",
    "x": "exclude",
}  # fmt: skip
WITHOUT_VALUE = set("hHkOQsuvVW")
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
        parameters["mem_gb"] = whole_megabytes(memory)
    if gpus := _count(name, "gpu", resources.get("gpu", 0), least=0):
        parameters["gpus_per_node"] = gpus
    parameters |= {ours: _line(name, key, resources[key]) for key, ours in NAMED.items() if resources.get(key)}
    parameters["slurm_additional_parameters"] = _extra(
        name, _line(name, "slurm_extra", resources.get("slurm_extra") or "")
    )
    return parameters


def whole_megabytes(memory: int) -> float:
    """Return memory (MB) in the GB of submitit, which cuts what is no whole MB off."""
    return (memory + 0.5) / 1024


def _line(name: str, key: str, value: Any) -> str:
    """Return a text that stays within its line of the script that sbatch reads: what follows would be run."""
    text = str(value).strip()
    if not text.isprintable():
        raise ResourceError(f"{name}: {key} is {value!r}; expected one line without control characters")
    return text


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
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ResourceError(f"{name}: slurm_extra is {text!r}: {error}") from None
    options: dict[str, Any] = {"requeue": True}
    try:
        for option, value in _options(words):
            _check_free(option)
            options[option.replace("-", "_")] = True if value is None else value
    except ResourceError as error:
        raise ResourceError(f"{name}: slurm_extra: {error}") from None
    return options


def _options(words: list[str]) -> Iterator[tuple[str, str | None]]:
    """Yield long names and values of options as sbatch reads them: `--nice=5`, `--nice 5`, `-x node`, `-Hxnode`."""
    words = list(words)
    while words:
        word = words.pop(0)
        following = words[:1] if words and not words[0].startswith("-") else []
        if word.startswith("--"):
            # submitit takes _ for -.
            option, given, value = word[2:].partition("=")
            option = option.replace("_", "-")
            if not OPTION_NAME.fullmatch(option):
                raise _unknown(word)
            if not given:
                del words[: len(following)]
            yield option, value if given else next(iter(following), None)
            continue
        letters = word[1:] if word.startswith("-") else ""
        if not letters:
            raise _unknown(word)
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter not in SHORT_OPTIONS:
                raise _unknown(word)
            if letter in WITHOUT_VALUE:
                yield SHORT_OPTIONS[letter], None
                continue
            if not letters:
                del words[: len(following)]
            yield SHORT_OPTIONS[letter], letters or next(iter(following), None)
            letters = ""


def _unknown(word: str) -> ResourceError:
    return ResourceError(f"found {word!r}; expected an option of sbatch, such as --exclusive")


def _check_free(option: str) -> None:
    """Refuse an option that is ours in any spelling: sbatch takes the beginning of a name for the name."""
    if option in OTHER_OPTIONS:
        return
    for own in sorted(OWN_OPTIONS):
        if own.startswith(option):
            raise ResourceError(f"--{own} is set by the executor; take it out")
    for own, key in RESOURCE_OPTIONS.items():
        if own.startswith(option):
            raise ResourceError(f"--{own} is set by the resource {key}; say it there")
