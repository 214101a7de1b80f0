"""The simulations that test a model: the keys and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from piwsl.config.section import Femtoseconds, Friction, Kelvin, Section, Seed
from piwsl.config.selectors import Selectors

MOST_STEPS = 1e9
MOST_REPLICAS = 1000
# fs; the fastest vibrations, near 4400 cm⁻¹, take 7.6 fs, of which two samples are needed.
LONGEST_SAMPLING = 3.5

# Velocities of which one spectrum is made before the next begins: at 2 fs, 8 ps, and 4 cm⁻¹.
SEGMENT = 4096

Count = Annotated[int, Field(ge=1, le=MOST_REPLICAS)]


class Motion(Section):
    """What every simulation has, of one molecule or of many replicas."""

    ensemble: Literal["nvt", "nve"] = Field(
        "nvt", description="`nvt`: Langevin dynamics; `nve`: constant energy, whose drift is told."
    )
    time: float = Field(1.0, ge=1e-6, le=1_000_000, description="ps.")
    timestep: Femtoseconds = Field(0.5, description="fs.")
    friction: Friction = Field(0.01, description="1/fs.")
    bond_tolerance: float = Field(
        0.5, ge=0.01, le=100, description="Å; a bond that leaves its reference length by more ends the stable time."
    )
    seed: Seed = Field(0, description="Of velocities and noise.")

    @property
    def steps(self) -> int:
        """How many steps the time takes."""
        return round(self.time * 1000 / self.timestep)

    @model_validator(mode="after")
    def _some_steps(self) -> Self:
        steps = self.time * 1000 / self.timestep
        if steps < 1:
            raise ValueError(f"time: {self.time:g} ps is less than one step of {self.timestep:g} fs; raise it")
        if steps > MOST_STEPS:
            raise ValueError(f"time: {self.time:g} ps are {steps:.0e} steps of {self.timestep:g} fs; 1e9 never end")
        return self


class Simulation(Motion):
    """Dynamics of one molecule."""

    temperature: Kelvin = Field(300.0, description="K; of the bath, or (`nve`) of the first velocities.")


class ReplicaSimulation(Motion):
    """Replicas of test frames with every trained model, all in one batch."""

    temperatures: list[Kelvin] = Field(
        [300.0], min_length=1, max_length=100, description="K; of the bath, or (`nve`) of the first velocities."
    )
    starts: Count = Field(
        4, description="Test frames to start from, spread evenly over those that can move; all of them if fewer."
    )
    replicas: Count = Field(1, description="Of each start and temperature, with velocities and noise of their own.")
    frames: int = Field(100, ge=1, le=100_000, description="Kept of each replica.")
    velocities_every: int = Field(
        0, ge=0, le=1_000_000, description="Steps between velocities of the vibrational spectrum; 0: no spectrum."
    )

    # Which runs there are does not change any of them.
    only: Selectors = Field(
        [], exclude=True, description="Runs that are simulated: {dataset, model, loss, size, seed}, as above; all."
    )

    @property
    def conditions(self) -> str:
        """Time and temperatures in words."""
        return f"{self.time:g} ps at {', '.join(f'{temperature:g}' for temperature in self.temperatures)} K"

    @property
    def segment(self) -> int:
        """Velocities of which one spectrum is made; 0 where none is wanted."""
        return min(SEGMENT, self.steps // self.velocities_every) if self.velocities_every else 0

    @model_validator(mode="before")
    @classmethod
    def _one_temperature(cls, value: Any) -> Any:
        """Take `temperature` for a list of one."""
        if not isinstance(value, Mapping) or "temperature" not in value:
            return value
        if "temperatures" in value:
            raise ValueError("temperature: 'temperatures' is there, too; leave one out")
        rest = {key: found for key, found in value.items() if key != "temperature"}
        return {**rest, "temperatures": [value["temperature"]]}

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if len(set(self.temperatures)) != len(self.temperatures):
            raise ValueError(f"temperatures: {self.temperatures} names one twice")
        count = len(self.temperatures) * self.starts * self.replicas
        if count > MOST_REPLICAS:
            raise ValueError(f"starts: {count} replicas in all, {MOST_REPLICAS} at most; make several simulations")
        if self.velocities_every * self.timestep > LONGEST_SAMPLING:
            raise ValueError(
                f"velocities_every: {self.velocities_every * self.timestep:g} fs between velocities miss fast "
                f"vibrations; {LONGEST_SAMPLING:g} fs at most"
            )
        if self.velocities_every and self.segment < 2:
            raise ValueError(f"velocities_every: of {self.steps} steps that gives no two velocities; lower it")
        return self
