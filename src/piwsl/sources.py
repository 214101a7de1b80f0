"""The files that what a distribution brings may depend on: all that is its own, code and what lies beside it.

What tools leave there, hidden files and caches, is no source. Nothing is imported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import Distribution, EntryPoint
from importlib.util import find_spec
from pathlib import Path

# How names of files and folders begin that are no source: caches, hidden ones, what editable installs generate.
LEFT = ("__pycache__", ".", "__editable__")
ABOUT_IT = (".dist-info", ".egg-info", ".pth")
# Where the modules of all distributions lie beside one another.
SHARED = ("site-packages", "dist-packages")


def sources(point: EntryPoint) -> list[Path]:
    """Return the files of the distribution that an entry point is of, in an order.

    They are those that were recorded when it was installed. Where they lie elsewhere (an editable install, a folder on
    the path), they are its top-level modules, as far as it names them, and what those import that lies beside them.
    """
    top = point.module.partition(".")[0]
    files = _files(top)
    recorded = _recorded(point.dist) if point.dist is not None else set()
    if files & recorded:
        return sorted(files | recorded)
    names = {top, *((point.dist and point.dist.read_text("top_level.txt")) or "").split()}
    roots = {root for name in names for root in _roots(name)}
    return sorted(_with_imports(files.union(*map(_files, names)), roots))


def _recorded(distribution: Distribution) -> set[Path]:
    """Return the files that a distribution was installed with, those about it aside."""
    paths = {Path(str(distribution.locate_file(file))) for file in distribution.files or () if _is_source(file.parts)}
    return {path for path in paths if path.is_file()}


def _is_source(parts: tuple[str, ...]) -> bool:
    return not any(part.startswith(LEFT) or part.endswith(ABOUT_IT) for part in parts)


def _places(name: str) -> list[Path]:
    """Return the file of a top-level module, or the folders of a package."""
    with suppress(ValueError, ImportError):
        if (spec := find_spec(name)) is not None:
            file = [spec.origin] if spec.has_location and spec.origin else []
            return [Path(place) for place in spec.submodule_search_locations or file]
    return []


def _roots(name: str) -> list[Path]:
    return [place.parent for place in _places(name) if place.parent.name not in SHARED]


def _files(name: str) -> set[Path]:
    return {path for place in _places(name) for path in _below(place)}


def _below(place: Path) -> Iterator[Path]:
    """Yield a file, or all of a folder that are sources."""
    for path in place.rglob("*") if place.is_dir() else [place]:
        if path.is_file() and _is_source(path.relative_to(place.parent).parts):
            yield path


def _with_imports(files: set[Path], roots: set[Path]) -> set[Path]:
    """Return files, and those of the modules and packages right below the roots that they import, and so on."""
    found, waiting = set(files), list(files)
    while waiting:
        for name in _imported(waiting.pop()):
            beside = {place for root in roots for place in (root / f"{name}.py", root / name)}
            new = {path for place in beside for path in _below(place)} - found
            found |= new
            waiting += new
    return found


def _imported(path: Path) -> set[str]:
    """Return the top-level modules that a file imports, anywhere in it; of what is no Python, none."""
    if path.suffix != ".py":
        return set()
    with suppress(SyntaxError, ValueError):
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
        names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
        return {name.partition(".")[0] for name in names} - {""}
    return set()
