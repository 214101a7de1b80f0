"""Where labelled frames come from: a molecule or geometries that are labelled here, or frames that others labelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from os.path import abspath
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from piwsl import catalogue
from piwsl.config.acquisition import Acquisition
from piwsl.config.budget import Budget, may_be_divided
from piwsl.config.labels import (
    LABELS,
    EnergyKey,
    EnergyUnitOrNone,
    ForcesKey,
    ForcesUnitOrNone,
    Format,
    GivenLevel,
    StressKey,
    StressUnitOrNone,
)
from piwsl.config.section import (
    Charge,
    Femtoseconds,
    Friction,
    InputFile,
    Kelvin,
    Megabytes,
    Minutes,
    Multiplicity,
    Name,
    Section,
    Seed,
    renamed,
)
from piwsl.config.split import Groups, Split
from piwsl.config.test_sets import (
    MAX_TRAJECTORIES,
    MOST_TESTS,
    TESTS,
    ComputedTest,
    Frames,
    GivenTest,
    distinct,
)
from piwsl.errors import PiwslError
from piwsl.readers import READERS, LabelNames, format_of
from piwsl.structures.labels import RESERVED, label_key

# GFN2-xTB takes a millisecond a step for a small molecule: half a day.
MOST_STEPS = 5e7
# Farthest points are chosen this many at a time, each time among fresh candidates, so that more frames begin with
# the fewer.
ROUND = 32


Fault = Literal[
    "unlabelled", "overlaps", "close_atoms", "energy_outliers", "force_outliers", "net_forces", "duplicates"
]
# Of these a frame is one by the frames beside it, in all parts.
BESIDE_OTHERS = ("energy_outliers", "force_outliers", "duplicates")

# Of a tenth of fewer nothing is left for validation.
FEWEST_OF_A_SIZE = 10


class Molecule(Section):
    """The system to sample and label."""

    name: str | None = Field(
        None, max_length=60, description="A molecule of ASE's G2 collection, such as H2O, NH3, CH3OH."
    )
    file: InputFile | None = Field(None, description="A file that ASE reads (xyz, ...), in place of name.")
    smiles: str | None = Field(
        None, max_length=500, description="A SMILES string, in place of name; RDKit makes the geometry."
    )
    charge: Charge = Field(0, description="Total charge in e.")
    multiplicity: Multiplicity = Field(1, description="2S + 1.")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(origin is not None for origin in (self.name, self.file, self.smiles)) != 1:
            raise ValueError("give one of 'name' (a molecule ASE knows), 'file' (a geometry), 'smiles'")
        return self


class Geometries(Section):
    """Geometries of the user's, without labels: a trajectory, a collection. Blocks or files are for the test."""

    file: InputFile = Field(description="Any file of several frames that ASE reads.")
    test_file: InputFile | None = Field(
        None, description="Geometries that test frames are drawn from; else blocks of file are kept for them."
    )
    pool_file: InputFile | None = Field(
        None, description="Geometries that frames of the pool are drawn from; else those of file that are left."
    )
    charge: Charge = Field(0, description="Total charge in e, of frames whose info does not say `charge`.")
    multiplicity: Multiplicity = Field(1, description="2S + 1, of frames whose info does not say `multiplicity`.")
    blocks: int = Field(
        10, ge=2, le=10_000, description="Contiguous parts of the file; each is for training or for test."
    )
    test_fraction: float = Field(0.2, gt=0, lt=1, description="Share of the blocks that test frames are taken from.")
    seed: Seed = Field(0, description="Chooses blocks, and the order that frames are taken in.")

    @property
    def files(self) -> dict[str, Path]:
        """All files, by their keys."""
        files = {"file": self.file, "test_file": self.test_file, "pool_file": self.pool_file}
        return {key: path for key, path in files.items() if path is not None}

    @property
    def labelled_files(self) -> list[Path]:
        """Those whose frames get labels of the level: all but that of the pool."""
        return [path for key, path in self.files.items() if key != "pool_file"]

    def file_of(self, part: str) -> Path:
        """Return the file that frames of a part are taken from."""
        return self.files.get(f"{part}_file", self.file)

    def of_part(self, part: str) -> Geometries:
        """Return the section as one part sees it, which is made anew where that changes.

        Keys of other files that tell that its own is not cut for them name its own: what those are called is none of
        its business.
        """
        own = self.file_of(part)
        whole = own != self.file or self.test_file is not None
        shares = part == "test" or self.pool_file is None
        said = {key: value for key, value in self if key in self.model_fields_set}
        uncut = {key: value for key, value in said.items() if not (whole and key in ("blocks", "test_fraction"))}
        files = {"file": own, "test_file": own if whole else None, "pool_file": None if shares else own}
        return Geometries.model_validate({**uncut, **files})

    @model_validator(mode="after")
    def _cut_or_given(self) -> Self:
        for key in ("blocks", "test_fraction"):
            if self.test_file is not None and key in self.model_fields_set:
                raise ValueError(f"{key}: test frames are those of test_file; leave one of the two out")
        return self


class Sampling(Section):
    """Langevin dynamics on GFN2-xTB and displacements along its normal modes; training and test are independent."""

    temperatures: list[Kelvin] = Field([], max_length=MAX_TRAJECTORIES, description="K; a trajectory each.")
    normal_modes: list[Kelvin] = Field(
        [],
        max_length=MAX_TRAJECTORIES,
        description="K; thermal displacements along the normal modes of the GFN2-xTB minimum.",
    )
    timestep: Femtoseconds = Field(0.5, description="fs.")
    friction: Friction = Field(0.01, description="1/fs.")
    stride: int = Field(200, ge=1, le=1_000_000, description="Steps between two frames that are kept.")
    equilibration: int = Field(2000, ge=0, le=10_000_000, description="Steps before the first frame.")
    seed: Seed = Field(0, description="Of velocities, noise and displacements.")

    @field_validator("temperatures", "normal_modes")
    @classmethod
    def _distinct(cls, temperatures: list[float]) -> list[float]:
        return distinct(temperatures)

    @model_validator(mode="after")
    def _any(self) -> Self:
        if not self.temperatures and not self.normal_modes:
            raise ValueError("name temperatures (of dynamics) or normal_modes (temperatures of displacements), in K")
        return self


ACQUISITION = "Label only training frames that chance and then, in rounds, a model chooses. Default: all are labelled."
ACQUISITION_OF_LABELS = (
    "Learn only from training frames that chance and then, in rounds, a model chooses, which sees no label of the "
    "others: what it would have bought. Default: sizes draw from all."
)
GFN2 = "gfn2-xtb"
WeakLevel = Literal["gfn2-xtb"]
WEAK_FORCES = "A cheap level whose forces frames of training and pool get, for the loss weak_forces. Default: none."


class Labelling(Section):
    """How reference calculations are cut into jobs, and how many may fail."""

    frames_per_job: Frames | None = Field(
        None, description="Frames of one job; default: as many as are estimated to take 20 minutes."
    )
    mem_mb: Megabytes | None = Field(
        None, description="Memory of one job in MB; default: by estimate. Grows with the attempt."
    )
    runtime: Minutes | None = Field(
        None, description="Time limit of one job in minutes; default: by estimate. Grows with the attempt."
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=256,
        description="Cores of one job, all for one molecule at a time; default: one, and more where an energy is "
        "estimated to take hours.",
    )
    max_failed: float = Field(0.1, ge=0, le=1, description="Share of failed frames that stops the experiment.")


class ComputedDataset(Section):
    """A molecule, or geometries of the user's, that are labelled here."""

    OLD_KEYS = {"isolated_atoms": "free_atoms"}  # noqa: RUF012 (pydantic's fields have annotations, this has none)
    # Numbers of frames may be left to a budget.
    model_config = ConfigDict(json_schema_extra=may_be_divided)

    molecule: Molecule | None = None
    geometries: Geometries | None = None
    sampling: Sampling | None = Field(None, description="How geometries of the molecule are made.")
    selection: Annotated[
        Literal["in_turn", "farthest_point"],
        renamed({"in turn": "in_turn", "farthest point": "farthest_point"}),
    ] = Field(
        "in_turn",
        description="How training frames are chosen: from the trajectories in turn, or each the one among several "
        "candidates that is least like those chosen before. Test frames are always taken in turn.",
    )
    candidates: int = Field(4, ge=1, le=1000, description="For farthest_point: frames to choose one from.")
    level: Name = Field(description="A name under levels, or a preset.")
    budget: Budget | None = Field(
        None, description="CPU hours that decide all numbers of frames which are left out. Default: all are said."
    )
    training_frames: Frames = Field(
        description="Frames that the sizes draw from; with an acquisition, those that it chooses from."
    )
    test_frames: Frames = Field(description="Frames kept for testing, from trajectories or blocks of their own.")
    pool_frames: Frames | None = Field(
        None,
        description="Frames without labels, for losses with a pool; from trajectories of their own. Default: none.",
    )
    training_forces: bool = Field(False, description="Whether the training frames get forces, too.")
    test_force_frames: int = Field(0, ge=0, le=100_000, description="Test frames that also get forces of the level.")
    test_slope_frames: int = Field(
        0,
        ge=0,
        le=100_000,
        description="Test frames, after those with forces, that get the slope of the energy along one random direction "
        "of each, by differences: four energies a frame, from which the error of forces is estimated.",
    )
    forces_by: Literal["analytic", "differences"] | None = Field(
        None,
        description="Analytic gradients or central differences of the energy. Default: analytic where every part of "
        "the level has them, else differences.",
    )
    free_atoms: bool = Field(True, description="Compute the energies of the free atoms at the level, too.")
    weak_forces: WeakLevel | None = Field(None, description=WEAK_FORCES)
    cheap_levels: list[Name] = Field(
        [],
        max_length=10,
        description="Names under levels, or gfn2-xtb, whose energies and forces all frames get beside their labels: "
        "what costs nothing, for the report, and baselines of models.",
    )
    labelling: Labelling = Labelling()
    acquisition: Acquisition | None = Field(None, description=ACQUISITION)
    tests: dict[Name, ComputedTest] = Field({}, max_length=MOST_TESTS, description=TESTS)

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.molecule is None) == (self.geometries is None):
            raise ValueError("give either 'molecule' (to sample) or 'geometries' (a file of them)")
        if self.molecule is not None and self.sampling is None:
            raise ValueError("sampling: this key is missing; say at which temperatures the molecule is sampled")
        if self.geometries is not None and self.sampling is not None:
            raise ValueError("sampling: given geometries are not sampled; leave it out")
        return self

    @property
    def has_pool(self) -> bool:
        """Whether there are frames without labels."""
        return self.pool_frames is not None

    @property
    def further_levels(self) -> list[str]:
        """Names of the levels whose labels frames have beside those that are learned."""
        return self.cheap_levels

    @property
    def halved_sizes(self) -> list[int]:
        """All frames that are labelled to be learned from, and three times half as many, the fewest first.

        Of an acquisition those after the rounds that come next; never fewer than ten, where there are so many.
        """
        rounds = self.acquisition
        every = self.training_frames if rounds is None else rounds.frames
        wanted = [every // part for part in (8, 4, 2) if every // part >= FEWEST_OF_A_SIZE]
        if rounds is not None:
            wanted = [size for least in wanted if (size := rounds.size_within(least)) is not None]
        return [*dict.fromkeys(wanted), *([] if every in wanted else [every])]

    @model_validator(mode="after")
    def _frames_are_enough(self) -> Self:
        if self.acquisition is not None and self.acquisition.frames > self.training_frames:
            raise ValueError(
                f"acquisition: start and rounds take {self.acquisition.frames} frames, and there are "
                f"{self.training_frames} training_frames to choose from; ask for fewer, or raise training_frames"
            )
        return self

    @model_validator(mode="after")
    def _dynamics_end(self) -> Self:
        if self.sampling is None:
            return self
        frames = [test.frames or 0 for test in self.tests.values() if test.temperatures]
        if self.sampling.temperatures:
            training = self.training_frames
            if self.selection == "farthest_point":
                training = -(-training // ROUND) * ROUND * self.candidates
            frames += [training, self.test_frames, self.pool_frames or 0]
        steps = self.sampling.stride * max(frames, default=0)
        if steps > MOST_STEPS:
            raise ValueError(f"sampling.stride: {steps:.0e} steps of dynamics for all frames; 5e7 at most")
        return self

    @model_validator(mode="after")
    def _tests_are_of_a_molecule(self) -> Self:
        for name, test in self.tests.items():
            if self.molecule is None and test.file is None:
                raise ValueError(f"tests.{name}: the dataset has no molecule to sample or to scan; give a 'file'")
        return self

    def geometries_of(self, test: ComputedTest) -> Geometries | None:
        """Return the geometries of a test set that has a file of them; they are charged as the dataset's."""
        start = self.molecule or self.geometries
        if test.file is None or start is None:
            return None
        return Geometries(file=test.file, charge=start.charge, multiplicity=start.multiplicity)

    def test_is_like_validation(self, by: Literal["frame", "group"]) -> bool:
        """Whether test frames come as those do that models validate on, by frame or group: so far as a config tells."""
        at_random = self.selection == "in_turn" and (self.acquisition is None or self.acquisition.by_chance)
        return by == "frame" and at_random and self.sampling is not None

    @property
    def groups_problem(self) -> str | None:
        """Say why training frames are not of several groups, and what to do; None where they are."""
        if self.sampling is None:
            return "geometries of a file say none; give the labelled frames as a dataset with file and groups"
        if len(self.sampling.temperatures) == 1 and not self.sampling.normal_modes:
            return "its frames are of one trajectory; sample at several temperatures"
        return None

    def tested_on(self, name: str, frames: int) -> ComputedDataset:
        """Return a named test set as a dataset without any frames but those for the test.

        Args:
            name: of the test set.
            frames: how many it has.
        """
        test = self.tests[name]
        sampling = {"temperatures": test.temperatures, "normal_modes": test.normal_modes}
        return self.model_copy(
            update={
                "molecule": self.molecule if test.file is None else None,
                "geometries": self.geometries_of(test),
                "sampling": self.sampling.model_copy(update=sampling) if self.sampling and test.sampled else None,
                "selection": "in_turn",
                "training_frames": 0,
                "training_forces": False,
                "test_frames": frames,
                "test_force_frames": test.force_frames,
                "test_slope_frames": test.slope_frames,
                "pool_frames": None,
                "free_atoms": False,
                "weak_forces": None,
                "acquisition": None,
                "tests": {},
            }
        )

    @model_validator(mode="after")
    def _test_forces_are_of_test_frames(self) -> Self:
        if self.test_force_frames > self.test_frames:
            raise ValueError(
                f"test_force_frames: {self.test_force_frames} is more than test_frames ({self.test_frames})"
            )
        if self.test_force_frames + self.test_slope_frames > self.test_frames:
            raise ValueError(
                f"test_slope_frames: {self.test_slope_frames} is more than test_frames without forces "
                f"({self.test_frames} - {self.test_force_frames})"
            )
        return self


def _may_be_published(schema: dict[str, Any]) -> None:
    """Let the JSON schema of a section do without what the catalogue says."""
    schema["required"] = [key for key in schema.get("required", []) if key != "file"]


class GivenDataset(Section):
    """Frames that others labelled (ORCA, Molpro, psi4, a published set), as extended XYZ or what else is read."""

    model_config = ConfigDict(json_schema_extra=_may_be_published)

    file: InputFile = Field(
        description="Frames with an energy and, on all frames, some or none, forces; in place of catalogue."
    )
    catalogue: str | None = Field(
        None,
        max_length=60,
        description="A published set, such as rmd17/ethanol: its file, test_file and tests, how they are read, the "
        "level of its labels. `piwsl data list` says which there are.",
    )
    path: InputFile | None = Field(
        None,
        description="Of a published set that is there already, in place of a download: the file, or the folder of "
        "several.",
    )
    test_file: InputFile | None = Field(None, description="Frames to test on; else test_frames are held out of file.")
    test_frames: Frames | None = Field(None, description="Frames of file to hold out for testing.")
    stride: int = Field(
        1,
        ge=1,
        le=1_000_000,
        description="Of file each so many-th frame is taken, from the first: of a set that is larger than what is "
        "learned from it.",
    )
    pool_file: InputFile | None = Field(
        None, description="Frames whose labels are not looked at, for losses with a pool. Default: none."
    )
    format: Format = None
    split: Split | None = Field(
        None, description="What the test frames are; default: test_file, or test_frames of file at random."
    )
    groups: Groups | None = Field(
        None,
        description="What training frames belong to, for models with `validation_by: group`. Default: what `split` "
        "holds out as a whole.",
    )
    seed: Seed = Field(0, description="Chooses the frames that are held out.")
    drop: list[Fault] = Field(
        [],
        description="Which frames are left out: `unlabelled`, with neither energy nor forces, or with a label that is "
        "not finite, but for labels of given_levels, which are then absent; `overlaps`, atoms on one another; "
        "`close_atoms`, nearer than half the sum of their covalent radii; `energy_outliers`, `force_outliers`, far "
        "from the others; `net_forces`, forces that do not add up to zero; `duplicates`, all but one of one geometry. "
        "Default: none; the first two are refused, the others asked about.",
    )
    level: str | None = Field(
        None, max_length=200, description="The level of theory of the labels, in words, for the report."
    )
    energy_key: EnergyKey = None
    forces_key: ForcesKey = None
    weak_forces_key: str | None = Field(
        None, description="Which column holds forces of a cheaper level, if any. WEAK_forces."
    )
    weak_forces: Name | None = Field(
        None,
        description="Whose forces frames of training and pool get, for the loss weak_forces: gfn2-xtb, which is "
        "computed, or one of given_levels. Default: none.",
    )
    cheap_levels: list[Name] = Field(
        [],
        max_length=10,
        description="Names under levels, or gfn2-xtb, whose energies and forces all frames get beside their labels: "
        "what costs nothing, for the report, and baselines of models.",
    )
    given_levels: dict[Name, GivenLevel] = Field(
        {},
        max_length=10,
        description="Further levels whose labels the files bring, of all frames or some, by names of your choice: for "
        "the report, and for weak_forces.",
    )
    stress_key: StressKey = None
    energy_unit: EnergyUnitOrNone = None
    forces_unit: ForcesUnitOrNone = None
    stress_unit: StressUnitOrNone = None
    acquisition: Acquisition | None = Field(None, description=ACQUISITION_OF_LABELS)
    tests: dict[Name, GivenTest] = Field({}, max_length=MOST_TESTS, description=TESTS)

    @property
    def has_pool(self) -> bool:
        """Whether there are frames without labels."""
        return self.pool_file is not None

    @property
    def further_levels(self) -> list[str]:
        """Names of the levels whose labels frames have beside those that are learned: computed ones, then given."""
        return [*self.cheap_levels, *self.given_levels]

    @property
    def computes_weak_forces(self) -> bool:
        """Whether forces of a cheaper level are computed, and no file brings them."""
        return self.weak_forces == GFN2

    @property
    def files(self) -> list[Path]:
        """All files, those of named test sets included."""
        own = [path for path in (self.file, self.test_file, self.pool_file) if path is not None]
        positions = [] if self.split is None else self.split.files
        return [*own, *positions, *(test.file for test in self.tests.values())]

    @property
    def parts_are_compared(self) -> bool:
        """Whether what is left out of one part depends on the frames of the others."""
        return any(fault in BESIDE_OTHERS for fault in self.drop)

    @property
    def grouped_by(self) -> Groups | None:
        """What training frames belong to; None where nothing says it."""
        return self.groups if self.groups is not None or self.split is None else self.split.groups

    def test_is_like_validation(self, by: Literal["frame", "group"]) -> bool:
        """Whether test frames come as those do that models validate on, by frame or group: so far as a config tells.

        A file, or a list, may be of anything; the largest molecules are of no size that is learned from.
        """
        split = self.split or Split()
        if self.test_file is not None or split.is_listed or (self.acquisition and not self.acquisition.by_chance):
            return False
        if by == "frame":
            return split.by == "frame"
        return split.by not in ("frame", "size") and self.grouped_by == split.groups

    @property
    def groups_problem(self) -> str | None:
        """Say why no groups are known, and what to do; None where some are."""
        return None if self.grouped_by else "say groups there, such as {key: trajectory} or {by: composition}"

    def stride_of(self, path: Path) -> int:
        """Return of how many frames of a file one is taken."""
        return self.stride if path == self.file else 1

    def split_off(self, part: str) -> list[Path]:
        """Return the files of positions that a part depends on: "training" or "test"; of "pool" none."""
        return [] if self.split is None or part == "pool" else self.split.files

    def format_of(self, path: Path) -> str:
        """Return the name of what reads a file of the dataset.

        Raises:
            PiwslError: two readers take it for their own.
        """
        return format_of(path) if self.format is None else self.format

    def labels_of(self, path: Path) -> LabelNames:
        """Return the names and units of the labels in a file of the dataset: what the config says, else its reader.

        What a reader takes for forces of a cheaper level is that no more, where the config says that it is forces_key.

        Raises:
            PiwslError: the reader cannot be loaded.
        """
        said = {name: getattr(self, name) for name in LABELS if getattr(self, name) is not None}
        of_reader = READERS[self.format_of(path)].labels
        if said.get("forces_key") == of_reader.weak_forces_key:
            of_reader = replace(of_reader, weak_forces_key=LabelNames.weak_forces_key)
        return replace(of_reader, **said)

    def given_labels_of(self, path: Path) -> dict[str, LabelNames]:
        """Return the names and units of the labels of each given level in a file of the dataset.

        Raises:
            PiwslError: as of `labels_of`.
        """
        own = self.labels_of(path)
        return {name: level.names(name, own) for name, level in self.given_levels.items()}

    def tested_on(self, name: str) -> GivenDataset:
        """Return a named test set as a dataset: all of its file is for the test, and nothing is dropped."""
        test = self.tests[name]
        said = {key: value for key in (*LABELS, "format") if (value := getattr(test, key, None)) is not None}
        rest: dict[str, Any] = {
            "catalogue": None,
            "path": None,
            "test_frames": None,
            "stride": 1,
            "split": None,
            "groups": None,
            "drop": [],
            "pool_file": None,
            "weak_forces": None,
            "weak_forces_key": None,
            "acquisition": None,
            "tests": {},
        }
        return self.model_copy(update={"file": test.file, "test_file": test.file} | rest | said)

    def beyond_defaults(self) -> dict[str, Any]:
        """Return what the section says that neither its defaults nor the readers of its files do."""
        files = [path for path in (self.file, self.test_file, self.pool_file) if path is not None]
        defaults = [asdict(READERS[self.format_of(path)].labels) for path in files]
        said = super().beyond_defaults()
        if not said.get("split"):
            said.pop("split", None)
        return {
            key: value
            for key, value in said.items()
            if key not in LABELS or any(value != labels[key] for labels in defaults)
        }

    @field_validator("drop")
    @classmethod
    def _each_once(cls, faults: list[Fault]) -> list[Fault]:
        return sorted(set(faults))

    @model_validator(mode="before")
    @classmethod
    def _published(cls, value: Any) -> Any:
        """Say what the catalogue says of a published set; what stands there beside wins, the file aside."""
        if not isinstance(value, Mapping) or value.get("catalogue") is None:
            return value
        name, path = value["catalogue"], value.get("path")
        for key, found, kinds in (("catalogue", name, str), ("path", path, str | Path | None)):
            if not isinstance(found, kinds):
                raise ValueError(f"{key}: expected text, found {found!r:.40}")
        try:
            said = catalogue.find(name).section(None if path is None else Path(path))
            number = value["split"].get("published") if isinstance(value.get("split"), Mapping) else None
            if type(number) is int:
                if len(value["split"]) > 1:
                    raise PiwslError("split.published says all that a split does; leave its other keys out")
                said["split"] = catalogue.find(name).split(number, None if path is None else Path(path))
                value = {key: kept for key, kept in value.items() if key != "split"}
                said.pop("test_file", None)
        except PiwslError as error:
            raise ValueError(f"catalogue: {error}") from None
        if "file" in value and Path(value["file"]) != Path(said["file"]):
            raise ValueError("file: is the catalogue's; say path for what is there already")
        if isinstance(levels := said.get("given_levels"), Mapping):  # but for that which is learned
            learned = value.get("energy_key")
            said["given_levels"] = {name: each for name, each in levels.items() if each["energy_key"] != learned}
        split = value.get("split")
        if value.get("test_frames") is not None or (isinstance(split, Mapping) and {"test", "stored"} & {*split}):
            said.pop("test_file", None)
        return {**said, **value}

    @model_validator(mode="after")
    def _given_levels_are_others(self) -> Self:
        for name, level in self.given_levels.items():
            key = f"given_levels.{name}"
            if name in (*RESERVED, GFN2):
                raise ValueError(f"{key}: '{name}' is what other labels are called; give the level another name")
            if name in self.cheap_levels:
                raise ValueError(f"{key}: '{name}' is one of cheap_levels, too, which are computed; leave one out")
            if (found := level.energy_key or label_key(name, "energy")) == self.energy_key:
                raise ValueError(f"{key}: '{found}' is energy_key, the labels themselves; leave one out")
        self._check_each_level_has_own_keys()
        if self.weak_forces not in (None, GFN2, *self.given_levels):
            known = " or ".join([GFN2, *self.given_levels])
            raise ValueError(f"weak_forces: no level '{self.weak_forces}'; say {known}, or name it under given_levels")
        if self.weak_forces in self.given_levels and self.weak_forces_key is not None:
            raise ValueError("weak_forces_key: forces of a cheaper level are those of weak_forces; leave one out")
        return self

    def _check_each_level_has_own_keys(self) -> None:
        of: dict[tuple[str, str], str] = {}
        for level, said in self.given_levels.items():
            names = said.names(level, LabelNames())
            for field in ("energy_key", "forces_key"):
                found = getattr(names, field)
                if (other := of.setdefault((field, found), level)) != level:
                    raise ValueError(
                        f"given_levels.{level}.{field}: '{found}' is that of given_levels.{other}, too; say of each "
                        "level where its own labels stand, or leave one out"
                    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.path is not None and self.catalogue is None:
            raise ValueError("path: is of a set of the catalogue; say file")
        is_listed = self.split is not None and self.split.is_listed
        if sum((self.test_file is not None, self.test_frames is not None, is_listed)) != 1:
            raise ValueError(
                "give one of 'test_file', 'test_frames' (frames of file to hold out), 'split.test', 'split.stored'"
            )
        if self.split is not None and not is_listed and self.test_frames is None:
            raise ValueError("split: goes with 'test_frames'; test_file brings the test frames")
        others = [abspath(path) for path in (self.test_file, self.pool_file) if path is not None]
        if self.stride > 1 and abspath(self.file) in others:
            raise ValueError("stride: is of 'file' alone, which is test_file or pool_file, too; give others there")
        if self.stride > 1 and is_listed:
            key = "test" if self.split is not None and self.split.stored is None else "stored"
            raise ValueError(f"stride: positions of 'split.{key}' are of all frames of file; leave one of the two out")
        return self


def _dataset_kind(value: Any) -> str:
    """Say which kind a dataset is meant as: by `file`, or by most of its keys."""
    if isinstance(value, Mapping):
        keys = set(value)
    else:
        keys = set(type(value).model_fields) if isinstance(value, Section) else set()
    computed = len(keys & set(ComputedDataset.model_fields))
    return "given" if len(keys & set(GivenDataset.model_fields)) > computed or "file" in keys else "computed"


def is_computed(value: Any) -> bool:
    """Whether a mapping of the config is meant as a dataset that is labelled here."""
    return isinstance(value, Mapping) and _dataset_kind(value) == "computed"


Dataset = Annotated[
    Annotated[ComputedDataset, Tag("computed")] | Annotated[GivenDataset, Tag("given")],
    Discriminator(_dataset_kind),
]
