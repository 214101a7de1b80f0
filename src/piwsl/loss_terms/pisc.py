"""PISC, path-independence consistency: energies and works around a triangle of geometries."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from piwsl.config.losses import QUADRATURES, DisplacedTerm, Loss, no_truth_value
from piwsl.config.section import Steps, renamed
from piwsl.residuals import A, B, C, Mean, Quadrature, Residual, step_residual, sum_of_works, works

OLD_CLOSINGS = {"B to C": "B_to_C", "C to B": "C_to_B", "C to A": "C_to_A", "two routes": "two_routes"}


class PISC(DisplacedTerm):
    """Path-independence consistency between r, r+δ and r+δ'."""

    order: Annotated[Quadrature, BeforeValidator(no_truth_value)] = Field(1, description=f"{QUADRATURES}.")
    every: Steps = Field(2, description="As of pitc; at every second step it costs half as much.")
    closing: Annotated[Literal["B_to_C", "C_to_B", "C_to_A", "two_routes", "loop"], renamed(OLD_CLOSINGS)] = Field(
        "B_to_C",
        description="B_to_C: E(C) against E(B) and the work (the paper's); C_to_B; C_to_A; two_routes: to C from A and "
        "from B; loop: the work along A, B, C, A.",
    )

    def means(self, loss: Loss) -> dict[str, Mean]:
        """Return the residual of path-independence consistency.

        B_to_C: E(C) - [E(B) - <δ - δ', F(B)>] (the paper); the others close the triangle elsewhere.
        """
        return {"": Mean(self._residual(), self.weight)}

    def _residual(self) -> Residual:
        order = self.order
        match self.closing:
            case "B_to_C":
                return step_residual(B, C, order)
            case "C_to_B":
                return step_residual(C, B, order)
            case "C_to_A":
                return step_residual(C, A, order)
            case "two_routes":
                from_b = {work: -weight for work, weight in works(B, C, order).items()}
                from_a = works(A, C, order)
                return Residual({A: -1.0, B: 1.0}, sum_of_works(from_a, from_b))
            case "loop":
                return Residual({}, sum_of_works(works(A, B, order), works(B, C, order), works(C, A, order)))
