"""Levels that are sums of stages, whichever program computes these."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar, Self

from pydantic import Field, model_validator

from piwsl.config.levels import Level
from piwsl.config.stages import MEAN_FIELD, Method, Stage


class CompositeLevel(Level):
    """A level whose energy is a sum of stages: base of those of PySCF and of other programs."""

    METHODS: ClassVar[tuple[Method, ...]] = ("hf", "dft", "mp2", "ccsd", "ccsd(t)")
    """That the engine computes."""

    stages: list[Stage] = Field(
        min_length=1, max_length=20, description="A mean-field energy and what correlation adds to it."
    )

    @model_validator(mode="after")
    def _methods_are_of_the_engine(self) -> Self:
        for method in (name for stage in self.stages for name in (stage.method, stage.minus)):
            if method is not None and method not in self.METHODS:
                raise ValueError(
                    f"stages: engine '{self.engine}' has no '{method}'; it has {', '.join(self.METHODS)}"
                    + ("; engine 'orca' has it" if method.startswith("dlpno") else "")
                )
        return self

    @model_validator(mode="after")
    def _one_mean_field(self) -> Self:
        methods = [stage.method for stage in self.stages]
        if methods.count("hf") + methods.count("dft") != 1:
            raise ValueError("stages: exactly one stage must be 'hf' (or 'dft'); correlation stages add to it")
        if "dft" in methods and len(methods) > 1:
            raise ValueError("stages: 'dft' stands alone; correlation energies add to 'hf'")
        return self

    @model_validator(mode="after")
    def _correlation_adds_up_to_one_method(self) -> Self:
        counts: Counter[str] = Counter(stage.method for stage in self.stages if stage.method not in MEAN_FIELD)
        counts.subtract(stage.minus for stage in self.stages if stage.minus is not None)
        left = {method: count for method, count in counts.items() if count}
        if left and [*left.values()] != [1]:
            terms = " ".join(f"{count:+d} {method}" for method, count in left.items())
            raise ValueError(
                f"stages: their correlation energies add up to {terms}, expected one method, once; a stage that "
                "corrects another says what it takes the place of (minus)"
            )
        return self

    def bases(self) -> list[str]:
        """Return every basis that the level uses, without repetition."""
        return list(dict.fromkeys(basis for stage in self.stages for basis in stage.bases))
