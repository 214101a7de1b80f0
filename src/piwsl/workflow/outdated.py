"""Results of other settings than the config's: models and simulations say themselves what they were made by.

Snakemake knows which results an edit outdated by what it keeps in `.snakemake`. Where that was lost, or before it has
run again, they lie where those of the config belong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from piwsl.config import Experiment, ReplicaSimulation, Run, parse_section
from piwsl.errors import PiwslError
from piwsl.evaluation.trained_by import difference, trained_otherwise
from piwsl.records import Stability, read_record
from piwsl.workflow.layout import Layout

# Files that a message names; of more it names the rules.
MOST_NAMED = 5


@dataclass(frozen=True)
class Outdated:
    """A result that is not of the config."""

    path: str
    rule: str
    """That makes it."""
    said: str
    """The first setting that differs, or why nobody knows."""


def check_settings(experiment: Experiment) -> None:
    """Refuse results of an experiment that were made by other settings than its own.

    Raises:
        PiwslError: some were; one line names the first with the key that differs, and how all are made anew.
    """
    found = outdated(experiment)
    if not found:
        return
    first, *others = found
    more = f" ({len(others)} more {'is' if len(others) == 1 else 'are'} of other settings)" if others else ""
    them = "them" if others else "it"
    again = [each.path for each in found] if len(found) <= MOST_NAMED else dict.fromkeys(each.rule for each in found)
    raise PiwslError(f"{first.path}: {first.said}{more}; have {them} made anew: snakemake --forcerun {' '.join(again)}")


def outdated(experiment: Experiment) -> list[Outdated]:
    """Return the models and simulations that are there, and that the config would not make so.

    Models beside the grid that teach one of it, or choose frames for it, are among them. What is not there is passed
    over, and so are simulations with such a model: they are made anew after it.
    """
    layout = Layout(experiment.experiment)
    trained = {run: layout.run(run).model for run in experiment.every_run()}
    models = [*_models(experiment, trained)]
    others = {each.path for each in models}
    runs = [run for run in experiment.runs() if trained[run] not in others]
    return [*models, *(each for run in runs for each in _simulations(experiment, run, layout))]


def _models(experiment: Experiment, trained: Mapping[Run, str]) -> Iterator[Outdated]:
    for run, path in trained.items():
        model, loss = experiment.models[run.model], experiment.losses[run.loss]
        if said := _said(path, partial(trained_otherwise, run=run, model=model, loss=loss)):
            yield Outdated(path, "train", said)


def _simulations(experiment: Experiment, run: Run, layout: Layout) -> Iterator[Outdated]:
    for name in experiment.simulated(run):
        path, settings = layout.run(run).simulation(name).summary, experiment.simulations[name]
        if said := _said(path, partial(simulated_otherwise, name=name, settings=settings)):
            yield Outdated(path, "simulate", said)


def _said(path: str, otherwise: Callable[[Path], str | None]) -> str | None:
    """Return what is said against a file, or why nobody can read it; None where nothing is, or it is not there."""
    try:
        return otherwise(Path(path)) if Path(path).exists() else None
    except PiwslError as error:
        return str(error).removeprefix(f"{path}: ")


def simulated_otherwise(path: Path, name: str, settings: ReplicaSimulation) -> str | None:
    """Say by which setting a simulation was made that the config has no more; None where it has them all.

    Args:
        path: summary of the simulation; of one that does not say all its settings, those that it says count.
        name: of the simulation.
        settings: of the config.

    Raises:
        PiwslError: it is no such record, or says settings that there are not.
    """
    record, section = read_record(Stability, path), f"simulations.{name}"
    if record.settings is None:
        then = settings.model_copy(update=_said_before(record))
    else:
        then = parse_section(ReplicaSimulation, record.settings, f"{path}: settings")
    found = difference({section: then}, {section: settings})
    return None if found is None else f"simulated with {found}"


def _said_before(record: Stability) -> dict[str, object]:
    """Return the settings that summaries said before they said them all."""
    known: dict[str, object] = {"time": record.time_ps}
    if "ensemble" in record.model_fields_set:
        known["ensemble"] = record.ensemble
    if record.temperatures_K:
        known["temperatures"] = record.temperatures_K
    return known
