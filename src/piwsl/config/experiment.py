"""The whole experiment: datasets, models, losses, sizes and seeds, and the grid of runs that they span."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, PositiveInt, model_validator

from piwsl.config.datasets import ComputedDataset, Dataset, is_computed
from piwsl.config.levels import PRESETS, Level
from piwsl.config.section import Name, Section, nearest
from piwsl.config.training import ARCHITECTURES, Loss, Model, Simulation

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
    levels: dict[Name, Level] = Field({}, description="Levels of theory; presets need not be repeated here.")
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

    @model_validator(mode="before")
    @classmethod
    def _presets_are_levels(cls, value: Any) -> Any:
        """Add the presets that datasets name without a level of that name."""
        if not isinstance(value, Mapping) or not isinstance(datasets := value.get("datasets"), Mapping):
            return value
        levels = value.get("levels", {})
        wanted = [dataset.get("level") for dataset in datasets.values() if is_computed(dataset)]
        if not isinstance(levels, Mapping):
            return value
        named = {name: {"preset": name} for name in wanted if name in PRESETS and name not in levels}
        return {**value, "levels": {**levels, **named}} if named else value

    @model_validator(mode="after")
    def _references_exist(self) -> Self:
        if "datasets" in self.datasets:
            raise ValueError("datasets.datasets: this name is a folder of the results; choose another")
        for name, dataset in self.datasets.items():
            if isinstance(dataset, ComputedDataset) and dataset.level not in self.levels:
                raise ValueError(
                    f"datasets.{name}.level: no level '{dataset.level}'; "
                    f"{nearest(dataset.level, [*self.levels, *PRESETS])}"
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
            if isinstance(dataset, ComputedDataset) and self.losses[run.loss].weak_forces and not dataset.weak_forces:
                raise ValueError(
                    f"losses.{run.loss}.weak_forces: dataset '{run.dataset}' has no forces of a cheaper level; "
                    f"say datasets.{run.dataset}.weak_forces: gfn2-xtb, or leave the run out"
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


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def json_schema() -> str:
    """Return the JSON schema of an experiment, for editors that complete and check config.yaml."""
    return json.dumps(Experiment.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
