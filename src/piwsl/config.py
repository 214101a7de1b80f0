"""The typed experiment: every key of config.yaml, its default and its check. Nothing here computes.

This is the only module that knows keys and defaults; all others receive a section of it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from piwsl.errors import PiwslError

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class ConfigError(PiwslError):
    """A configuration that cannot be run; the text is one line naming the key and what would be right."""


def nearest(word: object, choices: Mapping[str, Any] | list[str]) -> str:
    """Say which of the choices is meant, or list them all.

    Args:
        word: what was found.
        choices: what would be right.

    Returns:
        "did you mean 'x'?" or "known are a, b, c".
    """
    known = [str(choice) for choice in choices]
    close = difflib.get_close_matches(str(word), known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known are {', '.join(sorted(known)) or 'none'}"


class Section(BaseModel):
    """A mapping of the config: immutable, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _unknown_keys_name_the_nearest(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            for key in value:
                if key not in cls.model_fields:
                    raise ValueError(f"unknown key '{key}'; {nearest(key, cls.model_fields)}")
        return value

    def plain(self) -> dict[str, Any]:
        """Return the section, defaults included, as plain values (for headers and reports). Resources are left out."""
        return self.model_dump(mode="json")

    def beyond_defaults(self) -> dict[str, Any]:
        """Return what the section says that its defaults do not, as plain values (for hashes and Snakemake's params).

        A key that a later version adds with a default changes no hash and redoes no job. Resources are left out.
        """
        return self.model_dump(mode="json", exclude_defaults=True)

    def digest(self) -> str:
        """Return a short hash that changes when, and only when, a value of the section changes."""
        text = json.dumps(self.beyond_defaults(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


# ---------------------------------------------------------------------------------------------- reference

CARDINAL_BASIS = re.compile(r"^(aug-)?cc-pw?c?v(?P<letter>[dtq56])z$", re.IGNORECASE)
CARDINAL_NUMBERS = {"d": 2, "t": 3, "q": 4, "5": 5, "6": 6}


def cardinal_number(basis: str) -> int:
    """Return X of a correlation-consistent basis (cc-pVXZ, aug-cc-pVXZ, cc-p(w)CVXZ).

    Raises:
        ConfigError: the basis belongs to no family that the extrapolation formulas are fitted for.
    """
    match = CARDINAL_BASIS.match(basis)
    if match is None:
        raise ConfigError(f"basis '{basis}' has no cardinal number to extrapolate with; use cc-pVXZ or aug-cc-pVXZ")
    return CARDINAL_NUMBERS[match["letter"].lower()]


class Stage(Section):
    """One term of a composite energy: the HF energy or (a difference of) correlation energies, at a basis-set limit."""

    method: Literal["hf", "mp2", "ccsd", "ccsd(t)"] = Field(
        description="hf gives the total HF energy; the others give their correlation energy."
    )
    minus: Literal["mp2", "ccsd"] | None = Field(
        None, description="Correlation energy to subtract: {method: ccsd(t), minus: mp2} is [CCSD(T) - MP2]."
    )
    bases: list[str] = Field(
        min_length=1,
        max_length=2,
        description="One basis, or two of successive cardinal numbers (smaller first) to extrapolate from.",
    )
    density_fitting: bool = Field(
        default_factory=lambda given: given.get("method") in ("hf", "mp2"),
        description="Default: true for hf and mp2, false for coupled cluster (which is always conventional).",
    )

    @field_validator("bases")
    @classmethod
    def _one_spelling(cls, bases: list[str]) -> list[str]:
        # cc-pVTZ and cc-pvtz are one level, and share their labels.
        return [basis.lower() for basis in bases]

    @model_validator(mode="after")
    def _check(self) -> Self:
        order = ["hf", "mp2", "ccsd", "ccsd(t)"]
        if self.minus is not None and order.index(self.minus) >= order.index(self.method):
            raise ValueError(f"'{self.method}' minus '{self.minus}' is no correction; subtract a simpler method")
        if self.density_fitting and self.method in ("ccsd", "ccsd(t)"):
            raise ValueError("density_fitting: coupled cluster is conventional here; leave it out or say false")
        if len(self.bases) == 2:
            try:
                small, large = (cardinal_number(basis) for basis in self.bases)
            except ConfigError as error:
                raise ValueError(str(error)) from None
            if large != small + 1:
                raise ValueError(
                    f"bases {self.bases}: the two-point formulas want successive cardinal numbers, smaller first"
                )
        return self


class Level(Section):
    """A level of theory: a sum of stages (a single level is one HF stage and one correlation stage, or HF alone)."""

    stages: list[Stage] = Field(min_length=1)
    frozen_core: bool = Field(True, description="Leave the chemical core uncorrelated.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if [stage.method for stage in self.stages].count("hf") != 1:
            raise ValueError("stages: exactly one stage must be 'hf'; correlation stages add to it")
        return self

    def bases(self) -> list[str]:
        """Return every basis that the level uses, without repetition."""
        return list(dict.fromkeys(basis for stage in self.stages for basis in stage.bases))


class Molecule(Section):
    """The system to sample and label."""

    name: str | None = Field(None, description="A molecule of ASE's G2 collection, such as H2O, NH3, CH3OH.")
    file: Path | None = Field(None, description="A file that ASE reads (xyz, ...), in place of name.")
    charge: int = Field(0, description="Total charge in e.")
    multiplicity: PositiveInt = Field(1, description="2S + 1.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.name is None) == (self.file is None):
            raise ValueError("give either 'name' (a molecule ASE knows) or 'file' (a geometry)")
        return self


class Sampling(Section):
    """Langevin dynamics on GFN2-xTB; a trajectory of its own for training and for test at each temperature."""

    temperatures: list[PositiveFloat] = Field(min_length=1, description="K.")
    timestep: PositiveFloat = Field(0.5, description="fs.")
    friction: PositiveFloat = Field(0.01, description="1/fs.")
    stride: PositiveInt = Field(200, description="Steps between two frames that are kept.")
    equilibration: int = Field(2000, ge=0, description="Steps before the first frame.")
    seed: int = Field(0, ge=0)

    @field_validator("temperatures")
    @classmethod
    def _distinct(cls, temperatures: list[float]) -> list[float]:
        # A trajectory is named by its temperature.
        if len({f"{temperature:g}" for temperature in temperatures}) < len(temperatures):
            raise ValueError(f"{temperatures} names one twice")
        return temperatures


class Labelling(Section):
    """How reference calculations are cut into jobs, and how many may fail."""

    frames_per_job: PositiveInt = Field(20, description="Frames of one job; aim at 10 to 30 minutes a job.")
    mem_mb: PositiveInt = Field(2000, description="Memory of one job in MB; grows with the attempt.")
    runtime: PositiveInt = Field(60, description="Time limit of one job in minutes; grows with the attempt.")
    max_failed: float = Field(0.1, ge=0, le=1, description="Share of failed frames that stops the experiment.")


class ComputedDataset(Section):
    """A molecule that is sampled and labelled here."""

    molecule: Molecule
    sampling: Sampling
    level: Name = Field(description="A name under levels.")
    training_frames: PositiveInt = Field(description="Frames that the sizes draw from (energies only).")
    test_frames: PositiveInt = Field(description="Frames kept for testing, from trajectories of their own.")
    test_force_frames: int = Field(
        0, ge=0, description="Test frames that also get forces of the level, by central differences."
    )
    labelling: Labelling = Labelling()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.test_force_frames > self.test_frames:
            raise ValueError(
                f"test_force_frames: {self.test_force_frames} is more than test_frames ({self.test_frames})"
            )
        return self


class GivenDataset(Section):
    """Labelled frames of the user's, as extended XYZ in eV and eV/Å."""

    file: Path = Field(description="Extended XYZ with REF_energy and, on all frames, some or none, REF_forces.")
    test_file: Path | None = Field(None, description="Frames to test on; else test_frames are held out of file.")
    test_frames: PositiveInt | None = Field(None, description="Frames of file to hold out for testing.")
    seed: int = Field(0, ge=0, description="Chooses the frames that are held out.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.test_file is None) == (self.test_frames is None):
            raise ValueError("give either 'test_file' or 'test_frames' (frames of file to hold out)")
        return self


def _dataset_kind(value: Any) -> str:
    keys = set(value) if isinstance(value, Mapping) else set(type(value).model_fields)
    computed = len(keys & set(ComputedDataset.model_fields))
    return "given" if len(keys & set(GivenDataset.model_fields)) > computed or "file" in keys else "computed"


Dataset = Annotated[
    Annotated[ComputedDataset, Tag("computed")] | Annotated[GivenDataset, Tag("given")],
    Discriminator(_dataset_kind),
]

# ------------------------------------------------------------------------------------- models and training


class Training(Section):
    """How a model is fitted."""

    steps: PositiveInt = Field(2000, description="Optimiser steps.")
    batch_size: PositiveInt = Field(8, description="Structures a step.")
    learning_rate: PositiveFloat = Field(1e-3, description="Peak rate of AdamW (amsgrad); cosine decay to zero.")
    weight_decay: NonNegativeFloat = Field(0.0)
    gradient_clip: PositiveFloat = Field(10.0, description="Largest norm of the gradient.")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="Decay a step of the averaged weights that are kept.")
    validate_every: PositiveInt = Field(100, description="Steps between validations; a checkpoint is written at each.")
    validation_fraction: float = Field(
        0.2, gt=0, lt=1, description="Share of a size's frames that chooses the best weights."
    )


class Resources(Section):
    """What a training job asks for; a change of it retrains nothing."""

    gpus: int = Field(0, ge=0, le=1, description="GPUs; 0 trains on the CPU.")
    threads: PositiveInt = Field(1, description="CPU threads.")
    mem_mb: PositiveInt = Field(4000, description="MB; grows with the attempt.")
    runtime: PositiveInt = Field(240, description="Time limit in minutes; grows with the attempt.")


class MessagePassing(Section):
    """What all architectures have."""

    cutoff: PositiveFloat = Field(5.0, description="Å.")
    features: int = Field(64, ge=2, description="Channels.")
    layers: PositiveInt = Field(3, description="Interaction blocks.")
    radial: int = Field(20, ge=2, description="Radial basis functions.")
    dtype: Literal["float32", "float64"] = "float32"
    training: Training = Training()
    resources: Resources = Field(Resources(), exclude=True)


class PaiNN(MessagePassing):
    """PaiNN (Schütt, Unke, Gastegger, ICML 2021)."""

    architecture: Literal["painn"]
    forces: Literal["conservative", "direct"] = Field(
        "conservative", description="The gradient of the energy, or a head of their own."
    )


class SchNet(MessagePassing):
    """SchNet (Schütt et al., J. Chem. Phys. 148, 241722, 2018); forces are the gradient."""

    architecture: Literal["schnet"]


Model = PaiNN | SchNet
ARCHITECTURES: dict[str, type[PaiNN] | type[SchNet]] = {"painn": PaiNN, "schnet": SchNet}


class WeakTerm(Section):
    """A weak loss: weight and order of the expansion of the energy along the displacement."""

    weight: PositiveFloat = Field(description="Factor relative to the other terms.")
    order: Literal[1, 2] = Field(1, description="1: the paper's; 2: trapezoid, with the force at both ends.")


class Loss(Section):
    """A training loss: squared errors of the labels and, optionally, the weak terms PITC and PISC."""

    energy: PositiveFloat = Field(1.0, description="Weight of the squared energy error per atom.")
    forces: PositiveFloat = Field(100.0, description="Weight of the squared force error, where forces are labelled.")
    pitc: WeakTerm | None = Field(None, description="Taylor-expansion consistency E(r+δ) = E(r) - <δ, F(r)>.")
    pisc: WeakTerm | None = Field(None, description="Path-independence consistency between r+δ and r+δ'.")
    displacement: PositiveFloat = Field(0.02, description="Å; standard deviation of a component of δ and δ'.")


class Simulation(Section):
    """A Langevin run with every trained model, started from a test frame."""

    temperature: PositiveFloat = Field(300.0, description="K.")
    time: PositiveFloat = Field(1.0, description="ps.")
    timestep: PositiveFloat = Field(0.5, description="fs.")
    friction: PositiveFloat = Field(0.01, description="1/fs.")
    bond_tolerance: PositiveFloat = Field(
        0.5, description="Å; a bond that leaves its starting length by more ends the stable time."
    )
    seed: int = Field(0, ge=0)


# ---------------------------------------------------------------------------------------------- experiment

Selector = dict[Literal["dataset", "model", "loss", "size", "seed"], Any]


class Run(Section):
    """One point of the grid."""

    dataset: str
    model: str
    loss: str
    size: int
    seed: int


class Experiment(Section):
    """An experiment: datasets, models, losses, sizes and seeds, whose product is the grid of runs."""

    experiment: Name = Field(description="Names the folder below results/.")
    levels: dict[Name, Level] = {}
    datasets: dict[Name, Dataset] = Field(min_length=1)
    models: dict[Name, Annotated[Model, Discriminator("architecture")]] = Field(min_length=1)
    losses: dict[Name, Loss] = Field(min_length=1)
    sizes: list[PositiveInt] = Field(
        min_length=1, description="Labelled frames of a run, those kept for validation included."
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    only: list[Selector] = Field([], description="Keep the runs that one of these matches.")
    exclude: list[Selector] = Field([], description="Drop the runs that one of these matches.")
    simulation: Simulation = Simulation()

    @model_validator(mode="before")
    @classmethod
    def _known_architectures(cls, value: Any) -> Any:
        models = value.get("models") if isinstance(value, Mapping) else None
        for name, model in models.items() if isinstance(models, Mapping) else ():
            if isinstance(model, Mapping) and model.get("architecture") not in ARCHITECTURES:
                found = model.get("architecture", "")
                raise ValueError(
                    f"models.{name}.architecture: no architecture '{found}'; {nearest(found, ARCHITECTURES)}"
                )
        return value

    @model_validator(mode="after")
    def _references_exist(self) -> Self:
        if "datasets" in self.datasets:
            raise ValueError("datasets.datasets: this name is a folder of the results; choose another")
        for name, dataset in self.datasets.items():
            if isinstance(dataset, ComputedDataset) and dataset.level not in self.levels:
                raise ValueError(
                    f"datasets.{name}.level: no level '{dataset.level}'; {nearest(dataset.level, self.levels)}"
                )
        axes: dict[str, list[Any]] = {
            "dataset": list(self.datasets),
            "model": list(self.models),
            "loss": list(self.losses),
            "size": self.sizes,
            "seed": self.seeds,
        }
        for key, selectors in (("only", self.only), ("exclude", self.exclude)):
            for position, selector in enumerate(selectors):
                for axis, wanted in selector.items():
                    for item in _as_list(wanted):
                        if item not in axes[axis]:
                            known = [str(choice) for choice in axes[axis]]
                            raise ValueError(f"{key}.{position}.{axis}: no {axis} '{item}'; {nearest(item, known)}")
        return self

    @model_validator(mode="after")
    def _grid_is_possible(self) -> Self:
        for axis, values in (("sizes", self.sizes), ("seeds", self.seeds)):
            if len(set(values)) != len(values):
                raise ValueError(f"{axis}: {values} names one twice")
        runs = self.runs()
        if not runs:
            raise ValueError("only/exclude: no run is left of the grid")
        for run in runs:
            dataset = self.datasets[run.dataset]
            if isinstance(dataset, ComputedDataset) and run.size > dataset.training_frames:
                raise ValueError(
                    f"sizes: {run.size} is more than the {dataset.training_frames} training frames of dataset "
                    f"'{run.dataset}'; raise datasets.{run.dataset}.training_frames or leave the size out"
                )
            fraction = self.models[run.model].training.validation_fraction
            if run.size < 2:
                raise ValueError(f"sizes: {run.size} leaves no frame to train on beside validation ({fraction:g})")
        return self

    def runs(self) -> list[Run]:
        """Return the runs of the grid that `only` and `exclude` leave, in the order of the config."""
        return [run for run in self._product() if self._wanted(run)]

    def _product(self) -> Iterator[Run]:
        for dataset in self.datasets:
            for model in self.models:
                for loss in self.losses:
                    for size in self.sizes:
                        for seed in self.seeds:
                            yield Run(dataset=dataset, model=model, loss=loss, size=size, seed=seed)

    def _wanted(self, run: Run) -> bool:
        def matches(selector: Selector) -> bool:
            return all(getattr(run, axis) in _as_list(wanted) for axis, wanted in selector.items())

        if self.only and not any(matches(selector) for selector in self.only):
            return False
        return not any(matches(selector) for selector in self.exclude)


SectionType = TypeVar("SectionType", bound=Section)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _one_line(error: ValidationError) -> str:
    """Turn the first problem that pydantic found into `key: what was found; what would be right`."""
    first = error.errors()[0]
    path = list(first["loc"])
    if path[:1] in (["datasets"], ["models"]):
        del path[2:3]  # which kind of section pydantic took it for
    where = ".".join(str(part) for part in path)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] not in ("value_error", "missing"):
        message = f"{message[0].lower()}{message[1:]}, found {first['input']!r}"
    if first["type"] == "missing":
        message = "this key is missing"
    return f"{where}: {message}" if where else message


def parse_section(section: type[SectionType], mapping: Any, source: str) -> SectionType:
    """Validate a mapping as a section.

    Args:
        section: the class to validate as.
        mapping: what YAML gave.
        source: the file it comes from, for messages.

    Raises:
        ConfigError: one line with the file, the key, what was found and what would be right.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{source}: found {type(mapping).__name__}, expected keys and values")
    try:
        return section.model_validate(mapping)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_one_line(error)}") from None


def parse_model(mapping: Any, source: str) -> Model:
    """Validate a mapping as the section of its architecture.

    Args:
        mapping: with the key `architecture`.
        source: where it comes from, for messages.

    Raises:
        ConfigError: an unknown architecture, or a section that is not right.
    """
    architecture = mapping.get("architecture") if isinstance(mapping, Mapping) else None
    if architecture not in ARCHITECTURES:
        raise ConfigError(f"{source}: no architecture '{architecture}'; {nearest(architecture, ARCHITECTURES)}")
    return parse_section(ARCHITECTURES[architecture], mapping, source)


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        ConfigError: the file is missing or is not YAML; one line that says where.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}:{line} is not YAML: {getattr(error, 'problem', error)}") from None


def json_schema() -> str:
    """Return the JSON schema of an experiment, for editors that complete and check config.yaml."""
    return json.dumps(Experiment.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
