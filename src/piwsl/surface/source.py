"""Where energies and forces of geometries come from: a model file, or a level of theory by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator

from piwsl.config import PRESETS, named_level, nearest, read_level
from piwsl.config.levels import CHEAP
from piwsl.data.reading import read_frames
from piwsl.errors import PiwslError
from piwsl.interfaces import LevelCalculator, PotentialCalculator
from piwsl.models import Baseline, load_model
from piwsl.structures.geometry import geometry_problem, symbols_of


@dataclass(frozen=True)
class Surface:
    """A potential energy surface."""

    name: str
    """What tables call it: the name of a level, or of a model's file."""
    calculator: Calculator

    def of(self, atoms: Atoms) -> Atoms:
        """Return a copy of a geometry that has its energy and forces from here."""
        copy = atoms.copy()
        copy.calc = self.calculator
        return copy


def surface_of(said: str, symbols: Iterable[str], device: str = "cpu") -> Surface:
    """Return what a user names: a model file, a YAML file of a level, or a level's name.

    Models compute in double precision here: minima and second derivatives are found by small differences.

    Args:
        said: what it is called.
        symbols: of the elements that it must know.
        device: of a model: cpu or cuda.

    Raises:
        PiwslError: it is none of these, or does not know an element.
    """
    path, wanted = Path(said), set(symbols)
    if path.suffix in (".yaml", ".yml") or (not path.exists() and said in {*PRESETS, *CHEAP}):
        name, level_of_theory = (path.stem, read_level(path)) if path.exists() else (said, named_level(said))
        level = Baseline(name, level_of_theory, "level")
        level.check(wanted)
        return Surface(level.name, LevelCalculator(level))
    if not path.exists():
        raise PiwslError(f"{said}: neither a model file nor a level; {nearest(said, [*CHEAP, *PRESETS])}")
    potential = load_model(path, device).in_dtype(torch.float64)
    if unknown := sorted(wanted - set(potential.elements())):
        known = ", ".join(potential.elements())
        raise PiwslError(f"{said}: the model was not trained on {', '.join(unknown)}; it knows {known}")
    return Surface(said, PotentialCalculator(potential))


def surfaces_of(model: str, beside: Iterable[str], frames: list[Atoms], device: str = "cpu") -> list[Surface]:
    """Return the surface that is asked, and those beside it, in their order.

    Raises:
        PiwslError: as of `surface_of`; or two have one name.
    """
    symbols = symbols_of(frames)
    found = [surface_of(said, symbols, device) for said in (model, *beside)]
    names = [surface.name for surface in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise PiwslError(f"{twice[0]} is named twice")
    return found


def geometries_of(path: Path, form: str | None = None) -> list[Atoms]:
    """Read the geometries of a file.

    Raises:
        PiwslError: it cannot be read, or a frame is no geometry; names it.
    """
    frames = read_frames(path, form)
    for position, atoms in enumerate(frames):
        if problem := geometry_problem(atoms):
            raise PiwslError(f"{path}: frame {position}: {problem}")
    return frames


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Say in an error where it arose."""
    try:
        yield
    except PiwslError as error:
        raise PiwslError(f"{where}: {error}") from None
