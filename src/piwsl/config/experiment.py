"""The whole experiment: datasets, models, losses, sizes and seeds, and the grid of runs that they span."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from piwsl.config.acquisition import OF_A_PROCESS, Acquisition
from piwsl.config.datasets import ComputedDataset, Dataset, GivenDataset, is_computed
from piwsl.config.heads import head_problem
from piwsl.config.levels import CHEAP, AnyLevel, parse_level, preset
from piwsl.config.losses import Loss
from piwsl.config.models import Architecture, Model
from piwsl.config.section import LONGEST_VALUE, Name, Section, Seed, nearest, shortened
from piwsl.config.selectors import Run, Selectors, as_list, is_one_of
from piwsl.config.simulation import ReplicaSimulation
from piwsl.config.stages import PRESETS
from piwsl.structures.labels import RESERVED, WEAK

Size = Annotated[int, Field(ge=1, le=1_000_000)]

# Snakemake plans so many jobs in minutes, on a login node.
MOST_RUNS = 10_000
MOST_OF_A_KIND = 100
# What lies beside the folders of experiments, and of datasets.
NO_EXPERIMENTS = ("labels", "downloads", "README.md")
NO_DATASETS = ("datasets", "logs", "benchmarks", "figures", "tables", "report.html", "results.csv", "snakemake.zip")


class Experiment(Section):
    """An experiment: datasets, models, losses, sizes and seeds, whose product is the grid of runs."""

    experiment: Name = Field(description="Names the folder below results/; no two configs may share one.")
    levels: dict[Name, AnyLevel] = Field(
        {}, max_length=MOST_OF_A_KIND, description="Levels of theory; presets need not be repeated."
    )
    datasets: dict[Name, Dataset] = Field(
        min_length=1, max_length=MOST_OF_A_KIND, description="Labelled frames: computed here, or given."
    )
    models: dict[Name, Model] = Field(min_length=1, max_length=MOST_OF_A_KIND, description="What is trained, and how.")
    losses: dict[Name, Loss] = Field(
        min_length=1, max_length=MOST_OF_A_KIND, description="What is minimised in training."
    )
    sizes: list[Size] = Field(
        [],
        max_length=MOST_RUNS,
        description="Labelled frames of a run, those kept for validation included; the sizes of a seed nest. "
        "Default, of computed datasets: all training frames, a half, a quarter and an eighth of them.",
    )
    seeds: list[Seed] = Field(
        min_length=1,
        max_length=MOST_RUNS,
        description="Of the choice of frames, the weights, the order of batches, the displacements.",
    )
    only: Selectors = Field(
        [], description="Runs to keep: {dataset, model, loss, size, seed}, each a value or a list; all."
    )
    exclude: Selectors = Field([], description="Runs to drop, likewise; none.")
    simulations: dict[Name, ReplicaSimulation] = Field(
        {"nvt": ReplicaSimulation()},
        max_length=MOST_OF_A_KIND,
        description="Dynamics with every trained model; tables show the first. {}: none.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_simulation(cls, value: Any) -> Any:
        """Take `simulation` for a set of one, which is called that."""
        if not isinstance(value, Mapping) or "simulation" not in value:
            return value
        if "simulations" in value:
            raise ValueError("simulation: 'simulations' is there, too; move it there under a name of its own")
        warnings.warn(
            "key 'simulation' is 'simulations: {NAME: ...}' now; the old one still works", FutureWarning, stacklevel=2
        )
        rest = {key: found for key, found in value.items() if key != "simulation"}
        return {**rest, "simulations": {"simulation": value["simulation"]}}

    @model_validator(mode="before")
    @classmethod
    def _presets_are_levels(cls, value: Any) -> Any:
        """Add the presets that datasets name without a level of that name."""
        if not isinstance(value, Mapping) or not isinstance(datasets := value.get("datasets"), Mapping):
            return value
        levels = value.get("levels", {})
        wanted = [dataset.get("level") for dataset in datasets.values() if is_computed(dataset)]
        for dataset in datasets.values():
            cheap = dataset.get("cheap_levels") if isinstance(dataset, Mapping) else None
            wanted += cheap if isinstance(cheap, list) else []
        if not isinstance(levels, Mapping):
            return value
        found = {name: preset(name) for name in wanted if isinstance(name, str) and name not in levels}
        named = {name: level for name, level in found.items() if level is not None}
        return {**value, "levels": {**levels, **named}} if named else value

    @field_validator("experiment")
    @classmethod
    def _folder_is_free(cls, name: str) -> str:
        if name.casefold() in map(str.casefold, NO_EXPERIMENTS):
            raise ValueError(f"results/{name} is no folder of an experiment; choose another name")
        return name

    @model_validator(mode="after")
    def _sizes_are_known(self) -> Self:
        for name, dataset in self.datasets.items():
            if not self.sizes and isinstance(dataset, GivenDataset):
                raise ValueError(
                    f"sizes: this key is missing; say how many frames of dataset '{name}' are learned from"
                )
        return self

    @model_validator(mode="after")
    def _folders_differ(self) -> Self:
        tests = {f"datasets.{name}.tests": list(dataset.tests) for name, dataset in self.datasets.items()}
        for kind, names in {"datasets": list(self.datasets), **tests}.items():
            for name in names:
                if name.casefold() in map(str.casefold, NO_DATASETS):
                    raise ValueError(f"{kind}.{name}: this name is another's in the results; choose another")
        for kind, names in (
            ("datasets", list(self.datasets)),
            *tests.items(),
            ("models", list(self.models)),
            ("losses", list(self.losses)),
            ("simulations", list(self.simulations)),
        ):
            folders: dict[str, str] = {}
            for name in names:
                first = folders.setdefault(name.casefold(), name)
                if first != name:
                    raise ValueError(f"{kind}.{name}: '{first}' is the same folder on some disks; choose another name")
        return self

    @model_validator(mode="after")
    def _references_exist(self) -> Self:
        for name, dataset in self.datasets.items():
            if isinstance(dataset, ComputedDataset) and dataset.level not in self.levels:
                raise ValueError(
                    f"datasets.{name}.level: no level '{dataset.level}'; "
                    f"{nearest(dataset.level, [*self.levels, *PRESETS])}"
                )
        for name, dataset in self.datasets.items():
            for cheap in dataset.cheap_levels:
                self._cheap_level_is_one(f"datasets.{name}.cheap_levels", cheap, dataset)
        axes: dict[str, list[Any]] = {
            "dataset": list(self.datasets),
            "model": list(self.models),
            "loss": list(self.losses),
            "size": sorted({size for name in self.datasets for size in self.sizes_of(name)}),
            "seed": self.seeds,
        }
        of_simulations = {f"simulations.{name}.only": each.only for name, each in self.simulations.items()}
        for key, selectors in {"only": self.only, "exclude": self.exclude, **of_simulations}.items():
            for position, selector in enumerate(selectors):
                for axis, wanted in selector.items():
                    for item in as_list(wanted):
                        if isinstance(item, bool | float) or item not in axes[axis]:
                            known = [str(choice) for choice in axes[axis]]
                            raise ValueError(f"{key}.{position}.{axis}: no {axis} '{item}'; {nearest(item, known)}")
        return self

    def _cheap_level_is_one(self, key: str, name: str, dataset: ComputedDataset | GivenDataset) -> None:
        if name in RESERVED:
            raise ValueError(f"{key}: '{name}' is what labels are called; give the level another name")
        if name not in self.levels:
            raise ValueError(f"{key}: no level '{name}'; {nearest(name, [*self.levels, *PRESETS, *CHEAP])}")
        if name in CHEAP and self.levels[name] != parse_level(CHEAP[name], name):
            raise ValueError(f"levels.{name}: is not {name}, for which the name stands; give the level another name")
        if problem := self.levels[name].analytic_problem(1):
            raise ValueError(f"{key}: '{name}' has no analytic forces ({problem}), which cheap levels are asked for")
        if isinstance(dataset, ComputedDataset) and self.levels[name] == self.levels[dataset.level]:
            raise ValueError(f"{key}: '{name}' is the level of the labels, which leaves no difference; leave it out")

    @model_validator(mode="after")
    def _teachers_are_there(self) -> Self:
        for name, model in self.models.items():
            if model.teacher is not None:
                key = f"models.{name}.teacher"
                if model.teacher.model not in self.models:
                    found = nearest(model.teacher.model, list(self.models))
                    raise ValueError(f"{key}.model: no model '{model.teacher.model}'; {found}")
                if model.teacher.loss not in self.losses:
                    found = nearest(model.teacher.loss, list(self.losses))
                    raise ValueError(f"{key}.loss: no loss '{model.teacher.loss}'; {found}")
                self._is_taught_by_another(name)
        return self

    def _is_taught_by_another(self, name: str) -> None:
        """Refuse a model that, over however many others, teaches itself."""
        teacher, met = self.models[name].teacher, [name]
        while teacher is not None and teacher.model in self.models:
            if teacher.model in met:
                raise ValueError(f"models.{name}.teacher: {' <- '.join([*met, teacher.model])}: name another")
            met.append(teacher.model)
            teacher = self.models[teacher.model].teacher

    @model_validator(mode="after")
    def _acquisitions_ask_who_knows(self) -> Self:
        for name, dataset in self.datasets.items():
            if dataset.acquisition is not None and dataset.acquisition.model is not None:
                self._knows_how_sure_it_is(f"datasets.{name}.acquisition", dataset.acquisition)
        return self

    def _knows_how_sure_it_is(self, key: str, acquisition: Acquisition) -> None:
        for kind, known in (("model", list(self.models)), ("loss", list(self.losses))):
            if (said := getattr(acquisition, kind)) not in known:
                raise ValueError(f"{key}.{kind}: no {kind} '{said}'; {nearest(str(said), known)}")
        model = self.models[str(acquisition.model)]
        if acquisition.by in OF_A_PROCESS and not model.has_posterior:
            raise ValueError(
                f"{key}.model: '{acquisition.model}' has no variance; name a model of architecture: gaussian_process, "
                "or say by: disagreement"
            )
        if acquisition.by == "disagreement" and model.members < 2:
            raise ValueError(
                f"{key}.model: '{acquisition.model}' is no committee, whose members could disagree; say members: 4 "
                "there, or by: variance"
            )

    @model_validator(mode="after")
    def _grid_is_possible(self) -> Self:
        for axis, values in (("sizes", self.sizes), ("seeds", self.seeds)):
            if len(set(values)) != len(values):
                raise ValueError(f"{axis}: {shortened(str(values), LONGEST_VALUE)} names one twice")
        points = sum(len(self.sizes_of(name)) for name in self.datasets)
        grid = points * len(self.models) * len(self.losses) * len(self.seeds)
        if grid > MOST_RUNS:
            raise ValueError(f"sizes, seeds: the grid has {grid} runs, {MOST_RUNS} at most; make several experiments")
        runs = self.runs()
        if not runs:
            raise ValueError("only/exclude: no run is left of the grid")
        for run in self.every_run():
            self._run_is_possible(run)
        self._simulated_runs_are_there(runs)
        return self

    def _simulated_runs_are_there(self, runs: list[Run]) -> None:
        for name, simulation in self.simulations.items():
            for position, selector in enumerate(simulation.only):
                if not any(is_one_of(run, [selector]) for run in runs):
                    said = shortened(str(selector), LONGEST_VALUE)
                    raise ValueError(f"simulations.{name}.only.{position}: no run of the grid has {said}; leave it out")

    @property
    def first_simulation(self) -> ReplicaSimulation | None:
        """The one whose results stand in tables, if there is any."""
        return next(iter(self.simulations.values()), None)

    def sizes_of(self, dataset: str) -> list[int]:
        """Return the sizes of runs on a dataset: those of the experiment, or parts of its training frames."""
        section = self.datasets[dataset]
        if self.sizes or not isinstance(section, ComputedDataset):
            return self.sizes
        return section.halved_sizes

    def asked(self, dataset: str) -> list[Run]:
        """Return the runs whose models choose the frames of each round of a dataset but the start, in their order.

        They are of the grid, or beside it; where chance chooses there are none.
        """
        acquisition = self.datasets[dataset].acquisition
        if acquisition is None or acquisition.model is None or acquisition.loss is None:
            return []
        model, loss, seed = acquisition.model, acquisition.loss, acquisition.seed
        return [Run(dataset=dataset, model=model, loss=loss, size=size, seed=seed) for size in acquisition.sizes[:-1]]

    def trained(self, runs: list[Run]) -> list[Run]:
        """Return runs of the grid, and those whose models choose frames of the datasets that they take."""
        return [*runs, *(run for name in dict.fromkeys(run.dataset for run in runs) for run in self.asked(name))]

    def test_is_like_validation(self, dataset: str, model: str) -> bool:
        """Whether a dataset's own test frames are as new to a model of it as those that it validates on.

        A student's are not: its teacher has learned labels of what its members hold out, and of no test frame.
        """
        asked = self.models[model]
        return asked.teacher is None and self.datasets[dataset].test_is_like_validation(asked.training.validation_by)

    def every_run(self) -> Iterator[Run]:
        """Give the runs of the grid, and those beside it that choose frames or teach; some more than once."""
        for run in self.trained(self.runs()):
            student: Run | None = run
            while student is not None:
                yield student
                student = self.teacher(student)

    def teacher(self, run: Run) -> Run | None:
        """Return the run that teaches another, if one does: of the grid, or beside it."""
        taught_by = self.models[run.model].teacher
        if taught_by is None:
            return None
        return run.model_copy(update={"model": taught_by.model, "loss": taught_by.loss})

    def _run_is_possible(self, run: Run) -> None:
        dataset, model, loss = self.datasets[run.dataset], self.models[run.model], self.losses[run.loss]
        computed = dataset if isinstance(dataset, ComputedDataset) else None
        if dataset.acquisition is not None and (problem := dataset.acquisition.size_problem(run.size)):
            raise ValueError(f"sizes: {run.size} of dataset '{run.dataset}' {problem}; leave the run out (exclude)")
        if computed and run.size > computed.training_frames:
            raise ValueError(
                f"sizes: {run.size} is more than the {computed.training_frames} training frames of dataset "
                f"'{run.dataset}'; raise datasets.{run.dataset}.training_frames or leave the size out"
            )
        self._loss_is_possible(run)
        if computed and model.atomic_references == "free_atoms" and not computed.free_atoms:
            raise ValueError(
                f"models.{run.model}.atomic_references: dataset '{run.dataset}' has no free atoms; leave out "
                f"datasets.{run.dataset}.free_atoms: false, or give energies by element"
            )
        if model.baseline is not None:
            self._baseline_is_possible(run, model)
        asking = f"models.{run.model}.teacher" if model.teacher else f"losses.{run.loss}.pool" if loss.pool else None
        if asking and not dataset.has_pool:
            key = "pool_frames" if computed else "pool_file"
            raise ValueError(
                f"{asking}: dataset '{run.dataset}' has no pool; say datasets.{run.dataset}.{key}, or leave the run out"
            )
        if asking and model.training.limit is None and model.training.batch_size < 2:
            raise ValueError(
                f"{asking}: a step of model '{run.model}' has one frame, which is labelled; raise its "
                "training.batch_size"
            )
        if run.size < 2 and model.training.validation_fraction:
            raise ValueError(f"sizes: {run.size} leaves no frame to train on beside validation")
        if model.training.validation_by == "group" and (problem := dataset.groups_problem):
            raise ValueError(
                f"models.{run.model}.training.validation_by: dataset '{run.dataset}' has no groups: {problem}, or "
                "leave the run out (exclude)"
            )

    def _loss_is_possible(self, run: Run) -> None:
        """Check that frames have the labels that the loss looks at, and the model what it is compared with."""
        dataset, model, loss = self.datasets[run.dataset], self.models[run.model], self.losses[run.loss]
        computed = dataset if isinstance(dataset, ComputedDataset) else None
        if computed and (cheap := loss.terms_of_level(WEAK)) and not computed.weak_forces:
            raise ValueError(
                f"losses.{run.loss}.{cheap[0]}: dataset '{run.dataset}' has no forces of a cheaper level; "
                f"say datasets.{run.dataset}.weak_forces: gfn2-xtb, or leave the run out"
            )
        if computed and loss.needs_forces and not computed.training_forces:
            raise ValueError(
                f"losses.{run.loss}.energy: 0, but frames of dataset '{run.dataset}' have no forces; say "
                f"datasets.{run.dataset}.training_forces: true, or give energy a weight"
            )
        untaught = computed and not computed.training_forces and model.teacher is None
        if untaught and (terms := loss.terms_of_labelled_forces):
            raise ValueError(
                f"losses.{run.loss}.{terms[0]}: made of labelled forces, and frames of dataset '{run.dataset}' have "
                f"none; say datasets.{run.dataset}.training_forces: true, another anchor, or leave the run out"
            )
        if problem := head_problem(model, loss, labelled=not untaught):
            raise ValueError(f"models.{run.model}: {problem} to losses.{run.loss}, or leave the run out")
        if problem := model.loss_problem(loss):
            raise ValueError(f"losses.{run.loss}.{problem}; leave it or the runs of model '{run.model}' out (exclude)")
        if loss.stress and (computed or not model.conservative):
            why = (
                f"dataset '{run.dataset}' is of molecules, which have none"
                if computed
                else f"the forces of model '{run.model}' have a head of their own, and it has none"
            )
            raise ValueError(f"losses.{run.loss}.stress: {why}; leave stress or the run out")

    def _baseline_is_possible(self, run: Run, model: Architecture) -> None:
        key, dataset = f"models.{run.model}", self.datasets[run.dataset]
        if isinstance(dataset, GivenDataset) and model.baseline in dataset.given_levels:
            raise ValueError(
                f"{key}.baseline: of '{model.baseline}' the labels of the files are known and no others, and a model "
                "asks its baseline about any geometry; name one of cheap_levels, or leave the run out"
            )
        if model.baseline not in self.datasets[run.dataset].cheap_levels:
            raise ValueError(
                f"{key}.baseline: dataset '{run.dataset}' has no labels of '{model.baseline}'; say "
                f"datasets.{run.dataset}.cheap_levels: [{model.baseline}], or leave the run out"
            )
        if cheap := self.losses[run.loss].terms_of_level(WEAK):
            raise ValueError(
                f"losses.{run.loss}.{cheap[0]}: model '{run.model}' learns what a baseline leaves, of which such "
                "forces say nothing; leave the run out"
            )
        if self.losses[run.loss].stress:
            raise ValueError(f"losses.{run.loss}.stress: baseline of model '{run.model}' has none; leave one out")

    def compared_losses(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """Return pairs of a weak loss and the supervised one that says what its terms bring, by dataset and model.

        That is, of those that the model is trained by on the dataset, the one that looks at the same labels or, of
        several or none such, looks most alike at them; the first of several.
        """
        trained: dict[tuple[str, str], dict[str, None]] = {}
        for run in self.runs():
            trained.setdefault((run.dataset, run.model), {})[run.loss] = None
        return {place: [*self._pairs([*losses])] for place, losses in trained.items()}

    def _pairs(self, losses: list[str]) -> Iterator[tuple[str, str]]:
        supervised = [name for name in losses if self.losses[name].supervised]
        for weak in losses:
            likeness = self.losses[weak].likeness
            if supervised and weak not in supervised:
                yield weak, max(supervised, key=lambda name: likeness(self.losses[name]))

    def runs(self) -> list[Run]:
        """Return the runs of the grid that `only` and `exclude` leave, in the order of the config."""
        return [run for run in self._product() if self._wanted(run)]

    def _product(self) -> Iterator[Run]:
        for dataset in self.datasets:
            for model in self.models:
                for loss in self.losses:
                    for size in self.sizes_of(dataset):
                        for seed in self.seeds:
                            yield Run(dataset=dataset, model=model, loss=loss, size=size, seed=seed)

    def _wanted(self, run: Run) -> bool:
        return (not self.only or is_one_of(run, self.only)) and not is_one_of(run, self.exclude)

    def simulated(self, run: Run) -> list[str]:
        """Return the names of the simulations of a run, in the order of the config."""
        return [name for name, each in self.simulations.items() if not each.only or is_one_of(run, each.only)]


def json_schema() -> str:
    """Return the JSON schema of an experiment, for editors that complete and check config.yaml."""
    return json.dumps(Experiment.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
