"""Dataset files from what the reference stage computed, and from what a user gives. From here on both are alike."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from piwsl.config import GivenDataset
from piwsl.data import provenance
from piwsl.data.cheap_levels import MAX_FAILED, CheapLabels, CheapLevels, with_cheap_labels
from piwsl.data.dataset import POOL, TEST, TRAINING, WITHOUT_GIVEN_LEVELS, check_labels, write_dataset, write_structures
from piwsl.data.dropping import kept_of, survey_of_parts, write_dropped
from piwsl.data.given import (
    GivenFile,
    Part,
    findings_of_levels,
    held_out_groups,
    left_out,
    names_of_files,
    source_of,
    summary,
    survey_files,
)
from piwsl.data.plausibility import Parts, asked_for, asked_of_levels, doubts, doubts_of_levels, findings
from piwsl.data.rereading import parts_again
from piwsl.data.splits import write_split
from piwsl.errors import PiwslError
from piwsl.records import Finding, read_free_atoms
from piwsl.structures.frames import read_frames, too_close, without_labels, write_frames
from piwsl.structures.labels import REFERENCE, WEAK
from piwsl.structures.structure import GROUP_KEY, from_atoms


def assemble(
    training: list[Path],
    test: list[Path],
    atoms: list[Path],
    dataset_path: Path,
    weak_forces: bool = False,
    pool: Sequence[Path] = (),
    cheap: Sequence[CheapLabels] = (),
    max_failed: float = MAX_FAILED,
    level: str | None = None,
) -> None:
    """Join labelled batches, and frames that are not labelled, to a dataset file.

    A part of which no file is given is left out. What looks odd is said of training and test together.

    Args:
        training: extended XYZ files; empty ones (all frames failed) are passed over.
        test: likewise.
        atoms: one JSON file of free atoms' energies, or none.
        dataset_path: the file to write.
        weak_forces: whether frames of training and pool get forces of GFN2-xTB as weak labels.
        pool: one extended XYZ file of frames without labels, or none.
        cheap: what further levels say of all frames.
        max_failed: share of a part's labelled frames that such a level may fail.
        level: of theory, in words, that the frames are labelled with.

    Raises:
        PiwslError: files are given for training or for test, and no frame in them is labelled; or as of
            `with_cheap_labels`.
    """
    frames = {
        part: [atoms for path in paths if path.stat().st_size for atoms in read_frames(path)]
        for part, paths in ((TRAINING, training), (TEST, test))
        if paths
    }
    for part, found in frames.items():
        if not found:
            raise PiwslError(f"{dataset_path}: every {part} frame failed; see the records of the batches")
        check_labels(found, f"{part} frames")
    for sampled in frames.get(TRAINING, []):
        sampled.info[GROUP_KEY] = _trajectory_of(sampled)
    frames[POOL] = _possible([atoms for path in pool for atoms in read_frames(path)])
    if pool and not frames[POOL]:
        raise PiwslError(
            f"{dataset_path}: atoms of every pool frame lie on one another; see what they are sampled from"
        )
    if weak_forces:
        learnt = [part for part in (TRAINING, POOL) if part in frames]
        weak = _with_weak_forces(frames, {part: f"{dataset_path}: {part}" for part in learnt})
        frames = {part: [*found] for part, found in weak.items()}
    frames, failed = with_cheap_labels(frames, cheap, max_failed)
    odd = [*_said([*(findings(frames, computed=True) if training and test else []), *failed])]
    names, origin = [labels.name for labels in cheap], provenance.of_computed(level)
    write_dataset(dataset_path, frames, atomic_energies(atoms), odd, names, origin)


def _trajectory_of(atoms: Atoms) -> str | None:
    """Return the trajectory that a sampled frame is of, or the frame itself where it is drawn without one.

    Of frames of a user's geometries nobody knows what they belong to.
    """
    name = str(atoms.info.get("frame"))
    if "part" not in atoms.info:
        return None
    return name if "-modes-" in name else name.rpartition("-")[0]


def _possible(pool: list[Atoms]) -> list[Atoms]:
    """Leave out what a labelling job would refuse, too: atoms on top of one another."""
    found = []
    for atoms in pool:
        problem = too_close(atoms)
        if problem is None:
            found.append(atoms)
        else:
            print(f"{atoms.info['frame']} of the pool is left out: {problem}")
    return found


def _with_weak_forces(frames: Mapping[str, Iterable[Atoms]], sources: dict[str, str]) -> dict[str, Iterable[Atoms]]:
    """Return the parts with forces of GFN2-xTB on those that have a source, which messages name."""
    from piwsl.reference.tight_binding import with_weak_forces

    return {**frames, **{part: with_weak_forces(frames[part], source) for part, source in sources.items()}}


def _said(odd: Iterable[Finding]) -> Iterator[Finding]:
    """Yield what is odd, and print it."""
    for found in odd:
        print(f"warning: {found.said}")
        yield found


def atomic_energies(files: list[Path]) -> dict[int, float]:
    """Read the energies of free atoms, eV by atomic number; atoms that failed are left out.

    Args:
        files: JSON, a record by chemical symbol.
    """
    records = [item for path in files for item in read_free_atoms(path).items()]
    return {atomic_numbers[symbol]: found.energy_eV for symbol, found in records if found.energy_eV is not None}


def import_given(
    dataset: GivenDataset,
    dataset_path: Path,
    part: str | None = None,
    cheap: Sequence[CheapLabels] = (),
    dropped_path: Path | None = None,
    split_path: Path | None = None,
) -> None:
    """Make a dataset file of the user's frames, and print what was taken from them.

    Args:
        dataset: the section that names the files.
        dataset_path: the file to write.
        part: write "training", "test" or "pool" alone; by default all, with what looks odd about them. Alone, training
            and pool are without labels of given levels.
        cheap: what further levels say of all frames.
        dropped_path: CSV to write, which frames were dropped and why (`piwsl.data.dropping.COLUMNS`).
        split_path: JSON to write, which frames are for training and test (`piwsl.records.StoredSplit`).

    Raises:
        PiwslError: a file cannot be read, a frame is no geometry, or has neither energy nor forces, and is not dropped
            for that; or as of `kept_of` and `with_cheap_labels`.
    """
    files = survey_files(dataset, checked=part is None)
    kept = kept_of(dataset, files) if part is None else kept_of(dataset, files, {part})
    _check_elements(kept.parts, dataset)
    for line in dict.fromkeys(summary(dataset, file) for file in files):
        print(line)
    if (said := left_out(dataset, kept.divided)) is not None:
        print(said)
    for found in kept.findings():
        print(found.said)
    # Wherever they stand in the file: what is held out are molecules.
    alone = files[0].free_atoms if part in (TRAINING, None) else {}
    given = () if part in WITHOUT_GIVEN_LEVELS else dataset.given_levels
    asked, levels = CheapLevels(cheap), (REFERENCE, WEAK, *(each.name for each in cheap), *given)
    positions = {name: array("q") for name in kept.parts}
    taken = _taken(kept.parts, part)
    watched, origin = _Watched(dataset, survey_of_parts(taken), part), provenance.of_given(dataset, taken, given)
    with parts_again(dataset, taken, dataset_path.parent) as frames:
        labelled = _with_weak_labels(watched.seeing(frames), dataset)
        structures = {
            name: (from_atoms(atoms, levels) for atoms in _noted(asked.labelled(name, each), positions[name]))
            for name, each in {**labelled, **_belonging(kept.parts[TRAINING].file, labelled)}.items()
        }
        of_levels = [] if part in WITHOUT_GIVEN_LEVELS else findings_of_levels(dataset, files)
        odd = _said(chain(of_levels, watched.doubts(), asked.left_out()))
        write_structures(dataset_path, structures, alone, chain(kept.findings(), odd), origin)
    if dropped_path is not None:
        write_dropped(dropped_path, kept.dropped)
    if split_path is not None:
        files_of = {name: kept.parts[name].file for name in (TRAINING, TEST)}
        written = {
            name: (source_of(dataset, file.path, file.stamp), positions[name]) for name, file in files_of.items()
        }
        write_split(split_path, written, held_out_groups(kept.divided))


def _belonging(file: GivenFile, frames: Mapping[str, Iterable[Atoms]]) -> dict[str, Iterable[Atoms]]:
    """Return the training frames with what they belong to, where that is known."""
    return {} if file.belonging is None or TRAINING not in frames else {TRAINING: _saying(file, frames[TRAINING])}


def _saying(file: GivenFile, frames: Iterable[Atoms]) -> Iterator[Atoms]:
    """Yield frames of a file that say in their info what they belong to."""
    assert file.belonging is not None
    for atoms in frames:
        atoms.info[GROUP_KEY] = file.belonging[atoms.info["frame"] // file.every]
        yield atoms


def _noted(frames: Iterable[Atoms], positions: array[int]) -> Iterator[Atoms]:
    """Yield frames, and note where in their file they stand."""
    for atoms in frames:
        positions.append(atoms.info["frame"])
        yield atoms


def _taken(divided: Mapping[str, Part[GivenFile]], part: str | None) -> dict[str, Part[GivenFile]]:
    return {name: found for name, found in divided.items() if part in (name, None)}


def _with_weak_labels(frames: Mapping[str, Iterable[Atoms]], dataset: GivenDataset) -> Mapping[str, Iterable[Atoms]]:
    if not dataset.computes_weak_forces:
        return frames
    sources = {TRAINING: str(dataset.file), POOL: str(dataset.pool_file)}
    return _with_weak_forces(frames, {name: file for name, file in sources.items() if name in frames})


class _Watched:
    """Frames of given files, as they pass a second time; the few that are doubted in full are kept.

    Of training or pool alone nothing is doubted, of the test alone its further levels: named test sets are made so.
    """

    def __init__(self, dataset: GivenDataset, parts: Parts, part: str | None) -> None:
        self._parts, self._labels, self._whole = parts, dataset.labels_of(dataset.file), part is None
        self._names = {} if part in WITHOUT_GIVEN_LEVELS else names_of_files(dataset)
        self._wanted = np.zeros(len(parts.survey), dtype=bool)
        self._wanted[asked_of_levels(parts, self._names)] = True
        if self._whole:
            self._wanted[asked_for(parts)] = True
        self._kept: dict[int, Atoms] = {}

    def seeing(self, frames: Mapping[str, Iterable[Atoms]]) -> dict[str, Iterable[Atoms]]:
        """Return the frames of the parts, which are looked at as they pass."""
        return {name: self._seen(self._parts.rows(name).start, each) for name, each in frames.items()}

    def _seen(self, first: int, frames: Iterable[Atoms]) -> Iterator[Atoms]:
        for row, atoms in enumerate(frames, first):
            if self._wanted[row]:
                self._kept[row] = atoms
            yield atoms

    def doubts(self) -> Iterator[Finding]:
        """Yield what looks odd, when all have passed."""
        frame_of = self._kept.__getitem__
        if self._whole:
            names = self._labels
            yield from doubts(self._parts, frame_of, names.energy_unit, names.forces_unit, names.stress_unit)
        yield from doubts_of_levels(self._parts, frame_of, self._names)


def _check_elements(divided: Mapping[str, Part[GivenFile]], dataset: GivenDataset) -> None:
    """Refuse test frames of which a model would know nothing; a check of the config has not read all of many frames."""
    trained, tested = (
        set(divided[part].file.survey.rows(divided[part].indices).elements()) for part in (TRAINING, TEST)
    )
    if unknown := sorted(chemical_symbols[number] for number in tested - trained):
        raise PiwslError(
            f"{dataset.file}: test frames hold {', '.join(unknown)}, which no training frame does; test on others"
        )


def write_geometries(dataset: GivenDataset, part: str, path: Path) -> None:
    """Write the geometries of a part of the user's frames, for what labels them.

    Args:
        dataset: the section that names the files.
        part: "training", "test" or "pool".
        path: extended XYZ to write.

    Raises:
        PiwslError: a file cannot be read, or a frame is no geometry, or has neither energy nor forces.
    """
    from piwsl.reference.store import rounded

    kept = kept_of(dataset, survey_files(dataset, checked=False))
    with parts_again(dataset, _taken(kept.parts, part), path.parent) as frames:
        write_frames(path, (rounded(without_labels(atoms)) for atoms in frames.get(part, ())))
