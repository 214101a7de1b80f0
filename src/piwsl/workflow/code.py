"""What a script runs, as a hash of its source: a job is redone when the code behind it changes, and by no comment.

The hash is of the syntax of every function, class and constant that the script reaches by name, in modules of one
package: names are followed through imports, those within functions included; a class counts as a whole, and a package
that is named in a string, as registries do, with all that is in it. What changes no result does not count: comments,
docstrings, annotations of functions, what errors and progress say, checks and descriptions of config keys, and whatever
the script cannot reach. Nothing is imported or run.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from piwsl.files import file_hash, read_json, write_json

# What looks for modules by itself reaches all of its package.
FINDERS = {"import_module", "iter_modules", "walk_packages"}
# Of pydantic: what refuses values, or says what they are. The values themselves are parameters of jobs.
CHECKS = {"field_validator", "model_validator"}
SAYINGS = {"description", "ge", "le", "gt", "lt", "min_length", "max_length", "pattern"}
# Of scripts: they refuse files that are not what a job was planned with, and note what frames were made from.
BESIDE = {"as_planned", "noted_origin"}
DATA = (".css", ".html", ".js", ".json")

Import = tuple[str, str | None]
"""A module and, unless the module itself is meant, a name there."""


def digests(package: Path, scripts: Sequence[Path], without: Iterable[str], kept: Path) -> dict[str, str]:
    """Return `Code.digest` of each script, by its name without suffix.

    Following names takes seconds, and each job on a cluster reads the rules anew: what was found is kept, and holds as
    long as no source differs by a byte.

    Args:
        package: folder of the package.
        scripts: Python files that import from it.
        without: modules that do not count.
        kept: JSON file of what was found last; it may be missing, and is written where that can be done.
    """
    without = tuple(without)
    sources = _content(package, scripts, without)
    try:
        last = read_json(kept)
        if last["sources"] == sources:
            return {path.stem: str(last["digests"][path.stem]) for path in scripts}
    except (OSError, ValueError, LookupError, TypeError):
        pass
    code = Code(package, without)
    found = {path.stem: code.digest(path) for path in scripts}
    with contextlib.suppress(OSError):
        write_json(kept, {"sources": sources, "digests": found})
    return found


def _content(package: Path, scripts: Sequence[Path], without: tuple[str, ...]) -> str:
    """Return a hash of all that digests depend on; how syntax is written down is Python's."""
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*") if path.suffix in (".py", *DATA)}
    files |= {f"script {path.name}": path for path in scripts}
    hashes = [(name, file_hash(path)) for name, path in sorted(files.items())]
    return hashlib.sha256(repr((hashes, without, sys.version_info)).encode()).hexdigest()


@dataclass(frozen=True, order=True)
class Symbol:
    """A name that a module defines; "" stands for what the module does when it is imported."""

    module: str
    name: str


@dataclass
class _Module:
    name: str
    package: str
    """That relative imports start from."""
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    """What each name is; under "" what the module does when imported."""
    imports: dict[str, Import] = field(default_factory=dict)


class Code:
    """The modules of a package, read when they are reached."""

    def __init__(self, folder: Path, without: Iterable[str] = ()) -> None:
        """Keep the folder of the package, whose name is the package's, and modules that do not count."""
        self._folder = folder
        self._without = frozenset(without)
        # Scripts share most of what they reach.
        self._module = cache(self._read)
        self._uses = cache(lambda symbol: tuple(self._used(self._known(symbol), symbol.name)))
        self._text = cache(lambda symbol: _text(self._known(symbol), symbol.name))

    def digest(self, script: Path) -> str:
        """Return a hash of the code that a script runs.

        Args:
            script: a Python file that imports from the package.

        Returns:
            16 hexadecimal digits, the same wherever package and script lie.
        """
        own = _parsed(script, "", "")
        reached = self._reached(own)
        digest = hashlib.sha256()
        for text in [_text(own, name) for name in own.definitions] + list(map(self._text, sorted(reached))):
            digest.update(text.encode())
        for path in self._data(reached):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    def reached(self, script: Path) -> set[Symbol]:
        """Return what a script reaches in the package."""
        return self._reached(_parsed(script, "", ""))

    def _reached(self, script: _Module) -> set[Symbol]:
        waiting = [symbol for name in script.definitions for symbol in self._used(script, name)]
        found: set[Symbol] = set()
        while waiting:
            symbol = waiting.pop()
            if symbol in found or symbol.module == script.name:
                continue
            module = self._known(symbol)
            if symbol.name in module.definitions:
                found.add(symbol)
                waiting += [Symbol(symbol.module, ""), *self._uses(symbol)]
            elif symbol.name in module.imports:
                waiting += self._meant(module.imports[symbol.name])
        return found

    def _known(self, symbol: Symbol) -> _Module:
        module = self._module(symbol.module)
        assert module is not None
        return module

    def _data(self, reached: set[Symbol]) -> list[Path]:
        """Return the files beside reached modules that are no code, such as templates."""
        paths = {self._path(symbol.module) for symbol in reached}
        folders = {path.parent for path in paths if path is not None}
        return sorted(path for folder in folders for path in folder.iterdir() if path.suffix in DATA)

    def _path(self, name: str) -> Path | None:
        """Return the file of a module of the package."""
        first, *rest = name.split(".")
        if first != self._folder.name:
            return None
        base = self._folder.joinpath(*rest)
        found = [path for path in (base / "__init__.py", base.with_suffix(".py")) if path.exists()]
        return found[0] if found else None

    def _counts(self, name: str) -> bool:
        """Whether a string names a package, and one that counts."""
        return name not in self._without and self._is_package(name)

    def _is_package(self, name: str) -> bool:
        path = self._path(name) if "." in name else None
        return path is not None and path.name == "__init__.py"

    def _read(self, name: str) -> _Module | None:
        path = self._path(name)
        if path is None:
            return None
        return _parsed(path, name, name if path.name == "__init__.py" else name.rpartition(".")[0])

    def _used(self, module: _Module, name: str) -> Iterator[Symbol]:
        """Say what a definition refers to."""
        for node in module.definitions[name]:
            nodes = list(ast.walk(node))
            imports = module.imports.copy()
            for inner in nodes:
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    imports |= _imported(inner, module.package)
            attributes = {id(inner.value): inner.attr for inner in nodes if isinstance(inner, ast.Attribute)}
            for inner in nodes:
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and self._counts(inner.value):
                    yield from self._all_below(inner.value)
                if not isinstance(inner, ast.Name):
                    continue
                if inner.id in imports:
                    attribute = attributes.get(id(inner))
                    if {attribute, imports[inner.id][1]} & FINDERS:
                        yield from self._all_below(module.package)
                    yield from self._meant(imports[inner.id], attribute)
                elif inner.id in module.definitions:
                    yield Symbol(module.name, inner.id)

    def _meant(self, found: Import, attribute: str | None = None) -> Iterator[Symbol]:
        """Say what an imported name stands for: a definition, or a module, of which one attribute is meant or all."""
        name, inside = found
        if inside is not None and self._path(f"{name}.{inside}") is not None:
            name, inside = f"{name}.{inside}", None
        module = self._module(name)
        if module is not None and name not in self._without:
            names = [inside or attribute] if inside or attribute else [*module.definitions, *module.imports]
            yield from (Symbol(name, each) for each in names if each is not None)

    def _all_below(self, package: str) -> Iterator[Symbol]:
        start = self._path(package)
        for path in sorted(start.parent.rglob("*.py")) if start is not None else ():
            parts = path.relative_to(self._folder.parent).with_suffix("").parts
            yield from self._meant((".".join(parts[:-1] if parts[-1] == "__init__" else parts), None))


def _parsed(path: Path, name: str, package: str) -> _Module:
    module = _Module(name, package, {"": []})
    for statement in _statements(_Bare().visit(ast.parse(path.read_bytes())).body):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            module.imports |= _imported(statement, package)
            continue
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [statement.name]
        else:
            names = _assigned(statement)
        for defined in names or [""]:
            module.definitions.setdefault(defined, []).append(statement)
    return module


def _text(module: _Module, name: str) -> str:
    """Write down a definition, and what the imported names in it are."""
    nodes = module.definitions[name]
    used = sorted({inner.id for node in nodes for inner in ast.walk(node) if isinstance(inner, ast.Name)})
    imports = [(local, module.imports[local]) for local in used if local in module.imports]
    return f"{module.name}:{name} {imports} {[ast.dump(node) for node in nodes]}\n"


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module without what is for type checkers alone; imports within others by themselves."""
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
            yield from _statements(statement.orelse)
            continue
        if isinstance(statement, ast.With | ast.Try | ast.If):
            yield from (inner for inner in ast.walk(statement) if isinstance(inner, ast.Import | ast.ImportFrom))
        yield statement


def _assigned(statement: ast.stmt) -> list[str]:
    """Return the names that a statement of a module gives values to."""
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign | ast.AugAssign):
        targets = [statement.target]
    plain = [target for target in targets if isinstance(target, ast.Name | ast.Tuple)]
    return sorted({name.id for target in plain for name in ast.walk(target) if isinstance(name, ast.Name)})


def _imported(statement: ast.Import | ast.ImportFrom, package: str) -> dict[str, Import]:
    """Return the names that an import gives, and what they are."""
    if isinstance(statement, ast.Import):
        firsts = [(alias, alias.name if alias.asname else alias.name.split(".")[0]) for alias in statement.names]
        return {alias.asname or first: (first, None) for alias, first in firsts}
    above = package.split(".")
    start = above[: len(above) + 1 - statement.level] if statement.level else []
    source = ".".join([*start, *([statement.module] if statement.module else [])])
    return {alias.asname or alias.name: (source, alias.name) for alias in statement.names}


def _calls(node: ast.expr, names: Collection[str]) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names


class _Bare(ast.NodeTransformer):
    """Takes away what changes no result, as the module's docstring says."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        called = node.value.func if isinstance(node.value, ast.Call) else None
        prints = isinstance(called, ast.Name) and called.id == "print"
        return None if prints or isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(kind, node.cause)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        names = {name.id for each in node.decorator_list for name in ast.walk(each) if isinstance(name, ast.Name)}
        if names & CHECKS:
            return None
        node.returns = None
        return self.generic_visit(node)

    def visit_With(self, node: ast.With) -> ast.AST:
        node.items = [item for item in node.items if not _calls(item.context_expr, BESIDE)]
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if _calls(node, {"Field"}):
            node.keywords = [word for word in node.keywords if word.arg not in SAYINGS]
        return self.generic_visit(node)
