"""Levels that other programs compute: sums of stages, the parts of which a program gives in one run or several."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

from ase import Atoms, units
from pydantic import Field, GetJsonSchemaHandler, PrivateAttr, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from piwsl.config import SinglePoint
from piwsl.config.composite import CompositeLevel
from piwsl.config.stages import MEAN_FIELD, Method, single_level
from piwsl.reference.engines.pyscf import PARTS, USUAL_MAX_T1
from piwsl.reference.extrapolation import ExtrapolationError
from piwsl.reference.failures import FrameFailure
from piwsl.reference.programs import Program

if TYPE_CHECKING:
    from piwsl.reference.components import Component, MeanFieldKey


class Molecule(NamedTuple):
    """What a program computes, and with what."""

    atoms: Atoms
    charge: int
    """e."""
    multiplicity: int
    """2S + 1."""
    memory_mb: int
    """Of the job."""
    threads: int

    def electrons(self) -> int:
        """Count the electrons."""
        return int(self.atoms.numbers.sum()) - self.charge

    def lines(self) -> list[str]:
        """Return a line an atom: symbol and coordinates, Å."""
        rows = zip(self.atoms.get_chemical_symbols(), self.atoms.positions.tolist(), strict=True)
        return [f"{symbol:2s} {x:18.12f} {y:18.12f} {z:18.12f}" for symbol, (x, y, z) in rows]


class Parts(NamedTuple):
    """What a program gives of a molecule."""

    energies: Mapping[Component, float]
    """Hartree; mean-field total energies and correlation energies."""
    notes: Mapping[str, Any]


class ProgramLevel(CompositeLevel):
    """A sum of stages that another program computes. `{method, basis}` is short for a single level."""

    METHODS: ClassVar[tuple[Method, ...]] = ("hf", "mp2", "ccsd", "ccsd(t)")
    PROGRAM: ClassVar[Program]

    frozen_core: bool = Field(True, description="Leave the chemical core uncorrelated.")
    unrestricted: bool = Field(False, description="Unrestricted orbitals for singlets too (others always have them).")
    max_t1: float | None = Field(
        None,
        gt=0,
        le=10,
        description="T1 diagnostic beyond which a frame is doubtful. Default: 0.02; of open shells 0.04.",
    )
    doubtful: Literal["keep", "fail"] = Field(
        "keep", description="What becomes of frames that one determinant may not describe, by T1."
    )
    _threads: int = PrivateAttr(1)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or "method" not in value:
            return value
        if "stages" in value:
            raise ValueError("give one of stages, method: each says what the level is")
        return single_level(value)

    @model_validator(mode="after")
    def _coupled_cluster_is_whole(self) -> Self:
        for stage in self.stages:
            if stage.natural_orbitals is not None:
                raise ValueError("stages: natural_orbitals are cut off by engine 'pyscf' alone; leave the key out")
            if stage.density_fitting and stage.method in ("ccsd", "ccsd(t)"):
                raise ValueError("stages: density_fitting of coupled cluster is for engine 'pyscf' alone; say false")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Admit the short form in the schema that editors use."""
        schema = handler.resolve_ref_schema(handler(core))
        schema["properties"] |= {
            "method": {"enum": list(cls.METHODS), "description": "Of a single level."},
            "basis": {"type": "string", "description": "Of a single level."},
            "density_fitting": {"type": "boolean", "description": "Of a single level."},
        }
        schema["required"] = ["engine"]
        schema["oneOf"] = [{"required": ["stages"]}, {"required": ["method"]}]
        return schema

    @abstractmethod
    def parts(self, molecule: Molecule) -> Parts:
        """Compute every energy that the stages combine.

        Raises:
            FrameFailure: at the first step that does not converge.
            JobFailure, MemoryError, OSError: the machine gave out, or the program is none that can be used.
        """

    def on_threads(self, threads: int) -> Self:
        """Return the level as it runs on several threads, or processes of the program's."""
        level = self.model_copy()
        level._threads = threads
        return level

    def single_point(self, atoms: Atoms, charge: int, multiplicity: int, memory_mb: int, forces: bool) -> SinglePoint:
        """Run the program; notes hold each energy that the level combines, in Hartree."""
        from piwsl.reference.components import composite_energy

        parts = self.parts(Molecule(atoms, charge, multiplicity, memory_mb, self._threads))
        try:
            energy = composite_energy(self, dict(parts.energies)).energy
        except ExtrapolationError as error:
            raise FrameFailure("extrapolation", str(error)) from None
        named = {str(part): energy for part, energy in parts.energies.items()}
        return SinglePoint(energy * units.Hartree, notes={PARTS: named, **parts.notes})

    def wanted(self) -> dict[MeanFieldKey, list[str]]:
        """Return the correlated methods that are wanted of each mean field."""
        from piwsl.reference.components import required_components

        found: dict[MeanFieldKey, list[str]] = {}
        for part in required_components(self):
            methods = found.setdefault(part.mean_field, [])
            if part.method not in MEAN_FIELD:
                methods.append(part.method)
        return found

    def is_open_shell(self, multiplicity: int) -> bool:
        """Whether orbitals of both spins differ in molecules of a multiplicity, 2S + 1."""
        return self.unrestricted or multiplicity != 1

    def problem(self, symbols: set[str]) -> str | None:
        """Say that the program is missing."""
        return None if self.PROGRAM.path() else self.PROGRAM.missing()

    def record_problem(self, record: Mapping[str, Any]) -> str | None:
        """Say why an energy is not the sum of the energies of its parts."""
        from piwsl.reference.components import sum_problem

        return sum_problem(self, record.get("energy_eV"), record.get(PARTS))

    def doubt(self, record: Mapping[str, Any]) -> str | None:
        """Say why one determinant may not describe a frame; thresholds as of PySCF's levels."""
        largest = self.max_t1 or USUAL_MAX_T1[self.is_open_shell(record.get("multiplicity", 1))]
        found = record.get("t1_diagnostic")
        return f"T1 diagnostic {found:.3f}, beyond {largest:g}" if found is not None and found > largest else None

    @property
    def fails_doubtful(self) -> bool:
        """Whether such a frame fails."""
        return self.doubtful == "fail"

    def __str__(self) -> str:
        """Return the level as a formula, and the program."""
        terms = " + ".join(map(str, self.stages))
        if all(stage.method in MEAN_FIELD for stage in self.stages):
            return f"{terms} ({self.PROGRAM.name})"
        return f"{terms}, {'frozen core' if self.frozen_core else 'all electrons correlated'} ({self.PROGRAM.name})"
