"""PITC, Taylor-expansion consistency: energies at displaced geometries against an anchor at r."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from piwsl.config.losses import QUADRATURES, DisplacedTerm, Loss, no_truth_value
from piwsl.residuals import A, C, Mean, Point, Residual, step_residual

Order = Annotated[
    Literal[1, 2, "simpson", "gauss-legendre", "central", "quadratic", "central-4"], BeforeValidator(no_truth_value)
]

# Weights of the polynomial through points around A, taken at A; its error falls as |δ| to the power of 2, 3 and 4.
INTERPOLATIONS: dict[Literal["central", "quadratic", "central-4"], dict[Point, float]] = {
    "central": {Point(-1.0, 0.0): 1 / 2, C: 1 / 2},
    "quadratic": {Point(-1.0, 0.0): 1 / 6, Point(0.5, 0.0): 8 / 6, C: -3 / 6},
    "central-4": {Point(-1.0, 0.0): -1 / 6, Point(-0.5, 0.0): 4 / 6, Point(0.5, 0.0): 4 / 6, C: -1 / 6},
}


class PITC(DisplacedTerm):
    """Taylor-expansion consistency E(r+δ) = E(r) - <δ, F(r)>, or of energies around r."""

    order: Order = Field(
        1,
        description=f"{QUADRATURES}; without any force, central: E(r) against the mean of E(r±δ); quadratic: against "
        "the parabola through E(r-δ), E(r+δ/2), E(r+δ), order 2 by energies; central-4: against the cubic through "
        "E(r±δ/2) and E(r±δ).",
    )
    anchor: Literal["model", "label", "pseudo-label"] = Field(
        "model",
        description="model: E(r) and F(r) of the model; label: E of the label, F of the model; pseudo-label: both of "
        "the label, on structures with forces.",
    )

    @model_validator(mode="after")
    def _label_forces_are_at_the_start(self) -> Self:
        if self.anchor == "pseudo-label" and self.order != 1:
            raise ValueError("order: a pseudo-label has the labelled force, which is known at the start alone; say 1")
        return self

    def check(self, loss: Loss) -> None:
        """Refuse labels of forces that the loss leaves out."""
        if self.anchor == "pseudo-label" and loss.forces == 0:
            raise ValueError("pitc.anchor: a pseudo-label is made of labelled forces, which `forces: 0` leaves out")

    def means(self, loss: Loss) -> dict[str, Mean]:
        """Return the residual of Taylor-expansion consistency.

        model: E(C) - [E(A) - <δ, F(A)>] (the paper); label: with E_ref for E(A); pseudo-label: with E_ref and F_ref
        (Cooper, Kästner, Urban, Artrith, npj Comput. Mater. 6, 54 (2020)). Orders without force:
        `interpolation_residual`.
        """
        return {"": Mean(self._residual(), self.weight)}

    def _residual(self) -> Residual:
        if self.order == "central" or self.order == "quadratic" or self.order == "central-4":
            return interpolation_residual(INTERPOLATIONS[self.order], labelled=self.anchor == "label")
        model = step_residual(A, C, self.order)
        if self.anchor == "model":
            return model
        if self.anchor == "label":
            return Residual({C: 1.0}, model.works, label_energy=-1.0)
        return Residual({C: 1.0}, label_energy=-1.0, label_works={A.to(C): 1.0})


def interpolation_residual(weights: dict[Point, float], labelled: bool) -> Residual:
    """Return E(A) less the interpolation of energies around A, in which no force stands.

    central: E(A) - [E(r+δ) + E(r-δ)]/2 = -½ δᵀHδ + O(|δ|⁴), with H the Hessian; the residual of order 1, averaged over
    δ and -δ, is its negative, for the works cancel. quadratic: E(A) - [E(r-δ) + 8 E(r+δ/2) - 3 E(r+δ)]/6, a twelfth of
    the third derivative along δ + O(|δ|⁴), free of the curvature: to that power the negative of the trapezoid's error,
    which is order 2's. central-4: E(A) - {4 [E(r+δ/2) + E(r-δ/2)] - [E(r+δ) + E(r-δ)]}/6, a sixth of the fourth
    central difference with step δ/2, and 0 on cubic surfaces. No point is further from A than δ.

    Args:
        weights: of the points around A; their sum is 1.
        labelled: whether E_ref takes the place of E(A).
    """
    around = {point: -weight for point, weight in weights.items()}
    return Residual(around, label_energy=1.0) if labelled else Residual({A: 1.0} | around)
