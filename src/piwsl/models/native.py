"""Native code on disk for the next process: where it is kept, and why it may be run.

A library that is loaded can do whatever its user can. It comes from a folder in which nobody else writes, or it is not
loaded. Nothing there is unpickled.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from piwsl.errors import PiwslError
from piwsl.files import file_hash, write_atomically, write_text

# Names the folder; by default piwsl/ in the user's cache.
FOLDER = "PIWSL_CACHE"

# Which dimensions of the first inputs may have another length in each call: of positions (N, 3), atomic numbers (N,),
# edges (2, E) and their shifts (E, 3).
LENGTHS = (0, 0, 1, 0)

# Libraries that stay on disk, 0.5 MB each or so: those used last.
KEPT = 100

Library = Callable[..., Sequence[Tensor]]


class Deviation(Exception):
    """Traced or compiled code that differs from what it was made of, or does not hold where it is wanted."""


def one_line(error: BaseException) -> str:
    """Return the kind of an error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def weights(module: nn.Module) -> list[Tensor]:
    """Return parameters and buffers, in the order in which code takes them."""
    return [parameter.detach() for parameter in module.parameters()] + list(module.buffers())


def stored(graph: GraphModule, inputs: Sequence[Tensor]) -> Library | None:
    """Return the library of a graph where an earlier process has made it, undamaged; arguments as of `library`.

    Raises:
        PiwslError: others may write in the folder.
    """
    path = private_folder() / f"{_key(graph, inputs)}.pt2"
    return _used(path) if _is_whole(path) else None


def library(graph: GraphModule, inputs: Sequence[Tensor]) -> Library:
    """Return the library of a graph, made where it is not stored; processes that want the same one wait for the first.

    Args:
        graph: functions of tensors alone, traced.
        inputs: tensors of the shapes that it takes; LENGTHS of the first ones are examples.

    Raises:
        PiwslError: others may write in the folder.
        Exception: whatever torch's compiler raises, of kinds of its own; where there is no C++ compiler, too.
    """
    path = private_folder() / f"{_key(graph, inputs)}.pt2"
    with _alone(path.with_suffix(".lock")):
        if not _is_whole(path):
            write_atomically(path, lambda temporary: _make(graph, inputs, temporary))
            write_text(_digest_of(path), file_hash(path))
            _forget_unused(path.parent)
    return _used(path)


def private_folder() -> Path:
    """Return the folder of compiled code, made where it is missing.

    Raises:
        PiwslError: it is another user's, or others may write in it.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get(FOLDER) or cache / "piwsl") / "compiled"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()  # a link is refused: where it leads may change
    own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if not own or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PiwslError(f"{folder}: others may write in it, and code from there would run; chmod 700, or set {FOLDER}")
    return folder


def _key(graph: GraphModule, inputs: Sequence[Tensor]) -> str:
    """Return a name that is another one for whatever would make other code, or code that does not run here."""
    constants = [(name, _content(value)) for name, value in sorted(vars(graph).items()) if isinstance(value, Tensor)]
    constants += [(name, _content(value)) for name, value in graph.named_buffers()]
    shapes = [(list(value.shape), value.stride(), str(value.dtype)) for value in inputs]
    parts = (
        graph.code,
        constants,
        shapes,
        torch.__version__,
        torch.get_num_threads(),
        platform.machine(),
        _processor(),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _content(value: Tensor) -> tuple[list[int], str, list[float]]:
    return list(value.shape), str(value.dtype), value.flatten().tolist()


def _processor() -> str:
    """Return what instructions the processor has, for code is made for all of them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _make(graph: GraphModule, inputs: Sequence[Tensor], path: Path) -> None:
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.utils import fresh_cache

    get_cpp_compiler()  # without one, nothing else needs to be done
    lengths = [{dimension: torch.export.Dim.AUTO} for dimension in LENGTHS]
    shapes = (*lengths, *[None] * (len(inputs) - len(lengths)))
    failure: Exception | None = None
    with warnings.catch_warnings(), fresh_cache():  # torch's own would be a folder that is shared
        warnings.simplefilter("ignore")
        try:
            exported = torch.export.export(graph, tuple(inputs), dynamic_shapes=shapes)
            aoti_compile_and_package(exported, package_path=str(path))
        except Exception as error:  # raised in there, it would leave the fresh folder behind
            failure = error
    if failure is not None:
        raise failure


def _used(path: Path) -> Library:
    with suppress(OSError):  # of a read-only folder
        os.utime(path)
    return _loaded(path)


def _loaded(path: Path) -> Library:
    from torch._inductor import aoti_load_package

    return aoti_load_package(str(path))


def _forget_unused(folder: Path) -> None:
    """Remove all but the libraries used last; a process that wants one of the others makes it again."""
    by_use = sorted(folder.glob("*.pt2"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in by_use[KEPT:]:
        for file in (_digest_of(path), path, path.with_suffix(".lock")):
            file.unlink(missing_ok=True)


def _digest_of(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _is_whole(path: Path) -> bool:
    """Whether a library is there, and as it was made: a damaged one may end the process that loads it."""
    digest = _digest_of(path)
    return path.is_file() and digest.is_file() and digest.read_text(encoding="utf-8") == file_hash(path)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
