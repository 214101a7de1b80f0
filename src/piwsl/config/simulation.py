"""The simulation that tests a model: the keys and their defaults."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from piwsl.config.section import Femtoseconds, Friction, Kelvin, Section, Seed

MOST_STEPS = 1e9


class Simulation(Section):
    """A run with every trained model, started from a test frame."""

    ensemble: Literal["nvt", "nve"] = Field("nvt", description="`nvt`: Langevin dynamics; `nve`: constant energy.")
    temperature: Kelvin = Field(300.0, description="K; of the bath, or (`nve`) of the first velocities.")
    time: float = Field(1.0, ge=1e-6, le=1_000_000, description="ps.")
    timestep: Femtoseconds = Field(0.5, description="fs.")
    friction: Friction = Field(0.01, description="1/fs.")
    bond_tolerance: float = Field(
        0.5, ge=0.01, le=100, description="Å; a bond that leaves its starting length by more ends the stable time."
    )
    seed: Seed = Field(0, description="Of velocities and noise.")

    @model_validator(mode="after")
    def _some_steps(self) -> Self:
        steps = self.time * 1000 / self.timestep
        if steps < 1:
            raise ValueError(f"time: {self.time:g} ps is less than one step of {self.timestep:g} fs; raise it")
        if steps > MOST_STEPS:
            raise ValueError(f"time: {self.time:g} ps are {steps:.0e} steps of {self.timestep:g} fs; 1e9 never end")
        return self
