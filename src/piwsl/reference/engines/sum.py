"""Levels that are sums of levels, each computed by the engine that is best at it: E = Σ plus - Σ minus."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from ase import units
from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from piwsl.config import Cost, Level, SinglePoint, level_checks, named_level
from piwsl.config.levels import DEFAULT_ENGINE, ENGINES
from piwsl.config.section import OneOf
from piwsl.errors import PiwslError
from piwsl.reference.engines.pyscf import PARTS
from piwsl.reference.failures import FrameFailure
from piwsl.reference.store import is_finite

if TYPE_CHECKING:
    from ase import Atoms

TERMS = "terms"
SAME_ENERGY = 1e-9
# Mean fields that stand in several terms are of one state.
MEAN_FIELD = re.compile(r"(df-)?hf/")
SAME_STATE_HARTREE = 1e-6


class OneOfOrPreset(OneOf[Level]):
    """Makes a key hold a level: a preset by its name, or a section as under `levels`."""

    def section(self, value: Any) -> Level:
        """Return the level; raises as that of any other key."""
        if not isinstance(value, str):
            return super().section(value)
        try:
            return named_level(value)
        except PiwslError as error:
            raise ValueError(str(error)) from None

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Admit names and sections; what these may hold is said where levels are."""
        return {"type": ["string", "object"]}


Term = Annotated[Level, OneOfOrPreset(ENGINES, "engine", DEFAULT_ENGINE)]


class Sum(Level):
    """A sum of levels of any engines: those of `plus`, less those of `minus`.

    Each term is a total energy, so that there is one more of `plus`.
    """

    plus: list[Term] = Field(
        min_length=2, max_length=20, description="Levels to add: presets by name, or keys as under levels.<name>."
    )
    minus: list[Term] = Field(
        min_length=1, max_length=19, description="Levels to subtract, one less than those that are added."
    )

    @model_validator(mode="after")
    def _is_one_total_energy(self) -> Self:
        if len(self.plus) != len(self.minus) + 1:
            raise ValueError(
                f"plus has {len(self.plus)} levels and minus {len(self.minus)}; each is a total energy: give one more "
                "of plus"
            )
        return self

    def terms(self) -> Iterator[tuple[int, Level]]:
        """Yield the levels, and +1 or -1."""
        return chain(((1, level) for level in self.plus), ((-1, level) for level in self.minus))

    def _each(self, change: Callable[[Level], Level]) -> Self:
        """Return the sum with every term changed."""
        return self.model_copy(
            update={"plus": [change(level) for level in self.plus], "minus": [change(level) for level in self.minus]}
        )

    def _first(self, ask: Callable[[Level], str | None]) -> str | None:
        """Return the first answer of a term that is none of None."""
        return next((said for _, level in self.terms() if (said := ask(level)) is not None), None)

    def single_point(self, atoms: Atoms, charge: int, multiplicity: int, memory_mb: int, forces: bool) -> SinglePoint:
        """Compute one term after the other; notes hold what each says of itself."""
        return self._added(
            [level.single_point(atoms.copy(), charge, multiplicity, memory_mb, forces) for _, level in self.terms()]
        )

    def displaced(self, atoms: Atoms, charge: int, multiplicity: int, memory_mb: int) -> Callable[[Atoms], SinglePoint]:
        """Return what computes each term near a geometry, in its own way."""
        near = [level.displaced(atoms.copy(), charge, multiplicity, memory_mb) for _, level in self.terms()]
        return lambda moved: self._added([compute(moved.copy()) for compute in near])

    def _added(self, found: list[SinglePoint]) -> SinglePoint:
        """Add up what the terms gave.

        Raises:
            FrameFailure: an engine found two states for one mean field.
        """
        _check_states([(level, point) for (_, level), point in zip(self.terms(), found, strict=True)])
        signs = [sign for sign, _ in self.terms()]
        energy = sum(sign * point.energy for sign, point in zip(signs, found, strict=True))
        gradients = [sign * point.forces for sign, point in zip(signs, found, strict=True) if point.forces is not None]
        diagnostics = [point.notes["t1_diagnostic"] for point in found if "t1_diagnostic" in point.notes]
        return SinglePoint(
            energy=energy,
            forces=np.sum(gradients, axis=0) if len(gradients) == len(found) else None,
            notes={
                TERMS: [{"energy_eV": point.energy, **point.notes} for point in found],
                "scf": {key: how for point in found for key, how in point.notes.get("scf", {}).items()},
                **({"t1_diagnostic": max(diagnostics)} if diagnostics else {}),
            },
        )

    def cost(self, atoms: Atoms, charge: int, multiplicity: int, forces: bool) -> Cost:
        """Estimate the terms one after the other."""
        return _one_after_the_other(level.cost(atoms, charge, multiplicity, forces) for _, level in self.terms())

    def displaced_cost(self, atoms: Atoms, charge: int, multiplicity: int) -> Cost:
        """Estimate the terms one after the other, each near one that is computed."""
        return _one_after_the_other(level.displaced_cost(atoms, charge, multiplicity) for _, level in self.terms())

    def analytic_problem(self, multiplicity: int) -> str | None:
        """Say which term has no analytic forces."""
        return self._first(lambda level: level.analytic_problem(multiplicity))

    def differences_problem(self) -> str | None:
        """Say which term has an energy that is not smooth."""
        return self._first(lambda level: level.differences_problem())

    def problem(self, symbols: set[str]) -> str | None:
        """Say what a term is missing."""
        return self._first(lambda level: level.problem(symbols))

    def remark(self, symbols: set[str]) -> str | None:
        """Say what the terms compute not quite as their words say."""
        said = (level.remark(symbols) for _, level in self.terms())
        return "; ".join(dict.fromkeys(remark for remark in said if remark is not None)) or None

    def of_free_atoms(self) -> Self:
        """Return the sum of the terms as they are computed for free atoms."""
        return self._each(lambda level: level.of_free_atoms())

    def unquestioned(self) -> Self:
        """Return the sum of the terms without what is computed for their doubts alone."""
        return self._each(lambda level: level.unquestioned())

    def on_threads(self, threads: int) -> Self:
        """Return the sum of the terms on several threads."""
        return self._each(lambda level: level.on_threads(threads))

    def beside(self, folder: Path) -> Self:
        """Return the sum of the terms for a model in a folder."""
        return self._each(lambda level: level.beside(folder))

    def recipe(self) -> dict[str, Any]:
        """Return the recipes of the terms, in an order of their own."""
        return {
            name: sorted(map(_recipe, levels), key=lambda found: json.dumps(found, sort_keys=True))
            for name, levels in (("plus", self.plus), ("minus", self.minus))
        }

    def record_problem(self, record: Mapping[str, Any]) -> str | None:
        """Say why an energy is not the sum of the energies of its terms, or one of these cannot be right."""
        signs, found = [sign for sign, _ in self.terms()], _stored(record)
        if len(found) != len(signs):
            return f"has {len(found)} terms of {len(signs)}"
        energies = [energy for term in found if is_finite(energy := term.get("energy_eV"))]
        if len(energies) != len(signs):
            return "lacks energies of its terms, or they are no finite numbers"
        total = float(np.dot(signs, energies))
        energy = record.get("energy_eV")
        if not is_finite(energy) or not math.isclose(energy, total, rel_tol=SAME_ENERGY):
            return f"energy_eV is {energy}, and its terms add up to {total:.6f}"
        said = (level.record_problem(term) for (_, level), term in zip(self.terms(), found, strict=True))
        return next((problem for problem in said if problem is not None), None)

    def doubt(self, record: Mapping[str, Any]) -> str | None:
        """Say why the energy of a term may mean little."""
        said = (level.doubt(term) for (_, level), term in zip(self.terms(), _stored(record), strict=True))
        return next((doubt for doubt in said if doubt is not None), None)

    @property
    def fails_doubtful(self) -> bool:
        """Whether a term would have such a frame fail."""
        return any(level.fails_doubtful for _, level in self.terms())

    def versions(self) -> dict[str, str]:
        """Return what the terms are computed with."""
        found: dict[str, str] = {}
        for _, level in self.terms():
            origin = ENGINES.origin(level.engine)
            found |= {**({} if origin is None else {level.engine: origin}), **level.versions()}
        return found

    def __str__(self) -> str:
        """Return the terms with their signs."""
        first, *more = self.plus
        return (
            f"{first}" + "".join(f" + [{level}]" for level in more) + "".join(f" - [{level}]" for level in self.minus)
        )


def _recipe(level: Level) -> dict[str, Any]:
    from piwsl.reference.recipe import recipe

    return recipe(level)


def _stored(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the terms of a record, each as a record of its own."""
    terms = record.get(TERMS)
    if not isinstance(terms, list) or not all(isinstance(term, Mapping) for term in terms):
        return []
    of_all = {key: record[key] for key in ("numbers", "charge", "multiplicity") if key in record}
    return [of_all | term for term in terms]


def _check_states(found: list[tuple[Level, SinglePoint]]) -> None:
    """Refuse mean fields that are computed alike and differ."""
    seen: dict[str, float] = {}
    for level, point in found:
        for part, energy in point.notes.get(PARTS, {}).items():
            if MEAN_FIELD.match(part) is None:
                continue
            apart = energy - seen.setdefault(_computed_as(level, part), energy)
            if abs(apart) > SAME_STATE_HARTREE:
                said = f"two terms of {level.engine} found {apart * units.Hartree:+.3g} eV apart"
                raise FrameFailure(part, f"{said}: they are of two states")


def _computed_as(level: Level, part: str) -> str:
    """Return what the energy of a mean field depends on, but for whether it was followed to a minimum."""
    depends_on = level_checks.part_recipes(level).get(part, {})
    kept = {key: value for key, value in depends_on.items() if key != "stability"}
    return json.dumps({"engine": level.engine, "part": part} | kept, sort_keys=True)


def _one_after_the_other(terms: Iterable[Cost]) -> Cost:
    costs = list(terms)
    return Cost(
        sum(cost.cpu_s for cost in costs),
        max(cost.memory_mb for cost in costs),
        max(cost.scratch_mb for cost in costs),
    )
