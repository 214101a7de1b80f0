"""Named test sets as the datasets that they are made as: of test frames alone, at the level of another dataset."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from piwsl.config import ComputedDataset, ComputedTest, Experiment, GivenDataset, GivenTest, Level, Scan
from piwsl.config.test_sets import too_few
from piwsl.data.dataset import TEST
from piwsl.data.given import check_energies, check_keys, every_of, read_given
from piwsl.errors import PiwslError
from piwsl.structures.coordinates import Coordinate
from piwsl.structures.frames import charge_of, electron_problem, multiplicity_of
from piwsl.structures.geometry import atom_problem, symbols_of
from piwsl.workflow.layout import named_test


@dataclass(frozen=True)
class NamedTest:
    """A named test set."""

    dataset: str
    """That it tests models of."""
    name: str
    said: ComputedTest | GivenTest
    """In the config."""
    section: ComputedDataset | GivenDataset
    """As a dataset."""

    @property
    def along(self) -> list[int] | None:
        """The atoms whose coordinate is measured in frames of a file, if any."""
        return self.said.along

    @property
    def scan(self) -> Scan | None:
        """What its geometries are made along, if they are."""
        return self.said.scan if isinstance(self.said, ComputedTest) else None


def named_tests(experiment: Experiment) -> dict[str, NamedTest]:
    """Return the named test sets of an experiment, by the name that each has as a dataset.

    Raises:
        PiwslError: a file of geometries cannot be read.
    """
    return {
        named_test(dataset, name): of_section(dataset, section, name)
        for dataset, section in experiment.datasets.items()
        for name in section.tests
    }


def of_section(dataset: str, section: ComputedDataset | GivenDataset, name: str) -> NamedTest:
    """Return a test set of a dataset, by name and section of this and name of that.

    Raises:
        PiwslError: its file of geometries cannot be read.
    """
    if isinstance(section, GivenDataset):
        return NamedTest(dataset, name, section.tests[name], section.tested_on(name))
    test = section.tests[name]
    return NamedTest(dataset, name, test, section.tested_on(name, _frames(section, test)))


def _frames(section: ComputedDataset, test: ComputedTest) -> int:
    """Return how many frames a test set has."""
    if test.frames is not None:
        return test.frames
    if test.scan is not None:
        return test.scan.points
    from piwsl.reference.geometries import read_geometries

    geometries = section.geometries_of(test)
    assert geometries is not None
    return len(read_geometries(geometries))


def check_test(test: NamedTest, symbols: Collection[str] | None, level: Level | None, most: int) -> list[Atoms]:
    """Check that a test set can be made, and that models of its dataset can be asked about it.

    Args:
        test: the test set.
        symbols: elements of the training frames; None where not all are known.
        level: of a computed dataset.
        most: of a file with more frames, look at no more than these.

    Returns:
        Its structures: the molecule, or all geometries or frames of its file that were looked at.

    Raises:
        PiwslError: says what is not right.
    """
    if isinstance(test.section, ComputedDataset):
        assert level is not None
        frames = _checked_geometries(test.section, level)
    else:
        frames = _checked_frames(test, test.section, most)
    if symbols is not None and (unknown := sorted(symbols_of(frames) - set(symbols))):
        raise PiwslError(f"holds {', '.join(unknown)}, which no training frame does; take those frames out")
    atoms = test.along if test.scan is None else test.scan.along
    for position, frame in enumerate(frames if atoms is not None else []):
        try:
            Coordinate(tuple(atoms or ())).check(frame)
        except PiwslError as error:
            raise PiwslError(f"along: frame {position}: {error}") from None
    return frames


def _checked_geometries(section: ComputedDataset, level: Level) -> list[Atoms]:
    from piwsl.reference.forces import check_forces
    from piwsl.reference.planning import structures

    frames = structures(section)
    for position, atoms in enumerate(frames):
        problem = atom_problem(atoms) or electron_problem(
            atoms.numbers.tolist(), charge_of(atoms), multiplicity_of(atoms)
        )
        if problem is not None:
            raise PiwslError(f"frame {position}: {problem}")
    if problem := too_few(section.test_frames, section.test_force_frames, section.test_slope_frames):
        raise PiwslError(problem)
    multiplicities = {multiplicity_of(atoms) for atoms in frames}
    for forces in (section.forces_by, "slope" if section.test_slope_frames else None):
        check_forces(level, multiplicities, forces)
    return frames


def _checked_frames(test: NamedTest, section: GivenDataset, most: int) -> list[Atoms]:
    file = read_given(section, section.file, every_of(section, section.file, most))
    own: dict[str, Any] = {key: getattr(test.said, key) for key in ("forces_key", "stress_key")}
    own["given_levels"] = {}  # a test set need not have them
    check_energies(section, file, np.arange(len(file)), TEST)
    check_keys(section.model_copy(update=own), [file])
    return file.frames
