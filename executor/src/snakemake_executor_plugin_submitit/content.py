"""How a job makes its outputs, as far as Snakemake can see it: what a note holds of it, to be compared later."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from snakemake_executor_plugin_submitit.notes import digest

PLAIN = (type(None), bool, int, float, complex, str, bytes, range)


def content_of(member: Any, made_beside: frozenset[str] = frozenset()) -> str:
    """Return a hash of what a job's outputs depend on: the same as long as Snakemake would make them the same way.

    Args:
        member: Snakemake's job, no group.
        made_beside: outputs of its group, which do not yet lie there as they will when the member runs.
    """
    rule = member.rule
    # The text of the environment: its hash names the place where conda would put it, and asks conda.
    conda = repr(member.conda_env.content) if member.conda_env else ""
    modules = member.env_modules.hash if member.env_modules else ""
    return digest(
        [
            member.shellcmd if rule.shellcmd is not None else rule.run_func_src,
            _script(member),
            [_written(value) for value in member.params],
            [member.container_img_url, conda, modules],
            [_stamp(path) for path in sorted(set(map(str, member.input)) - made_beside)],
        ]
    )


def _script(member: Any) -> list[Any]:
    if not (path := member.rule.script or member.rule.notebook):
        return []
    return _stamp(member._path_to_source_file(path).get_path_or_uri(secret_free=True))


def _stamp(path: str) -> list[Any]:
    """Return a file with its time and size; one that is not there, or is no file of this machine, alone."""
    try:
        status = os.stat(path)
    except OSError:
        return [path]
    return [path, status.st_mtime_ns, status.st_size]


def _written(value: Any) -> Any:
    """Write a parameter: two runs of Python write an equal one the same. Of an object unknown here, its type counts."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, dict):
        return [[_written(key), _written(value[key])] for key in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, _all_written(value)))
    if isinstance(value, list | tuple):
        return _all_written(value)
    return type(value).__qualname__


def _all_written(values: Iterable[Any]) -> list[Any]:
    return [_written(value) for value in values]
