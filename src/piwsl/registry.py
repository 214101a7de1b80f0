"""Kinds of one thing by name: those that stand in a package of ours, and those that installed distributions bring.

A kind is a class. One of ours is the only class of its base that a module of the package defines, and the module's name
is its name. One of others is an entry point whose group is the name of the package:

    [project.entry-points."piwsl.architectures"]
    mine = "my_distribution.my_module:MyArchitecture"

Nothing is imported before it is asked for by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Generic, TypeVar

from piwsl.errors import ANY_ERROR, PiwslError, reason
from piwsl.sources import sources

Kind = TypeVar("Kind")


class Registry(Generic[Kind]):
    """The kinds of a package."""

    def __init__(self, package: str, base: type[Kind], reserved: Collection[str] = ()) -> None:
        """Keep where kinds are looked for, and what they are.

        Args:
            package: whose modules are kinds, and the group of entry points that are.
            base: the class that all are derived from.
            reserved: names that no kind may have: keys of another meaning stand beside kinds.
        """
        self.package = package
        self.base = base
        self.reserved = frozenset(reserved)
        self._origins: dict[str, str] = {}

    @cached_property
    def _own(self) -> frozenset[str]:
        spec = find_spec(self.package)
        places = spec.submodule_search_locations if spec is not None else None
        return frozenset(found.name for found in iter_modules(places or []) if not found.name.startswith("_"))

    @cached_property
    def _others(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.package):
            found.setdefault(point.name, []).append(point)
        return found

    def __iter__(self) -> Iterator[str]:
        """Go through the names, in alphabetical order."""
        return iter(sorted(self._own | self._others.keys()))

    def own(self) -> list[str]:
        """Return the names of ours, in alphabetical order."""
        return sorted(self._own)

    def others(self) -> list[str]:
        """Return the names of those that installed distributions bring, in alphabetical order."""
        return sorted(self._others)

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._others

    def __getitem__(self, name: str) -> type[Kind]:
        """Return the kind of a name.

        Raises:
            KeyError: there is none.
            PiwslError: two distributions have one of this name, or that which has it cannot be used.
        """
        if name not in self._others:
            return self._ours(name)
        point, *more = self._others[name]
        if name in self.reserved:
            raise PiwslError(
                f"{_source(point)} brings {self.package} '{name}', a key of another meaning there; rename its entry "
                "point, or uninstall it"
            )
        if name in self._own:
            raise PiwslError(f"{_source(point)} brings '{name}', which piwsl has itself; uninstall it")
        if more:
            raise PiwslError(f"{_source(point)} and {_source(more[0])} both bring '{name}'; uninstall one")
        return self._other(point)

    def _ours(self, name: str) -> type[Kind]:
        if name not in self._own:
            raise KeyError(name)
        module = import_module(f"{self.package}.{name}")
        (kind,) = (
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, self.base) and value.__module__ == module.__name__
        )
        return kind

    def _other(self, point: EntryPoint) -> type[Kind]:
        try:
            kind = point.load()
        except ANY_ERROR as error:  # whatever their module does when it is imported
            raise PiwslError(
                f"{_source(point)} brings {self.package} '{point.name}', which cannot be loaded "
                f"({reason(error)}); mend or uninstall it"
            ) from error
        if not (isinstance(kind, type) and issubclass(kind, self.base)):
            raise PiwslError(
                f"{_source(point)}: {point.value} is no {self.base.__name__} of piwsl's; mend its entry point"
            )
        if lacks := sorted(getattr(kind, "__abstractmethods__", ())):
            raise PiwslError(
                f"{_source(point)}: {point.value} lacks {', '.join(lacks)}; see piwsl's {self.base.__name__}"
            )
        return kind

    def source(self, name: str) -> str | None:
        """Return a kind's distribution and its version; None of one of ours."""
        return _source(self._others[name][0]) if name in self._others else None

    def named_source(self, name: str) -> dict[str, str]:
        """Return the same by package and name, {"architectures.toy": "toy_architecture 1.0"}; {} of one of ours."""
        source = self.source(name)
        return {} if source is None else {f"{self.package.removeprefix('piwsl.')}.{name}": source}

    def origin(self, name: str) -> str | None:
        """Return a kind's distribution, its version and a hash of all its files; None of one of ours.

        What is made with a kind of others is made anew when this changes. Of one process it is always the same.
        """
        if name not in self._others:
            return None
        self[name]
        (point,) = self._others[name]
        if name not in self._origins:
            digest = hashlib.sha256()
            for path in sources(point):
                content = path.read_bytes()
                digest.update(f"{path.name} {len(content)} ".encode() + content)
            self._origins[name] = f"{_source(point)}, {digest.hexdigest()[:16]}"
        return self._origins[name]


def _source(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value
