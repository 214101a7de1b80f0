"""Losses: errors of the labels, and a key for each term of the registry."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, NonNegativeFloat, SerializeAsAny, ValidationError, model_validator
from pydantic.annotated_handlers import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails

from piwsl.config.section import Section, Steps, StepsOrNone, Weight
from piwsl.config.term_checks import term_problem
from piwsl.errors import ANY_ERROR, PiwslError, reason
from piwsl.registry import Registry
from piwsl.residuals import A, Difference, ForceError, Mean, Residual, StressError, is_factor
from piwsl.structures.labels import REFERENCE

LABELS = ("energy", "forces", "stress")
QUADRATURES = (
    "1: force at the start (the paper's); 2: trapezoid; simpson, gauss-legendre (three points): longer displacements"
)


def no_truth_value(value: Any) -> Any:
    """Refuse `true` for 1, and fractions, of a key that takes 1, 2 or a name."""
    if isinstance(value, bool | float):
        raise ValueError(f"say 1, 2 or an order's name, found {value!r}")
    return value


class LossTerm(Section):
    """A term of a loss beside the errors of the labels: its keys, and what it is the mean of.

    One of ours is a module of `piwsl.loss_terms`, whose name is its key in a loss.
    """

    weight: Weight = Field(description="Factor relative to the other terms.")

    @abstractmethod
    def means(self, loss: Loss) -> Mapping[str, Mean]:
        """Return what is averaged, and with which weights, by what is added to the name of the term, such as "" where
        it is one mean.

        Args:
            loss: that it is a term of.
        """

    def factor(self, step: int, loss: Loss) -> float:
        """Return the factor of the weights at an optimiser step, from 0; at 0 nothing is evaluated."""
        return 1.0

    def structures(self, total: int) -> int:
        """Return how many of the structures of a step are looked at, the first ones."""
        return total

    @property
    def teaches_forces(self) -> bool:
        """Whether forces are learned from it to the end, and without forces of the reference level."""
        return False

    def check(self, loss: Loss) -> None:
        """Compare with the rest of the loss.

        Raises:
            ValueError: they do not go together; names the key, and what to do.
        """


class DisplacedTerm(LossTerm):
    """A term at displaced geometries: its weight, at which steps it is evaluated, and on how much of the batch."""

    every: Steps = Field(
        1, description="Evaluated at every so many steps, with its weight times that: the mean gradient is the same."
    )
    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the structures of a step that it is evaluated on, of labelled frames and of those of the "
        "pool alike.",
    )

    def structures(self, total: int) -> int:
        """Return how many of the structures of a step are looked at, the first ones."""
        return max(1, math.ceil(self.share * total - 1e-9))  # 0.07 * 100 is a little more than 7

    def factor(self, step: int, loss: Loss) -> float:
        """Return the factor of the weights at an optimiser step: the ramp, times `every` at every so many."""
        since = step - loss.start
        if since < 0 or since % self.every:
            return 0.0
        return min(1.0, (since + 1) / (loss.ramp + 1)) * self.every


class Loss(Section):
    """A training loss: errors of the labels and, optionally, weak terms."""

    # The keys that are no fields are those of the terms.
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, SerializeAsAny[LossTerm]] = Field(init=False)

    energy: NonNegativeFloat = Field(1.0, le=1e9, description="Weight of the energy error; 0: forces alone.")
    forces: NonNegativeFloat = Field(
        1.0,
        le=1e9,
        description="Weight of the force error, where forces are labelled; 0: labelled forces are not looked at.",
    )
    stress: NonNegativeFloat = Field(
        0.0,
        le=1e9,
        description="Weight of the stress error in (eV/Å³)², where stress is labelled; 0: it is not looked at.",
    )
    displacement: float = Field(
        0.02,
        ge=1e-5,
        le=1,
        description="Å; standard deviation of a component of δ and δ', or as the kind of direction has it.",
    )
    direction: Literal["gaussian", "uniform", "sphere", "adversarial"] = Field(
        "gaussian",
        description="gaussian; uniform in a box of that half-width; sphere: every atom moves that far; adversarial: δ "
        "along the error of the force, or where that is not labelled along the gradient of the PITC residual.",
    )
    function: Literal["mse", "mae", "huber"] = Field("mse", description="Of all residuals.")
    huber: float = Field(
        0.01, ge=1e-6, le=1000, description="Residual where huber turns from square to linear, eV or eV/Å."
    )
    per: Literal["atom", "structure"] = Field("atom", description="Whether energy residuals are divided by N atoms.")
    pool: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of each step's frames that is taken from the pool: frames without labels, for terms that "
        "need none.",
    )
    start: StepsOrNone = Field(0, description="Steps without the terms at displaced geometries.")
    ramp: StepsOrNone = Field(0, description="Steps after that in which their weights grow linearly to full.")

    @classmethod
    def keys(cls) -> list[str]:
        """Return the keys that the section may have: those of its own, and the terms."""
        return [*cls.model_fields, *LOSS_TERMS]

    @model_validator(mode="before")
    @classmethod
    def _every_stands_in_its_term(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "every" in value:
            raise ValueError("every: stands in each weak term now, e.g. pitc: {weight: 1, every: 2}; move it there")
        return value

    @model_validator(mode="before")
    @classmethod
    def _terms_are_sections(cls, value: Any) -> Any:
        """Validate each term as its own section; one that is null is none."""
        if not isinstance(value, Mapping):
            return value
        others = {key: item for key, item in value.items() if key not in LOSS_TERMS}
        # In one order, for sums of floating-point numbers depend on it.
        given = {key: value[key] for key in LOSS_TERMS if value.get(key) is not None}
        return others | {key: _term(key, item) for key, item in given.items()}

    @model_validator(mode="after")
    def _terms_go_together(self) -> Self:
        for name, term in self.terms.items():
            if problem := term_problem(term, self):
                raise ValueError(f"{name}: {_origin(name)}: {problem}; mend it")
        if self.needs_forces and not self.forces:
            raise ValueError("energy and forces are both 0, and no weak_forces last; give one of them a weight")
        for name, term in self.terms.items():
            _check_of_its_own(name, term, self)
            for mean in (f"{name}_{part}" if part else name for part in term.means(self)):
                if mean in (*LABELS, "total") or self.means_of_terms()[mean][0] is not term:
                    raise ValueError(f"{name}: gives the mean '{mean}', which another gives, too; rename the term")
            if not isinstance(term, DisplacedTerm) and any(_displaced(mean.of) for mean in term.means(self).values()):
                raise ValueError(f"{name}: looks at displaced geometries, and is no DisplacedTerm; derive it from that")
        return self

    @model_validator(mode="after")
    def _something_looks_at_the_pool(self) -> Self:
        if self.pool and not self.looks_at_pool:
            raise ValueError(
                "pool: no term of this loss looks at frames without labels; give pitc (anchor: model), pisc or "
                "weak_forces, or leave the pool out"
            )
        return self

    @property
    def terms(self) -> dict[str, LossTerm]:
        """The terms beside the errors of the labels, by name."""
        return self.__pydantic_extra__

    @property
    def displaced(self) -> bool:
        """Whether any term is evaluated at displaced geometries."""
        return any(isinstance(term, DisplacedTerm) for term in self.terms.values())

    def means_of_terms(self) -> dict[str, tuple[LossTerm, Mean]]:
        """Return what the terms take means of, by the names of the means."""
        return {
            f"{name}_{part}" if part else name: (term, mean)
            for name, term in self.terms.items()
            for part, mean in term.means(self).items()
        }

    def means(self) -> dict[str, Mean]:
        """Return what the loss is the sum of, by name."""
        labels: dict[str, Difference] = {
            "energy": Residual({A: 1.0}, label_energy=-1.0),
            "forces": ForceError(A, REFERENCE),
            "stress": StressError(REFERENCE),
        }
        means = {name: Mean(of, getattr(self, name)) for name, of in labels.items()}
        return means | {name: mean for name, (_, mean) in self.means_of_terms().items()}

    @property
    def needs_forces(self) -> bool:
        """Whether without labelled forces nothing, or nothing for good, is learned from: of energies it has none."""
        return self.energy == 0 and not any(term.teaches_forces for term in self.terms.values())

    @property
    def terms_of_labelled_forces(self) -> list[str]:
        """The terms that are nothing at frames without forces of the reference level."""
        return [
            name
            for name, (_, mean) in self.means_of_terms().items()
            if isinstance(mean.of, Residual) and mean.of.label_works
        ]

    def terms_of_level(self, level: str | None) -> list[str]:
        """Return the terms that look at labels of a level, or for None those that compare the model with itself."""
        return [
            name
            for name, term in self.terms.items()
            if any(mean.of.level == level for mean in term.means(self).values())
        ]

    @property
    def looks_at_pool(self) -> bool:
        """Whether a term needs no label of the reference level."""
        return any(mean.of.level != REFERENCE for _, mean in self.means_of_terms().values())

    @property
    def supervised(self) -> bool:
        """Whether errors of the labels of the reference level are all: what weak supervision is compared with."""
        return not self.terms

    def likeness(self, other: Loss) -> tuple[bool, int]:
        """Return whether both look at the same labels, and in how much they look at these alike."""
        own, others = self._of_labels(), other._of_labels()
        looked_at = [[bool(of[name]) for name in LABELS] for of in (own, others)]
        return looked_at[0] == looked_at[1], sum(own[key] == others[key] for key in own)

    def _of_labels(self) -> dict[str, object]:
        """Return what the errors of labels depend on."""
        huber = self.huber if self.function == "huber" else None
        return {name: getattr(self, name) for name in (*LABELS, "function", "per")} | {"huber": huber}

    def factors(self, step: int) -> dict[str, float]:
        """Return the factors of the weights at an optimiser step, by name; what is not there is not evaluated.

        Args:
            step: from 0.

        Raises:
            PiwslError: a term gives no number from 0 on; one line.
        """
        found = {name: 1.0 for name in LABELS if getattr(self, name)}
        for name, (term, mean) in self.means_of_terms().items():
            factor = term.factor(step, self)
            if not is_factor(factor):
                problem = f"factor() gives {factor!r} at step {step}, no number from 0 on"
                raise PiwslError(f"{name}: {_origin(name)}: {problem}; mend it")
            if factor * mean.weight:
                found[name] = factor
        return found

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Admit the terms, and no other keys, in the schema that editors use."""
        schema = handler.resolve_ref_schema(handler(core))
        for name in LOSS_TERMS:
            kind = LOSS_TERMS[name]
            schema["properties"][name] = {
                "anyOf": [handler(kind.__pydantic_core_schema__), {"type": "null"}],
                "default": None,
                "description": _first_line(kind),
            }
        schema["additionalProperties"] = False
        return schema


# Keys of a loss that are no terms, and one that moved into them.
LOSS_TERMS: Registry[LossTerm] = Registry("piwsl.loss_terms", LossTerm, {*Loss.model_fields, "every"})  # type: ignore[type-abstract]  # no kind is made of the base


def _origin(name: str) -> str:
    """Return the distribution that brings a term, for messages about what its code does."""
    return LOSS_TERMS.source(name) or "piwsl"


def _check_of_its_own(name: str, term: LossTerm, loss: Loss) -> None:
    try:
        term.check(loss)
    except ValueError:
        raise
    except ANY_ERROR as error:  # whatever a stranger's term does
        raise ValueError(f"{name}: {_origin(name)}: check() failed ({reason(error)}); mend it") from None


def _displaced(difference: Difference) -> bool:
    """Whether a difference looks anywhere but at r itself."""
    if isinstance(difference, StressError):
        return False
    if isinstance(difference, ForceError):
        return difference.point != A
    return bool(difference.label_works or difference.works) or any(point != A for point in difference.energies)


def _term(name: str, value: Any) -> LossTerm:
    """Validate a term as the section of its name; errors say the name, too."""
    try:
        kind = LOSS_TERMS[name]
    except PiwslError as error:
        raise ValueError(f"{name}: {error}") from None
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        details = [
            InitErrorDetails(type=each["type"], loc=(name, *each["loc"]), input=each["input"], ctx=each.get("ctx", {}))
            for each in error.errors(include_url=False)
        ]
        raise ValidationError.from_exception_data(error.title, details) from None
    except ANY_ERROR as error:  # whatever validators of a stranger's do
        raise ValueError(f"{name}: {_origin(name)}: failed ({reason(error)}); mend it") from None


def _first_line(kind: type[LossTerm]) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]
