"""What a level of theory is made of: the energies of one method in one basis, and how they are combined."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ase import units

from piwsl.config import FittingBases, Stage
from piwsl.config.composite import CompositeLevel
from piwsl.reference.extrapolation import ExtrapolationError, Limit, basis_set_limit
from piwsl.reference.store import is_finite

SAME_ENERGY = 1e-9
# Energies of all orbitals, whatever is cut off in coupled cluster.
WHOLE = ("hf", "dft", "mp2")
UNIVERSAL_JK = "def2-universal-jkfit"
# In place of the name of a fitting basis: made for the orbital basis.
AUTOMATIC = "autoaux"


@dataclass(frozen=True)
class MeanFieldKey:
    """What one SCF is: all components with the same key share it."""

    basis: str
    density_fitting: bool
    functional: str | None = None
    dispersion: str | None = None

    def __str__(self) -> str:
        method = (self.functional or "hf") + (f"-{self.dispersion}" if self.dispersion else "")
        return f"{'df-' if self.density_fitting else ''}{method}/{self.basis}"


@dataclass(frozen=True)
class Component:
    """One energy of one method in one basis, the unit that stages are made of."""

    method: str
    mean_field: MeanFieldKey
    natural_orbitals: float | None = None
    """Of coupled cluster: the occupation from which on virtual orbitals are kept; None where all are."""

    def __str__(self) -> str:
        if self.method in ("hf", "dft"):
            return str(self.mean_field)
        cut = "" if self.natural_orbitals is None else f"fno({self.natural_orbitals!r})-"
        return f"{'df-' if self.mean_field.density_fitting else ''}{cut}{self.method}/{self.mean_field.basis}"


class Fitting(NamedTuple):
    """Names of the auxiliary bases of an orbital basis."""

    jk: str
    """For Coulomb and exchange."""
    ri: str
    """For correlation."""


class Fitted(Protocol):
    """A level of stages that may name auxiliary bases."""

    @property
    def stages(self) -> list[Stage]:
        """What its energy is a sum of."""

    @property
    def auxiliary_bases(self) -> Mapping[str, FittingBases]:
        """By orbital basis."""


def fitting_bases(level: Fitted, basis: str) -> Fitting:
    """Return the auxiliary bases of an orbital basis: those the level names, else the family's own.

    Of some elements they are others: `element_bases.fitting_basis`.
    """
    named = level.auxiliary_bases.get(basis, FittingBases())
    usual = usual_fitting_bases(basis)
    return Fitting(named.jk or usual.jk, named.ri or usual.ri)


def usual_fitting_bases(basis: str) -> Fitting:
    """Return the auxiliary bases of the family of an orbital basis."""
    if basis.startswith("def2-"):
        return Fitting(UNIVERSAL_JK, f"{basis}-ri")
    if basis.startswith(("cc-p", "aug-cc-p")):
        return Fitting(f"{basis}-jkfit", f"{basis}-ri")
    return Fitting(UNIVERSAL_JK, AUTOMATIC)


def component(stage: Stage, method: str, basis: str) -> Component:
    """Return the component of a method of a stage in one of its bases."""
    key = MeanFieldKey(basis, stage.density_fitting, stage.functional, stage.dispersion)
    return Component(method, key, None if method in WHOLE else stage.natural_orbitals)


def required_components(level: CompositeLevel) -> list[Component]:
    """Return every energy that the stages of a level combine, each once."""
    components = [
        component(stage, method, basis)
        for stage in level.stages
        for basis in stage.bases
        for method in (stage.method, stage.minus)
        if method is not None
    ]
    return list(dict.fromkeys(components))


def components_by_mean_field(level: CompositeLevel) -> dict[MeanFieldKey, list[Component]]:
    """Return for each SCF of a level its own energy, then those that the level combines and that follow from it."""
    found: dict[MeanFieldKey, dict[Component, None]] = {}
    for part in required_components(level):
        found.setdefault(part.mean_field, {own_component(part.mean_field): None})[part] = None
    return {key: [*parts] for key, parts in found.items()}


def own_component(key: MeanFieldKey) -> Component:
    """Return the energy of an SCF itself."""
    return Component("hf" if key.functional is None else "dft", key)


# Of the recipe of a stage: how its parts are combined.
COMBINATION = ("method", "minus", "bases", "auxiliary_bases", "extrapolation", "natural_orbitals")
# Of the recipe of a level: what no SCF depends on.
OF_CORRELATION = ("frozen_core",)
# Of the recipe of a level: by basis, what only energies in that basis depend on.
BY_BASIS = "element_bases"


def parts_of(recipe: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return by name what each energy depends on that a level combines, and each SCF that these follow from.

    What this function does not know of a recipe is taken to change every energy: no two that differ are taken for one.

    Args:
        recipe: of a level, as of `recipe`.
    """
    shared = {key: value for key, value in recipe.items() if key not in ("stages", BY_BASIS)}
    by_basis = recipe.get(BY_BASIS, {})
    found = {}
    for stage in recipe["stages"]:
        of_stage = shared | {key: value for key, value in stage.items() if key not in COMBINATION}
        for position, basis in enumerate(stage["bases"]):
            common = of_stage | ({BY_BASIS: {basis: by_basis[basis]}} if basis in by_basis else {})
            of_scf = {key: value for key, value in common.items() if key not in OF_CORRELATION}
            key = MeanFieldKey(basis, stage["density_fitting"], stage["functional"], stage["dispersion"])
            fitting = stage["auxiliary_bases"][position] if stage["density_fitting"] else []
            own = own_component(key)
            found[str(own)] = of_scf | {"method": own.method, "basis": basis, "auxiliary_bases": fitting[:1]}
            for method in (stage["method"], stage["minus"]):
                if method not in (own.method, None):
                    threshold = None if method in WHOLE else stage.get("natural_orbitals")
                    cut = {} if threshold is None else {"natural_orbitals": threshold}
                    name = str(Component(method, key, threshold))
                    found[name] = common | {"method": method, "basis": basis, "auxiliary_bases": fitting} | cut
    return found


def composite_energy(level: CompositeLevel, energies: dict[Component, float]) -> Limit:
    """Combine the energies of the parts to the energy of the level (a focal point scheme).

    E = HF/limit + Σ over stages of [method - minus]/limit, where a stage of one basis stands for itself.

    Args:
        level: the level.
        energies: Hartree, for every required component.

    Returns:
        Hartree, and the slopes in the order of `required_components`.

    Raises:
        ExtrapolationError: the energies cannot be extrapolated.
    """
    total, slopes = 0.0, dict.fromkeys(required_components(level), 0.0)
    for stage in level.stages:
        differences = [_difference(stage, basis, energies) for basis in stage.bases]
        limit = Limit(differences[0], (1.0,)) if len(differences) == 1 else basis_set_limit(stage.limit(), differences)
        total += limit.energy
        for basis, slope in zip(stage.bases, limit.slopes, strict=True):
            slopes[component(stage, stage.method, basis)] += slope
            if stage.minus is not None:
                slopes[component(stage, stage.minus, basis)] -= slope
    return Limit(total, tuple(slopes.values()))


def _difference(stage: Stage, basis: str, energies: dict[Component, float]) -> float:
    energy = energies[component(stage, stage.method, basis)]
    return energy if stage.minus is None else energy - energies[component(stage, stage.minus, basis)]


def sum_problem(level: CompositeLevel, energy: Any, parts: Any) -> str | None:
    """Say why a stored energy is not the sum of the stored energies of its parts; None where it is.

    Args:
        level: the level.
        energy: eV.
        parts: Hartree, by the names of `required_components`.
    """
    total = _sum_of_parts(level, parts)
    if total is None:
        return "lacks energies of its parts, or they are no finite numbers"
    if not is_finite(energy) or not math.isclose(energy, total * units.Hartree, rel_tol=SAME_ENERGY):
        return f"energy_eV is {energy}, and its parts add up to {total * units.Hartree:.6f}"
    return None


def _sum_of_parts(level: CompositeLevel, parts: Any) -> float | None:
    """Return the energy of the level in Hartree from stored energies of its parts, None where they give none."""
    wanted = required_components(level)
    if not isinstance(parts, dict) or not all(is_finite(parts.get(str(part))) for part in wanted):
        return None
    try:
        return composite_energy(level, {part: parts[str(part)] for part in wanted}).energy
    except ExtrapolationError:
        return None
