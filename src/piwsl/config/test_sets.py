"""Named test sets: further frames to test on, beside those that a dataset has for it; some in order along a scan."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from piwsl.config.labels import (
    EnergyKey,
    EnergyUnitOrNone,
    ForcesKey,
    ForcesUnitOrNone,
    Format,
    StressKey,
    StressUnitOrNone,
)
from piwsl.config.section import InputFile, Kelvin, Section

# Each frame is a file's worth of reference calculation, and may be a job.
Frames = Annotated[int, Field(ge=1, le=100_000)]
MAX_TRAJECTORIES = 50
MOST_TESTS = 50
TESTS = "Further test sets, beside the dataset's own test frames: every model is tested on each, and trained on none."


def _different(atoms: list[int]) -> list[int]:
    if len(set(atoms)) < len(atoms):
        raise ValueError(f"{atoms} names an atom twice")
    return atoms


def distinct(temperatures: list[float]) -> list[float]:
    """Refuse a temperature that stands there twice: a trajectory is named by its temperature."""
    if len({f"{temperature:g}" for temperature in temperatures}) < len(temperatures):
        raise ValueError(f"{temperatures} names one twice")
    return temperatures


Along = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=4), AfterValidator(_different)]
ALONG = (
    "Two, three or four atoms, counted from 0, of whose distance, angle or dihedral the frames are in order: the "
    "report draws their energies as curves."
)


def too_few(frames: int, force_frames: int, slope_frames: int) -> str | None:
    """Say why so many frames of a test set cannot have forces and, of the others, a slope; None where they can."""
    if force_frames > frames:
        return f"force_frames: {force_frames} is more than the {frames} frames"
    if force_frames + slope_frames > frames:
        return f"slope_frames: {slope_frames} is more than the {frames - force_frames} frames without forces"
    return None


class Scan(Section):
    """Geometries in order along an internal coordinate or a vibration of the GFN2-xTB minimum."""

    along: Along | None = Field(None, description=ALONG)
    mode: int | None = Field(
        None, ge=1, description="A vibration, in place of along: counted from 1, the softest of all real ones."
    )
    start: float = Field(description="Å or °; of a vibration in units of √(ħ/ω), its dimensionless normal coordinate.")
    stop: float = Field(description="Likewise; the last point is there.")
    points: int = Field(25, ge=3, le=1000, description="Geometries, both ends included.")
    relaxed: bool = Field(
        False,
        description="Relax all else with GFN2-xTB at each point; without, what is bonded to the last atom moves with "
        "it, or one side of a dihedral, as it is.",
    )

    @model_validator(mode="after")
    def _one_coordinate(self) -> Self:
        if (self.along is None) == (self.mode is None):
            raise ValueError("give either 'along' (two to four atoms) or 'mode' (a vibration)")
        if self.mode is not None and self.relaxed:
            raise ValueError("relaxed: nothing is relaxed along a vibration; leave it out")
        if self.start == self.stop:
            raise ValueError(f"stop: {self.stop:g} is where it starts")
        if self.along is not None and len(self.along) == 2 and min(self.start, self.stop) <= 0:
            raise ValueError("start, stop: a distance is more than 0 Å")
        ends = sorted((self.start, self.stop))
        if self.relaxed and self.along is not None and len(self.along) == 3 and not 0 < ends[0] < ends[1] < 180:
            raise ValueError(
                "start, stop: a relaxed angle is more than 0 and less than 180°, where none can be held; leave out "
                "'relaxed', or end at 179"
            )
        return self


class ComputedTest(Section):
    """A test set of a dataset that is computed: labelled at its level, with its cheap levels."""

    temperatures: list[Kelvin] = Field(
        [], max_length=MAX_TRAJECTORIES, description="K; dynamics of the dataset's molecule, a trajectory each."
    )
    normal_modes: list[Kelvin] = Field(
        [], max_length=MAX_TRAJECTORIES, description="K; thermal displacements along its normal modes."
    )
    frames: Frames | None = Field(None, description="How many are sampled, of all temperatures together.")
    file: InputFile | None = Field(
        None, description="Geometries, in place of sampling: all frames of a file that ASE reads."
    )
    along: Along | None = Field(None, description=f"Of a file. {ALONG}")
    scan: Scan | None = Field(None, description="Geometries along a coordinate, in place of sampling.")
    force_frames: int = Field(0, ge=0, le=100_000, description="Frames that also get forces of the level.")

    slope_frames: int = Field(
        0, ge=0, le=100_000, description="Frames, after those, that get the slope along one random direction of each."
    )

    @field_validator("temperatures", "normal_modes")
    @classmethod
    def _distinct(cls, temperatures: list[float]) -> list[float]:
        return distinct(temperatures)

    @property
    def sampled(self) -> bool:
        """Whether frames come from dynamics or normal modes."""
        return bool(self.temperatures or self.normal_modes)

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum((self.sampled, self.file is not None, self.scan is not None)) != 1:
            raise ValueError("give one of 'temperatures' and 'normal_modes' (in K), 'file' (geometries), 'scan'")
        if self.sampled == (self.frames is None):
            raise ValueError("frames: of what is sampled, say how many; of a file and a scan all are taken")
        if self.along is not None and self.file is None:
            raise ValueError("along: is of a file; of a scan it stands there")
        known = self.frames if self.scan is None else self.scan.points
        if known is not None and (problem := too_few(known, self.force_frames, self.slope_frames)):
            raise ValueError(problem)
        return self


class GivenTest(Section):
    """A test set of a dataset that is given; what it does not say is as the dataset says."""

    file: InputFile = Field(description="Frames with an energy and, on all frames, some or none, forces.")
    along: Along | None = Field(None, description=ALONG)
    format: Format = None
    energy_key: EnergyKey = None
    forces_key: ForcesKey = None
    stress_key: StressKey = None
    energy_unit: EnergyUnitOrNone = None
    forces_unit: ForcesUnitOrNone = None
    stress_unit: StressUnitOrNone = None
