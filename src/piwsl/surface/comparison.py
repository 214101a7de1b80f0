"""Minima and vibrations of a trained model beside those of cheap levels: a sharper test than a mean error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from ase import Atoms

from piwsl.config import Level, Run
from piwsl.data.dataset import TEST, Dataset
from piwsl.errors import PiwslError
from piwsl.files import write_json
from piwsl.interfaces import LevelCalculator, PotentialCalculator
from piwsl.models import Baseline, load_model
from piwsl.records import Frequencies, FrequenciesOfLevels, StationaryPoint
from piwsl.structures.structure import Structure
from piwsl.surface.relaxation import relax
from piwsl.surface.source import Surface
from piwsl.surface.vibrations import vibrations

# eV/Å.
FMAX = 1e-3
MOST_STEPS = 500
# Of a dataset of many; each takes hundreds of forces at each level.
MOST_MOLECULES = 3


def geometry_and_frequencies(surface: Surface, atoms: Atoms, start: int) -> StationaryPoint:
    """Relax a molecule on a surface, and find its vibrations there.

    Args:
        surface: of a model or a level.
        atoms: geometry; charge and multiplicity stand in its info.
        start: position of the geometry among those that it is from, for the record.

    Returns:
        The minimum and its frequencies; or why the surface has none.
    """
    record = StationaryPoint(surface=surface.name, molecule=atoms.get_chemical_formula(), start=start)
    try:
        relaxed = relax(surface.of(atoms), FMAX, MOST_STEPS)
        if not relaxed.converged:
            force, steps = relaxed.largest_force, relaxed.steps
            raise PiwslError(f"forces of {force:.2g} eV/Å are left after {steps} steps")
        frequencies = vibrations(relaxed.atoms).frequencies
    except PiwslError as error:
        return record.model_copy(update={"problem": str(error)})
    found = {"positions_A": relaxed.atoms.positions.tolist(), "frequencies_per_cm": frequencies.tolist()}
    return record.model_copy(update=found)


def starts_of(structures: Iterable[Structure]) -> dict[int, Atoms]:
    """Return the first structure of each molecule by elements, charge and multiplicity; at most three, by position.

    Single atoms and periodic structures are passed over.

    Args:
        structures: of a dataset.
    """
    found: dict[tuple[object, ...], tuple[int, Atoms]] = {}
    for position, structure in enumerate(structures):
        if len(structure.numbers) > 1 and not structure.pbc.any():
            key = (*sorted(structure.numbers.tolist()), structure.charge, structure.multiplicity)
            found.setdefault(key, (position, structure.atoms()))
    return dict([*found.values()][:MOST_MOLECULES])


def vibrate_run(dataset_path: Path, run: Run, model_path: Path, frequencies_path: Path) -> None:
    """Find minima and vibrations of a run's model.

    Args:
        dataset_path: dataset file; its first test frame of each molecule is relaxed.
        run: the point of the grid, repeated in the output.
        model_path: the trained model.
        frequencies_path: JSON to write, `piwsl.records.Frequencies`.

    Raises:
        PiwslError: a file cannot be read, or a level that the model corrects cannot be computed here.
    """
    model = Surface(run.model, PotentialCalculator(load_model(model_path).in_dtype(torch.float64)))
    points = _points([model], dataset_path)
    write_json(frequencies_path, Frequencies(**run.plain(), points=points).model_dump(mode="json"))


def vibrate_levels(dataset_path: Path, dataset: str, levels: Mapping[str, Level], frequencies_path: Path) -> None:
    """Find minima and vibrations of the cheap levels of a dataset, for models to be laid beside.

    Args:
        dataset_path: dataset file; its first test frame of each molecule is relaxed.
        dataset: its name, repeated in the output.
        levels: by name.
        frequencies_path: JSON to write, `piwsl.records.FrequenciesOfLevels`.

    Raises:
        PiwslError: a file cannot be read, or a level cannot be computed here.
    """
    surfaces = [Surface(name, LevelCalculator(Baseline(name, level, "level"))) for name, level in levels.items()]
    points = _points(surfaces, dataset_path)
    write_json(frequencies_path, FrequenciesOfLevels(dataset=dataset, points=points).model_dump(mode="json"))


def _points(surfaces: Sequence[Surface], dataset_path: Path) -> list[StationaryPoint]:
    with Dataset(dataset_path) as dataset:
        starts = starts_of(dataset.each(dataset.indices(TEST)))
    found = []
    for start, atoms in starts.items():
        for surface in surfaces:
            point = geometry_and_frequencies(surface, atoms, start)
            said = point.problem or ", ".join(f"{frequency:.0f}" for frequency in point.frequencies_per_cm) + " cm⁻¹"
            print(f"{point.molecule}, {point.surface}: {said}", flush=True)
            found.append(point)
    return found
