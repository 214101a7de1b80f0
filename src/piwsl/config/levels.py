"""What a level of theory is: a section of its engine's keys that says what it costs and computes single points."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field

from piwsl.config.reading import read_yaml
from piwsl.config.section import ConfigError, OneOf, Section, nearest, parse_kind
from piwsl.config.stages import PRESETS
from piwsl.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Cost:
    """What one frame takes."""

    cpu_s: float
    """CPU seconds on one thread."""
    memory_mb: float
    """Peak memory."""
    scratch_mb: float = 0.0
    """Temporary files."""


@dataclass(frozen=True)
class SinglePoint:
    """What a level gives for one geometry."""

    energy: float
    """eV; the total energy, the same wherever the molecule lies and however it is turned."""
    forces: NDArray[np.float64] | None = None
    """(N, 3), eV/Å: minus the gradient of the energy; where they were asked for."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """How it went, as plain values, for the record of the frame; the report knows `t1_diagnostic`, `scf`, ..."""


@dataclass(frozen=True)
class Part:
    """One of the energies that a level combines, as it is kept by itself."""

    energy: float
    """Hartree."""
    gradient: NDArray[np.float64] | None = None
    """(N, 3), Hartree/Bohr; where it was asked for."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """How it went, as plain values; those of a frame are the notes of its parts."""
    state: Mapping[str, float] = field(default_factory=dict)
    """Of open shells: by name the energies, Hartree, of all SCFs that are known to be of the same electronic state."""
    cpu_s: float | None = None
    """CPU seconds that it took."""


class KeptParts:
    """What is kept of the parts of one geometry's energy, by the names of `Level.part_recipes`; here nothing is."""

    def find(self, name: str) -> Part | None:
        """Return a part, or None where it is not kept."""

    def keep(self, name: str, part: Part) -> None:
        """Keep a part, from the moment that it is computed.

        One that is kept already stays where it has a gradient, and this one, of the same state, has none.
        """


class LackingParts(Exception):
    """KeptParts that are not kept, by name."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(", ".join(names))
        self.names = tuple(names)


class Level(Section):
    """A level of theory of one engine: base of the classes in `piwsl.reference.engines`, and of those of others.

    The fields are the keys that stand beside `engine` in a level of the config; how they are checked is said there.
    A class is imported when a config is read: what computes is imported by the methods that need it.
    """

    engine: str = Field(description="What computes the level; the keys beside it are its own.")

    @abstractmethod
    def single_point(self, atoms: Atoms, charge: int, multiplicity: int, memory_mb: int, forces: bool) -> SinglePoint:
        """Compute one molecule, on one thread.

        Whatever is raised is a failure of this frame alone: nothing unconverged may be returned. No memory and no room
        on a disk (MemoryError, OSError) are failures of the job, which is tried again.

        Args:
            atoms: elements and positions (Å), without a cell.
            charge: total charge, e.
            multiplicity: 2S + 1.
            memory_mb: memory of the job, MB.
            forces: also analytic forces; never where `analytic_problem` has something to say.
        """

    def displaced(self, atoms: Atoms, charge: int, multiplicity: int, memory_mb: int) -> Callable[[Atoms], SinglePoint]:
        """Return what computes the energies of geometries that differ a little from one, for forces by differences.

        By default each is a single point of its own. Where a calculation may find several solutions, it starts from
        that of the geometry before displacement: differences between two of them are no force.

        Args:
            atoms: the geometry before displacement; other arguments as of `single_point`.
            charge: total charge, e.
            multiplicity: 2S + 1.
            memory_mb: memory of the job, MB.
        """
        return lambda moved: self.single_point(moved, charge, multiplicity, memory_mb, False)

    def part_recipes(self) -> Mapping[str, Mapping[str, Any]]:
        """Return by name what each energy depends on, as plain values, that is kept by itself; by default none is.

        Energies are kept under the hash of that: levels that share one find it, and so does a frame that was stopped.
        """
        return {}

    def single_point_of_parts(
        self, atoms: Atoms, charge: int, multiplicity: int, memory_mb: int, forces: bool, parts: KeptParts
    ) -> SinglePoint:
        """Compute one molecule as `single_point` does, but for parts that are kept; others are kept from then on.

        Args:
            atoms: as all other arguments as of `single_point`.
            charge: total charge, e.
            multiplicity: 2S + 1.
            memory_mb: memory of the job, MB.
            forces: also analytic forces.
            parts: what is kept of this geometry.
        """
        return self.single_point(atoms, charge, multiplicity, memory_mb, forces)

    def displaced_of_parts(
        self, atoms: Atoms, charge: int, multiplicity: int, memory_mb: int
    ) -> Callable[[Atoms, KeptParts], SinglePoint]:
        """Return what `displaced` does, as a function that also takes what is kept of the displaced geometry."""
        near = self.displaced(atoms, charge, multiplicity, memory_mb)
        return lambda moved, parts: near(moved)

    def combined(self, multiplicity: int, forces: bool, parts: KeptParts) -> SinglePoint:
        """Combine kept parts to what `single_point` gives, without any calculation.

        Args:
            multiplicity: 2S + 1.
            forces: with analytic forces.
            parts: what is kept of a geometry.

        Raises:
            LackingParts: names those that it takes and are not kept.
        """
        raise LackingParts([str(self)])

    @abstractmethod
    def cost(self, atoms: Atoms, charge: int, multiplicity: int, forces: bool) -> Cost:
        """Estimate what `single_point` takes, within a factor of two or so; jobs are cut and given memory by it.

        Args:
            atoms: elements and positions (Å).
            charge: total charge, e.
            multiplicity: 2S + 1.
            forces: with analytic forces.
        """

    def displaced_cost(self, atoms: Atoms, charge: int, multiplicity: int) -> Cost:
        """Estimate what an energy near one that is computed takes, as of `cost`: less where it starts from that."""
        return self.cost(atoms, charge, multiplicity, False)

    def analytic_problem(self, multiplicity: int) -> str | None:
        """Say why there are no analytic forces of structures of a multiplicity, 2S + 1; None where there are.

        Without them forces are central differences of the energy.
        """
        return f"engine '{self.engine}' has no analytic forces"

    def differences_problem(self) -> str | None:
        """Say why differences of the energy make no forces, as where it is not smooth; None where they do."""
        return None

    def problem(self, symbols: set[str]) -> str | None:
        """Say what is missing to compute molecules of these elements, before anything is; None where nothing is.

        A program that is not installed, a basis that lacks an element: `key: what is wrong; what would be right`.
        """
        return None

    def remark(self, symbols: set[str]) -> str | None:
        """Say what of these elements is not computed quite as the level's words say; None where all is."""
        return None

    def of_free_atoms(self) -> Self:
        """Return the level as it is computed for free atoms."""
        return self

    def unquestioned(self) -> Self:
        """Return the level without what is computed for its doubts alone: the same energies."""
        return self

    def on_threads(self, threads: int) -> Self:
        """Return the level as it computes on several threads; by default it is the same, on one.

        Args:
            threads: how many there are for one molecule.
        """
        return self

    def beside(self, folder: Path) -> Self:
        """Return the level for a model in a folder that corrects it: files that the level names may lie there, too.

        Args:
            folder: of the model's file.
        """
        return self

    def recipe(self) -> dict[str, Any]:
        """Return all that an energy depends on, and nothing else, as plain values: energies are kept under its hash.

        By default all keys. Where an edit of the engine gives other energies of the same keys, add a version and raise
        it: energies that are kept already are not computed again otherwise.
        """
        return self.plain()

    def record_problem(self, record: Mapping[str, Any]) -> str | None:
        """Say why a finished energy's record, `energy_eV` and notes, cannot be right; None where it can."""
        return None

    def doubt(self, record: Mapping[str, Any]) -> str | None:
        """Say why a finished energy may mean little, though nothing failed; None where nothing speaks against it."""
        return None

    @property
    def fails_doubtful(self) -> bool:
        """Whether a frame with a doubtful energy fails; by default it is kept, and the report lists it."""
        return False

    def versions(self) -> dict[str, str]:
        """Return names and versions of programs that energies are computed with, for their records."""
        return {}

    def __str__(self) -> str:
        """Return the level in words, for the report."""
        said = {key: value for key, value in self.beyond_defaults().items() if key != "engine"}
        return self.engine + (f" ({', '.join(f'{key} {value}' for key, value in said.items())})" if said else "")


ENGINES: Registry[Level] = Registry("piwsl.reference.engines", Level)  # type: ignore[type-abstract]  # no kind is made of the base
DEFAULT_ENGINE = "pyscf"
LEVELS = OneOf(ENGINES, "engine", DEFAULT_ENGINE)
AnyLevel = Annotated[Level, LEVELS]


def parse_level(mapping: Any, source: str) -> Level:
    """Validate a mapping as a level of its engine.

    Args:
        mapping: as under `levels` of a config.
        source: where it comes from, for messages.

    Raises:
        ConfigError: an unknown engine, or a level that is not right.
    """
    return parse_kind(LEVELS, mapping, source)


# Levels that are so cheap that they have names of their own, too.
CHEAP = {method: {"engine": "tblite", "method": method} for method in ("gfn2-xtb", "gfn1-xtb")}


def preset(name: object) -> dict[str, str] | None:
    """Return what stands for a level that is named, but not among the levels of a config; None where nothing does."""
    if not isinstance(name, str):
        return None
    return {"preset": name} if name in PRESETS else CHEAP.get(name)


def named_level(name: str) -> Level:
    """Return a preset.

    Raises:
        ConfigError: there is none of this name.
    """
    found = preset(name)
    if found is None:
        raise ConfigError(f"no level '{name}'; {nearest(name, [*PRESETS, *CHEAP])}")
    return parse_level(found, name)


def read_level(path: Path) -> Level:
    """Return the level of a YAML file.

    Raises:
        ConfigError: it holds none.
    """
    return parse_level(read_yaml(path), str(path))
