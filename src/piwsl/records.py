"""What jobs leave for others to read, typed: labelled frames, free atoms, errors of a model, its simulation.

Keys that a reader does not know are passed over (of errors, kept as columns); what an earlier version did not write has
a default; a file that is none of these is refused in one line. Imports nothing of ours but files and errors.
"""

from __future__ import annotations

import csv
from pathlib import Path, PurePath
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from piwsl.errors import PiwslError
from piwsl.files import read_json, read_json_lines


class Record(BaseModel):
    """A record of a job."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Finding(Record):
    """What was found among the frames of a dataset when its file was made, and what was done about it."""

    said: str
    """One line."""
    kind: str = ""
    """As `datasets.<name>.drop` calls it where it may be left out; else unit, placeholders, not_finite,
    compositions, cheap_levels, given_levels."""
    level: str = ""
    """The further level whose labels it is about; "" where it is those that are learned, or the frames."""
    frames: int | None = None
    """How many; None where it is the data as a whole."""
    which: str = ""
    """The first of them by their files, as positions there."""
    done: Literal["kept", "left out", "label left out", "dropped"] = "kept"
    """Dropped is what the config says, left out what cannot be used whatever it says, a frame or a label of it."""


class FileOfFrames(Record):
    """A file of a user's frames."""

    file: str
    sha256: str
    """Of its content."""
    format: str
    """Name of the reader that counts its frames."""


class ReadFile(FileOfFrames):
    """A file that frames of a dataset were read from."""

    parts: list[str]
    """Which of training, test and pool."""
    labels: dict[str, dict[str, str]]
    """By level the names of its labels there, and the units that they were converted from (as in
    `piwsl.readers.LabelNames`); "reference" is the one that is learned."""


class Provenance(Record):
    """Where the frames of a dataset file come from."""

    catalogue: str | None = None
    """Name of the published set, where it is one."""
    level: str | None = None
    """Of theory, in words; as the config said when the file was made."""
    files: list[ReadFile] = []
    """None of frames that are labelled here."""
    versions: dict[str, str] = {}


class FramesOfFile(FileOfFrames):
    """Some frames of a file."""

    positions: list[int]
    """From 0, in order."""


class StoredSplit(Record):
    """Which frames a dataset has for training and for the test."""

    training: FramesOfFile
    test: FramesOfFile
    held_out: list[str | int] = []
    """The groups that frames are tested of and none is trained on, where whole groups are held out."""


class Convergence(Record):
    """How an SCF converged."""

    converged_by: str | None = None
    """None of a program that does not say."""


class Labelling(Record):
    """How the labelling of a frame went; a free atom is a frame, too."""

    status: Literal["ok", "failed"]
    frame: str | None = None
    geometry: str | None = None
    """Hash of it; None of what is no geometry."""
    step: str | None = None
    """Of a failure."""
    reason: str | None = None
    energy_eV: float | None = None
    cpu_s: float | None = None
    """Of its energy, when that was computed."""
    stored: bool = False
    """Whether its energy was in the label store already."""
    stored_cpu_s: float | None = None
    """Of the energies that were, those of displaced geometries included."""
    t1_diagnostic: float | None = None
    frozen_orbitals: int | None = None
    forces: str | None = None
    """How they were computed, or "slope" of frames with the slope along one direction; None of energies alone."""
    scf: dict[str, Convergence] = {}
    doubt: str | None = None
    """Why the energy may mean little."""


class Round(Record):
    """The frames of one round of an acquisition: which of the candidates they are, and why."""

    dataset: str
    round: int
    """The start is 0."""
    by: str
    """variance, disagreement or random."""
    learned: int | None = None
    """From how many frames the model had learned that was asked; None where chance chose."""
    candidates: int
    """That were left."""
    unit: str | None = None
    """Of how unsure the model was of them before the round: of their energy, eV, or of the force on an atom, eV/Å."""
    spread_median: float | None = None
    spread_largest: float | None = None
    bought: list[int]
    """Positions among all candidates, from the one that was wanted most."""
    reserve: list[int] = []
    """Those that come next, for when some fail."""
    failed: dict[int, str] = {}
    """Why those failed in whose place others were bought."""

    @property
    def tried(self) -> set[int]:
        """Those that need not be looked at again."""
        return {*self.bought, *self.failed}


class OfRun(BaseModel):
    """What a job found about a run; measures beyond those named here are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)

    dataset: str
    model: str
    loss: str
    size: int
    seed: int


class Errors(OfRun):
    """Errors of a model on the test frames: meV a structure, meV/Å a component; None where nothing is labelled."""

    energy_mae_meV: float | None = None
    energy_constant_meV: float | None = None
    force_mae_meV_per_A: float | None = None
    slope_mae_meV_per_A: float | None = None
    force_rmse_from_slopes_meV_per_A: float | None = None
    """An estimate, of frames without whole forces; the next is its standard error."""
    force_rmse_from_slopes_error_meV_per_A: float | None = None
    stress_mae_meV_per_A3: float | None = None
    pair_potential: bool = False
    references: str | None = None
    """What the atomic references of the model come from, in words; None of a model file that does not say it."""
    baseline_scale: float | None = None
    """What the model multiplies its baseline by, where it has one."""
    in_closed_form: bool = False
    """Whether the model is the same of all seeds that learn the same frames; not said by earlier versions."""


class LearnedFrames(Record):
    """Which of the training frames a model learned from, as indices into its dataset file."""

    training: list[int]


class HeldOutErrors(Record):
    """Root mean square errors of the members of a committee on frames that each did not learn from; None without."""

    frames: int
    energy_rmse: float | None = None
    """eV, of structures."""
    forces_rmse: float | None = None
    """eV/Å, of components."""


class SurvivalPoint(Record):
    """Which share of replicas is stable from one time on, until the next; a 95 % interval, for more replicas
    of the same model.
    """

    time: float
    """ps."""
    at_risk: int
    survival: float
    low: float
    high: float


class Drift(Record):
    """Of the total energy, meV/atom/ps: mean and standard deviation over replicas, and the largest of them."""

    mean: float | None = None
    deviation: float | None = None
    largest: float | None = None


class EnergiesAt(Record):
    """Means over the second half of a simulation, of one kind of molecule at one temperature."""

    formula: str
    temperature_K: float
    replicas: int
    kinetic_K: float | None = None
    kinetic_K_by_element: dict[str, float] = {}
    potential_eV: float | None = None
    potential_error_eV: float | None = None


class BondLengths(Record):
    """Of one kind of bond, beside those of the reference frames; the error as of `Distances`."""

    bond: str
    mean_A: float
    deviation_A: float
    reference_mean_A: float
    reference_deviation_A: float
    error: float


class Distances(Record):
    """Distribution h(r) of all distances of one kind of molecule, beside that of the reference frames."""

    formula: str
    error: float
    """Integral of the difference of both: from 0 to 2."""
    r_A: list[float]
    density_per_A: list[float]
    reference_per_A: list[float]
    bonds: list[BondLengths] = []


class Spectrum(Record):
    """Vibrational, of velocities; its largest value is 1."""

    wavenumber_per_cm: list[float]
    intensity: list[float]


class ReplicaOutcome(Record):
    """How one replica went."""

    frame: int
    temperature_K: float
    replica: int
    stable_ps: float
    failed: bool
    reason: str | None = None


class Stability(OfRun):
    """How a simulation went: of all its replicas."""

    simulation: str = "simulation"
    stable_ps: float
    """Mean over replicas, each cut off at `time_ps`."""
    time_ps: float
    ended: str
    mean_temperature_K: float | None
    """None of several baths, and where no replica was stable for long enough to tell."""
    mean_temperatures_K: list[float | None] = []
    """Of each bath of `temperatures_K`, None as above."""
    ensemble: str = "nvt"
    temperatures_K: list[float] = []
    replicas: int = 1
    failed: int | None = None
    """None in records of one replica, which say it in `ended`."""
    stability: str = ""
    """In words."""
    largest_bond_change_A: float | None = None
    reactive_bonds: list[str] = []
    steps_per_second: float | None = None
    survival: list[SurvivalPoint] = []
    outcomes: list[ReplicaOutcome] = []
    energies: list[EnergiesAt] = []
    capacity_over_harmonic: dict[str, float] = {}
    distances: list[Distances] = []
    drift_meV_per_atom_per_ps: Drift | None = None
    spectrum: Spectrum | None = None
    settings: dict[str, Any] | None = None
    """Of the config, defaults included; None in records of before."""


class StationaryPoint(Record):
    """A minimum of a molecule on a surface, and its harmonic vibrations; or why there is none."""

    surface: str
    """Name of a model or level."""
    molecule: str
    """Its formula."""
    start: int
    """Position of the frame that was relaxed among those of the file."""
    positions_A: list[list[float]] = []
    """(N, 3), of the minimum."""
    frequencies_per_cm: list[float] = []
    """Ascending; imaginary ones are negative."""
    problem: str | None = None


class Frequencies(OfRun):
    """Minima and vibrations of a run's model."""

    points: list[StationaryPoint]
    """A molecule each."""


class FrequenciesOfLevels(Record):
    """Those of the cheap levels of a dataset."""

    dataset: str
    points: list[StationaryPoint]
    """By molecule, then by level."""


class Benchmark(Record):
    """What a job took, the last time that it ran; of one that was stopped and went on, all its pieces."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __add__(self, other: Benchmark) -> Benchmark:
        return Benchmark(wall_s=self.wall_s + other.wall_s, cpu_s=self.cpu_s + other.cpu_s)


RecordType = TypeVar("RecordType", bound=BaseModel)


def _validated(kind: type[RecordType], found: Any, where: str) -> RecordType:
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        raise PiwslError(f"{where}: {key}: {first['msg'].lower()}; delete the file, and it is made again") from None


def read_record(kind: type[RecordType], path: Path) -> RecordType:
    """Read a file of one record.

    Raises:
        PiwslError: it is no such record; names file and key.
    """
    return _validated(kind, _parsed(path, read_json), str(path))


def read_labellings(path: Path) -> list[Labelling]:
    """Read the records of a labelling job, one a line.

    Raises:
        PiwslError: a line is no such record; names file, line and key.
    """
    lines = enumerate(_parsed(path, read_json_lines), 1)
    return [_validated(Labelling, line, f"{path}: line {number}") for number, line in lines]


def read_displaced(path: Path) -> list[Labelling]:
    """Read what jobs of displaced energies left beside the records of a labelling job; most have none.

    Raises:
        PiwslError: as of `read_labellings`.
    """
    return [
        labelling for share in sorted(path.with_suffix(".displaced").glob("*")) for labelling in read_labellings(share)
    ]


# How often Snakemake reads the CPU time of a job, so many readings long and from then on, in seconds.
OFTEN, READINGS, SELDOM = 0.5, 30, 30.0


def earlier_pieces(benchmark: Path) -> Path:
    """Return where a job that was stopped and went on leaves what its pieces before the last took, as `Benchmark`."""
    return benchmark.with_suffix(".earlier.json")


def read_benchmark(path: Path) -> Benchmark | None:
    """Read what a job took; None where that cannot be read, as while it is written.

    Snakemake measured its last piece, and what earlier ones took lies beside (`earlier_pieces`). A piece is taken to
    have been as busy after the last reading of its CPU time as before: of half a minute of work, half may lie after it.
    """
    earlier = earlier_pieces(path)
    try:
        before = Benchmark.model_validate(read_json(earlier)) if earlier.exists() else Benchmark()
        with path.open(encoding="utf-8", newline="") as file:
            *_, last = csv.DictReader(file, delimiter="\t")
        wall_s, read = float(last["s"]), last["cpu_time"]
        after = _last_reading(wall_s)
        # What ended before the first reading has none.
        busy = float(read) / after if after and read != "NA" else 1.0
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return before + Benchmark(wall_s=wall_s, cpu_s=busy * wall_s)


def _last_reading(wall_s: float) -> float:
    """Return how many seconds after its start the CPU time of a job was read last."""
    often = OFTEN * READINGS
    return wall_s // OFTEN * OFTEN if wall_s < often else often + (wall_s - often) // SELDOM * SELDOM


def read_free_atoms(path: Path) -> dict[str, Labelling]:
    """Read the records of free atoms, by chemical symbol.

    Raises:
        PiwslError: one is no such record; names file, symbol and key.
    """
    found = _parsed(path, read_json)
    if not isinstance(found, dict):
        raise PiwslError(f"{path}: holds no atoms by symbol; delete the file, and it is made again")
    return {symbol: _validated(Labelling, record, f"{path}: {symbol}") for symbol, record in found.items()}


def _parsed(path: Path, read: Any) -> Any:
    try:
        return read(path)
    except ValueError:
        raise PiwslError(f"{path}: is damaged or no JSON; delete the file, and it is made again") from None


def dataset_of(path: PurePath) -> str:
    """Return the name of the dataset that a file belongs to: the folder below the last one called `datasets`."""
    parts = path.parts
    return parts[len(parts) - parts[::-1].index("datasets")]


def cheap_level_of(path: PurePath) -> str:
    """Return the name of the cheap level of a labelling job's file, .../<level>/<part>/<work>/<file>."""
    return path.parts[-4]
