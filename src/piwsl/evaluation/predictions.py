"""The Parquet file of predictions: a row a test frame, labels beside what a model said of them. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.symbols import Symbols
from numpy.typing import NDArray

from piwsl.errors import PiwslError
from piwsl.extras import naming_extras
from piwsl.files import write_atomically
from piwsl.structures.structure import Structure

if TYPE_CHECKING:
    import pyarrow as pa

Array = NDArray[np.float64]
# Column to unit; forces are lists of 3N components, x, y, z of the first atom first.
ENERGIES = {"energy_label": "eV", "energy_predicted": "eV", "energy_std": "eV"}
FORCES = {"forces_label": "eV/Å", "forces_predicted": "eV/Å", "forces_std": "eV/Å"}
# Of the energy along one direction of a frame, which the test set has.
SLOPES = {"slope_label": "eV/Å", "slope_predicted": "eV/Å"}
TEMPERATURE = {"temperature_K": "K"}
ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Predictions:
    """Energies, forces and stress in the order of the structures."""

    energy: NDArray[np.float64]
    """(M,), eV."""
    forces: list[NDArray[np.float64]]
    """M arrays (N, 3), eV/Å."""
    stress: NDArray[np.float64]
    """(M, 3, 3), eV/Å³; NaN of structures that are not periodic in three directions, and of models without."""
    energy_std: NDArray[np.float64] | None = None
    """(M,), eV, the spread of a committee or the standard deviation of a Gaussian process; None of other models."""
    forces_std: list[NDArray[np.float64]] | None = None
    """M arrays (N, 3), eV/Å, of a committee."""


@dataclass(frozen=True)
class Compared:
    """What was predicted of one quantity, in a row: (M,) energies, eV, slopes or (C,) components of forces, eV/Å."""

    label: Array
    predicted: Array
    std: Array | None
    """None of models that do not know how uncertain they are."""

    def __len__(self) -> int:
        return len(self.label)


def energies_of(structures: Sequence[Structure], predictions: Predictions) -> Compared:
    """Return labels, predictions and, where it is known, spread of the energies of labelled frames."""
    places, labelled = with_energy(structures)
    label, spread = np.array([structure.energy for structure in labelled]), predictions.energy_std
    return Compared(label, predictions.energy[places], None if spread is None else spread[places])


def with_energy(structures: Sequence[Structure]) -> tuple[NDArray[np.int64], list[Structure]]:
    """Return the structures whose energy is labelled, and their places."""
    places = [place for place, structure in enumerate(structures) if not np.isnan(structure.energy)]
    return np.array(places, dtype=np.int64), [structures[place] for place in places]


def force_components_of(structures: Sequence[Structure], predictions: Predictions) -> Compared:
    """Return labels, predictions and, where it is known, spread of the forces of labelled frames."""
    labelled = [position for position, structure in enumerate(structures) if structure.forces is not None]
    label = in_a_row([np.asarray(structures[position].forces) for position in labelled])
    predicted = in_a_row([predictions.forces[position] for position in labelled])
    spread = predictions.forces_std
    return Compared(label, predicted, None if spread is None else in_a_row([spread[p] for p in labelled]))


def slopes_of(structures: Sequence[Structure], predictions: Predictions) -> Compared:
    """Return labels and predictions of the slopes of frames that have some."""
    pairs = [
        (structure.slope, forces)
        for structure, forces in zip(structures, predictions.forces, strict=True)
        if structure.slope is not None
    ]
    label = np.array([slope.value for slope, _ in pairs])
    return Compared(label, np.array([slope.of(forces) for slope, forces in pairs]), None)


def in_a_row(arrays: Sequence[Array]) -> Array:
    """Return the elements of all arrays, one after the other."""
    return np.concatenate([np.ravel(array) for array in arrays]) if len(arrays) else np.empty(0)


def write_predictions(path: Path, parts: Iterable[tuple[Sequence[Structure], Predictions]]) -> None:
    """Write labels and predictions as Parquet, atomically; each column says its unit in its metadata.

    Columns: frame (its index in the test part), formula, n_atoms, atomic_numbers, temperature_K (null where nobody said
    at which temperature the frame was sampled), coordinate (Å, ° or of a vibration √(ħ/ω); null of what is on no scan),
    energy_label, energy_predicted, energy_std (eV), forces_label,
    forces_predicted, forces_std (eV/Å, lists of 3N), slope_label, slope_predicted (eV/Å, of the energy along one
    direction). What is not labelled, or not known to the model, is null.

    Args:
        path: to write.
        parts: frames of the test part, in its order, and what was predicted of them; some at a time, gone through once.
    """
    with naming_extras():
        import pyarrow.parquet as pq

    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, _schema()) as writer:
            for table in _tables(parts):
                writer.write_table(table)

    write_atomically(path, write)


def _tables(parts: Iterable[tuple[Sequence[Structure], Predictions]]) -> Iterator[pa.Table]:
    """Yield all rows, so many in a table that their number costs nothing."""
    import pyarrow as pa

    waiting, rows, first = [_schema().empty_table()], 0, 0
    for structures, predictions in parts:
        waiting.append(_rows(structures, predictions, first))
        rows, first = rows + len(structures), first + len(structures)
        if rows >= ROWS_AT_ONCE:
            yield pa.concat_tables(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def _rows(structures: Sequence[Structure], predictions: Predictions, first: int) -> pa.Table:
    """Return labels and predictions as rows, of which the first frame has such an index."""
    import pyarrow as pa

    spreads: Sequence[Array | None] = predictions.forces_std or [None] * len(structures)
    columns: dict[str, list[Any]] = {
        "frame": list(range(first, first + len(structures))),
        "formula": [Symbols(structure.numbers).get_chemical_formula() for structure in structures],
        "n_atoms": [len(structure.numbers) for structure in structures],
        "atomic_numbers": [structure.numbers for structure in structures],
        "temperature_K": [_known(structure.temperature) for structure in structures],
        "coordinate": [_known(structure.coordinate) for structure in structures],
        "energy_label": [_known(structure.energy) for structure in structures],
        "energy_predicted": predictions.energy.tolist(),
        "energy_std": [None] * len(structures) if predictions.energy_std is None else predictions.energy_std.tolist(),
        "forces_label": [_flat(structure.forces) for structure in structures],
        "forces_predicted": [_flat(forces) for forces in predictions.forces],
        "forces_std": [_flat(spread) for spread in spreads],
        "slope_label": [structure.slope and structure.slope.value for structure in structures],
        "slope_predicted": [
            structure.slope and structure.slope.of(forces)
            for structure, forces in zip(structures, predictions.forces, strict=True)
        ],
    }
    return pa.table(columns, schema=_schema())


def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds = {
        "frame": pa.int64(),
        "formula": pa.string(),
        "n_atoms": pa.int64(),
        "atomic_numbers": pa.list_(pa.int64()),
        **dict.fromkeys([*TEMPERATURE, "coordinate", *ENERGIES], pa.float64()),
        **dict.fromkeys(FORCES, pa.list_(pa.float64())),
        **dict.fromkeys(SLOPES, pa.float64()),
    }
    units = TEMPERATURE | ENERGIES | FORCES | SLOPES
    return pa.schema(
        [
            pa.field(name, kind, metadata={"unit": units[name]} if name in units else None)
            for name, kind in kinds.items()
        ]
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _flat(array: Array | None) -> Array | None:
    return None if array is None else np.ravel(array)


def read_predictions(path: Path) -> dict[str, Compared]:
    """Read what `write_predictions` wrote, in a row.

    Args:
        path: Parquet.

    Returns:
        `energy`, of all frames, with NaN for labels that are not there, `force`, of frames with labelled forces, and
        `slope`, of those with one; there may be none of the last two.

    Raises:
        PiwslError: the file is missing, damaged, or lacks a column.
    """
    with _readable(path) as parquet:
        slopes = [name for name in SLOPES if name in parquet.read_schema(path).names]  # of earlier versions none
        table = parquet.read_table(path, columns=[*ENERGIES, *FORCES, *slopes])
        energies = [_column(table, name) for name in ENERGIES]
        labelled = table.filter(table["forces_label"].is_valid())
        components = [_column(labelled, name) for name in FORCES]
        sloping = table.filter(table["slope_label"].is_valid()) if slopes else table
        of_slopes = [_column(sloping, name) for name in slopes]
    return {"energy": _compared(*energies), "force": _compared(*components), "slope": _compared(*of_slopes)}


def read_formulas(path: Path) -> list[str]:
    """Read the composition of each frame in a file of predictions, as ASE's formula.

    Raises:
        PiwslError: the file is missing, damaged, or lacks the column.
    """
    with _readable(path) as parquet:
        formulas: list[str] = parquet.read_table(path, columns=["formula"])["formula"].to_pylist()
    return formulas


@contextmanager
def _readable(path: Path) -> Iterator[ModuleType]:
    """Give what reads Parquet; say of a file that it cannot read what it is."""
    with naming_extras():
        import pyarrow as pa
        import pyarrow.parquet as pq

    try:
        yield pq
    except (pa.ArrowException, KeyError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:80]
        raise PiwslError(f"{path}: is no file of predictions ({reason}); delete it, and it is made again") from None


def _column(table: pa.Table, name: str) -> Array | None:
    """Return the numbers of a column, of lists one after the other; None where all is null."""
    column = table[name].combine_chunks()
    if len(column) and column.null_count == len(column):
        return None
    numbers = column.flatten() if name in FORCES else column
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)


def _compared(label: Array | None = None, predicted: Array | None = None, std: Array | None = None) -> Compared:
    empty = np.empty(0)
    return Compared(empty if label is None else label, empty if predicted is None else predicted, std)
