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
from piwsl.records import Frequencies, StationaryPoint
from piwsl.structures.structure import Structure
from piwsl.surface.relaxation import distance, relax
from piwsl.surface.source import Surface
from piwsl.surface.vibrations import vibrations

# eV/Å.
FMAX = 1e-3
MOST_STEPS = 500
# Of a dataset of many; each takes hundreds of forces at each level.
MOST_MOLECULES = 3


def geometry_and_frequencies(surfaces: Sequence[Surface], start: Atoms) -> list[StationaryPoint]:
    """Relax a molecule on several surfaces, and find its vibrations there.

    Args:
        surfaces: the first is what the others are laid beside.
        start: geometry; charge and multiplicity stand in its info.

    Returns:
        A record a surface, with how far its minimum is from that of the first; of a surface that has none, or gave up,
        it says why.
    """
    found: list[StationaryPoint] = []
    first: Atoms | None = None
    for surface in surfaces:
        record, minimum = _stationary_point(surface, start, first)
        found.append(record)
        first = minimum if surface is surfaces[0] else first
    return found


def _stationary_point(surface: Surface, start: Atoms, first: Atoms | None) -> tuple[StationaryPoint, Atoms | None]:
    formula = start.get_chemical_formula()
    try:
        relaxed = relax(surface.of(start), FMAX, MOST_STEPS)
        if not relaxed.converged:
            force, steps = relaxed.largest_force, relaxed.steps
            raise PiwslError(f"forces of {force:.2g} eV/Å are left after {steps} steps")
        frequencies = vibrations(relaxed.atoms).frequencies
    except PiwslError as error:
        return StationaryPoint(surface=surface.name, molecule=formula, problem=str(error)), None
    apart = None if first is None else distance(first, relaxed.atoms)
    record = StationaryPoint(
        surface=surface.name, molecule=formula, distance_A=apart, frequencies_per_cm=frequencies.tolist()
    )
    return record, relaxed.atoms


def starts_of(structures: Iterable[Structure]) -> list[Atoms]:
    """Return the first structure of each molecule by elements, charge and multiplicity; at most three.

    Single atoms and periodic structures are passed over.

    Args:
        structures: of a dataset.
    """
    found: dict[tuple[object, ...], Atoms] = {}
    for structure in structures:
        if len(structure.numbers) > 1 and not structure.pbc.any():
            key = (*sorted(structure.numbers.tolist()), structure.charge, structure.multiplicity)
            found.setdefault(key, structure.atoms())
    return list(found.values())[:MOST_MOLECULES]


def compare_run(
    dataset_path: Path, run: Run, model_path: Path, levels: Mapping[str, Level], frequencies_path: Path
) -> None:
    """Compare minima and vibrations of a run's model with those of its dataset's cheap levels.

    Args:
        dataset_path: dataset file; its first test frame of each molecule is relaxed.
        run: the point of the grid, repeated in the output.
        model_path: the trained model.
        levels: the cheap levels, by name.
        frequencies_path: JSON to write, `piwsl.records.Frequencies`.

    Raises:
        PiwslError: a file cannot be read, or a level cannot be computed here.
    """
    with Dataset(dataset_path) as dataset:
        starts = starts_of(dataset.structures(dataset.indices(TEST)))
    model = Surface(run.model, PotentialCalculator(load_model(model_path).in_dtype(torch.float64)))
    beside = [Surface(name, LevelCalculator(Baseline(name, level, "level"))) for name, level in levels.items()]
    points = [point for start in starts for point in geometry_and_frequencies([model, *beside], start)]
    write_json(frequencies_path, Frequencies(**run.plain(), points=points).model_dump(mode="json"))
    for point in points:
        said = point.problem or ", ".join(f"{frequency:.0f}" for frequency in point.frequencies_per_cm) + " cm⁻¹"
        print(f"{point.molecule}, {point.surface}: {said}", flush=True)
