"""Levels that PySCF computes: Hartree-Fock, density functionals, MP2, CCSD, CCSD(T), and their basis-set limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from ase import units
from ase.data import atomic_numbers, chemical_symbols
from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, PrivateAttr, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from piwsl.config import PRESETS, Cost, FittingBases, KeptParts, SinglePoint, nearest
from piwsl.config.composite import CompositeLevel
from piwsl.config.section import LONGEST_VALUE, one_line
from piwsl.config.stages import BasisName, single_level
from piwsl.reference.blas import blas_name

if TYPE_CHECKING:
    from ase import Atoms

    from piwsl.reference.calculations import Outcome

# A sum of stages; one method in one basis; a named level.
LEVEL_FORMS = ["stages", "method", "preset"]
# Of a record: the energies that the level combines, Hartree.
PARTS = "components_Eh"
# By whether the shell is open.
USUAL_MAX_T1 = {False: 0.02, True: 0.04}
# Of restricted orbitals, in records.
STABLE, UNSTABLE = "stable", "unstable"
RESTRICTED = "restricted"
# Of the SCF of an atom, in records: of how many solutions it is the lowest; 1 where the basis before had more.
LOWEST_OF = "lowest_of"
# Groups 3 to 11, lanthanides and actinides: their shells of s, d and f lie so near that SCFs end in several
# configurations, minima all.
SEVERAL_CONFIGURATIONS = (range(21, 30), range(39, 48), range(57, 80), range(89, 112))
# Of old, also said of a solution that lay above the one from which the search for a minimum began.
PERHAPS_HIGHER = "stable but for rotations that do not change the energy"


def _old_orbitals(value: Any) -> Any:
    """Take what `orbitals` was when it was called `unrestricted`."""
    return {True: "unrestricted", False: None}[value] if isinstance(value, bool) else value


def _frozen_core(value: Any) -> Any:
    """Check counts by element here, in words: of a choice, pydantic says what each of its members lacks."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, Mapping) or not value:
        raise ValueError("say true, false, or a count of orbitals by element, such as {Na: 5, Li: 1}")
    for symbol, count in value.items():
        number = atomic_numbers.get(symbol, 0) if isinstance(symbol, str) else 0
        if number < 1:
            raise ValueError(f"no element '{one_line(str(symbol), LONGEST_VALUE)}'; give chemical symbols")
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= number // 2:
            found = one_line(str(count), LONGEST_VALUE)
            raise ValueError(
                f"{symbol}: {found} is no count of orbitals; {symbol} has pairs of electrons for 0 to {number // 2}"
            )
    return dict(value)


class PySCF(CompositeLevel):
    """PySCF's: a sum of stages. `{method, basis}` is short for a single level, `{preset}` for a named one."""

    OLD_KEYS = {"unrestricted": "orbitals"}  # noqa: RUF012 (pydantic's fields have annotations, this has none)

    engine: Literal["pyscf"] = Field("pyscf", description="What computes the level; the keys beside it are its own.")
    frozen_core: Annotated[bool | dict[str, int], BeforeValidator(_frozen_core)] = Field(
        True,
        description="Leave the chemical core uncorrelated: PySCF's, or by element as many orbitals as said here "
        "(`{Na: 5, Li: 1}`), a core potential's among them.",
    )
    orbitals: Annotated[Literal["restricted", "unrestricted"] | None, BeforeValidator(_old_orbitals)] = Field(
        None,
        description="`restricted`: those of open shells, too (ROHF); `unrestricted`: those of singlets, too. "
        "Default: restricted for singlets, unrestricted for all others.",
    )
    stability: bool | None = Field(
        None,
        description="Check that SCF solutions are minima, and follow them down where they are not. "
        "Default: those of open shells.",
    )
    max_t1: float | None = Field(
        None,
        gt=0,
        le=10,
        description="T1 diagnostic beyond which a frame is doubtful. Default: 0.02; of open shells 0.04.",
    )
    doubtful: Literal["keep", "fail", "ignore"] = Field(
        "keep",
        description="What becomes of frames that one determinant may not describe: by T1, or because restricted "
        "orbitals are a saddle point. `keep` lists them in the report; `ignore` does not look for them, as beneath "
        "models, which saves two thirds of HF in a small basis.",
    )
    grid: int = Field(4, ge=0, le=9, description="PySCF's level of the integration grid of dft.")
    auxiliary_bases: dict[BasisName, FittingBases] = Field(
        {},
        description="By orbital basis; default: the family's own -jkfit and -ri, and of elements that those lack "
        "def2-universal-jkfit and one that is made for the orbital basis (autoaux).",
    )
    element_bases: dict[BasisName, dict[str, BasisName]] = Field(
        {}, description="By orbital basis, elements that have another in its place: {cc-pvtz: {I: cc-pvtz-pp}}."
    )

    _threads: int = PrivateAttr(1)

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        given = [form for form in LEVEL_FORMS if form in value]
        if len(given) > 1:
            raise ValueError(f"give one of {', '.join(given)}: each says what the level is")
        if "preset" in value:
            preset = value["preset"]
            if not isinstance(preset, str) or preset not in PRESETS:
                raise ValueError(f"preset: no preset '{preset}'; {nearest(preset, PRESETS)}")
            return PRESETS[preset]() | {key: item for key, item in value.items() if key != "preset"}
        if "method" in value:
            return single_level(value)
        return value

    @field_validator("auxiliary_bases")
    @classmethod
    def _lower(cls, bases: dict[str, FittingBases]) -> dict[str, FittingBases]:
        return {basis.lower(): fitting for basis, fitting in bases.items()}

    @field_validator("element_bases")
    @classmethod
    def _bases_of_elements(cls, bases: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        for symbol in (symbol for of_elements in bases.values() for symbol in of_elements):
            if atomic_numbers.get(symbol, 0) < 1:
                raise ValueError(f"no element '{one_line(symbol, LONGEST_VALUE)}'; give chemical symbols")
        return {
            basis.lower(): {symbol: name.lower() for symbol, name in of_elements.items()}
            for basis, of_elements in bases.items()
        }

    @model_validator(mode="after")
    def _natural_orbitals_are_of_one_set(self) -> Self:
        if self.orbitals == RESTRICTED and any(stage.natural_orbitals is not None for stage in self.stages):
            raise ValueError(
                "orbitals: those of restricted open shells have no natural_orbitals; leave out one of both"
            )
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Admit the short forms in the schema that editors use."""
        schema = handler.resolve_ref_schema(handler(core))
        schema["properties"] |= {
            "preset": {"enum": list(PRESETS), "description": "A named level."},
            "method": {"enum": ["hf", "dft", "mp2", "ccsd", "ccsd(t)"], "description": "Of a single level."},
            "basis": {"type": "string", "description": "Of a single level."},
            "functional": {"type": "string", "description": "Of a single dft level."},
            "dispersion": {"enum": ["d3bj", "d4"], "description": "Of a single dft level."},
            "density_fitting": {"type": "boolean", "description": "Of a single level."},
            "natural_orbitals": {"type": "number", "description": "Of a single level of coupled cluster."},
        }
        schema["required"] = []
        schema["oneOf"] = [{"required": [form]} for form in LEVEL_FORMS]
        return schema

    def __str__(self) -> str:
        """Return the level as a formula."""
        terms = " + ".join(map(str, self.stages))
        if all(stage.method in ("hf", "dft") for stage in self.stages):
            return terms
        if self.frozen_core is False:
            return f"{terms}, all electrons correlated"
        counts = self.frozen_core if isinstance(self.frozen_core, dict) else {}
        said = ", ".join(f"{symbol} {count}" for symbol, count in counts.items())
        return f"{terms}, frozen core" + (f" ({said})" if said else "")

    def is_open_shell(self, multiplicity: int) -> bool:
        """Whether densities of both spins may differ in molecules of a multiplicity, 2S + 1."""
        return self.orbitals == "unrestricted" or multiplicity != 1

    def follows(self, multiplicity: int) -> bool:
        """Whether SCF solutions of a multiplicity, 2S + 1, are followed to a minimum."""
        return self.is_open_shell(multiplicity) if self.stability is None else self.stability

    def looks_for_lowest(self, numbers: Sequence[int], multiplicity: int) -> bool:
        """Whether the lowest of several minima is taken: of one atom, with open shells of d or f.

        Args:
            numbers: atomic numbers of the structure.
            multiplicity: 2S + 1.
        """
        atom = len(numbers) == 1 and any(numbers[0] in elements for elements in SEVERAL_CONFIGURATIONS)
        return atom and self.is_open_shell(multiplicity) and self.follows(multiplicity)

    def single_point(self, atoms: Atoms, charge: int, multiplicity: int, memory_mb: int, forces: bool) -> SinglePoint:
        """Compute all energies that the level combines; notes hold each, in Hartree, and how the SCFs went."""
        return self.single_point_of_parts(atoms, charge, multiplicity, memory_mb, forces, KeptParts())

    def single_point_of_parts(
        self, atoms: Atoms, charge: int, multiplicity: int, memory_mb: int, forces: bool, parts: KeptParts
    ) -> SinglePoint:
        """Compute what is not kept of the energies that the level combines."""
        from piwsl.reference.calculations import run_level

        outcome = run_level(atoms, self, charge, multiplicity, memory_mb, gradients=forces, kept=parts)
        return self._single_point(outcome, forces)

    def displaced(self, atoms: Atoms, charge: int, multiplicity: int, memory_mb: int) -> Callable[[Atoms], SinglePoint]:
        """Start from the solutions of the geometry before displacement, which keeps its state."""
        near = self.displaced_of_parts(atoms, charge, multiplicity, memory_mb)
        return lambda moved: near(moved, KeptParts())

    def displaced_of_parts(
        self, atoms: Atoms, charge: int, multiplicity: int, memory_mb: int
    ) -> Callable[[Atoms, KeptParts], SinglePoint]:
        """Do as `displaced`; the geometry before displacement is solved once that is asked for."""
        from piwsl.reference.calculations import run_level, solutions_of

        starts = cache(lambda: solutions_of(atoms, self, charge, multiplicity, memory_mb))

        def near(moved: Atoms, parts: KeptParts) -> SinglePoint:
            outcome = run_level(moved, self, charge, multiplicity, memory_mb, starts=starts, kept=parts)
            return self._single_point(outcome, forces=False)

        return near

    def combined(self, multiplicity: int, forces: bool, parts: KeptParts) -> SinglePoint:
        """Combine kept energies."""
        from piwsl.reference.calculations import combined

        return self._single_point(combined(self, multiplicity, forces, parts), forces)

    def _single_point(self, outcome: Outcome, forces: bool) -> SinglePoint:
        """Return in eV and eV/Å what the energies of an outcome combine to."""
        from piwsl.reference.calculations import level_energy, level_gradient

        return SinglePoint(
            energy=level_energy(self, outcome).energy * units.Hartree,
            forces=-level_gradient(self, outcome) * units.Hartree / units.Bohr if forces else None,
            notes={PARTS: {str(part): energy for part, energy in outcome.energies.items()}} | outcome.notes,
        )

    def cost(self, atoms: Atoms, charge: int, multiplicity: int, forces: bool) -> Cost:
        """Estimate a frame from the sizes of its bases."""
        from piwsl.reference.costs import estimate

        return estimate(atoms, self, charge, multiplicity, gradients=forces)

    def displaced_cost(self, atoms: Atoms, charge: int, multiplicity: int) -> Cost:
        """Estimate an energy that starts from the orbitals and amplitudes of its frame."""
        from piwsl.reference.costs import estimate

        return estimate(atoms, self, charge, multiplicity, gradients=False, displaced=True)

    def analytic_problem(self, multiplicity: int) -> str | None:
        """Say which part has no gradient in PySCF, or a wrong one."""
        from piwsl.reference.gradients import gradient_problem

        return gradient_problem(self, multiplicity)

    def problem(self, symbols: set[str]) -> str | None:
        """Say which functional PySCF lacks, or which basis nobody has."""
        from piwsl.reference.bases import lacking

        return lacking(self, symbols)

    @property
    def threads(self) -> int:
        """How many threads PySCF has for one molecule."""
        return self._threads

    def on_threads(self, threads: int) -> Self:
        """Return the level as PySCF computes it on several threads."""
        level = self.model_copy()
        level._threads = threads
        return level

    def remark(self, symbols: set[str]) -> str | None:
        """Say which elements have other bases than the level names, and which shells bases are not made for."""
        from piwsl.reference.cores import correlated_shell
        from piwsl.reference.element_bases import for_valence_alone, substitutions

        lines = []
        for symbol, basis in for_valence_alone(self, symbols).items():
            if shell := correlated_shell(symbol, self.frozen_core, basis):
                lines.append(
                    f"{shell.name} of {symbol} is correlated, which {basis} is not made for: say frozen_core: "
                    f"{{{symbol}: {shell.frozen}}}, or take cc-pwCVXZ for it"
                )
        for named, of_elements in substitutions(self, symbols).items():
            for taken in dict.fromkeys(of_elements.values()):
                elements = ", ".join(symbol for symbol, other in of_elements.items() if other == taken)
                lines.append(f"{taken} for {elements} in {named}")
        return "; ".join(lines) or None

    def unquestioned(self) -> Self:
        """Return the level that does not ask whether restricted orbitals are a saddle point, but where that fails."""
        return self if self.doubtful == "fail" else self.model_copy(update={"doubtful": "ignore"})

    def of_free_atoms(self) -> Self:
        """Return the level with the orbitals followed to a minimum."""
        return self.model_copy(update={"stability": True})

    def recipe(self) -> dict[str, Any]:
        """Return stages, with presets, defaults and published exponents as what they come to."""
        from piwsl.reference.cores import unusual_counts
        from piwsl.reference.recipe import stages_of

        correlated = any(stage.method not in ("hf", "dft") for stage in self.stages)
        return {
            "stages": stages_of(self),
            "frozen_core": unusual_counts(self.frozen_core) if correlated else None,
            # Of old, orbitals were unrestricted for all, or were not.
            "unrestricted": self.orbitals == "unrestricted",
            **({"orbitals": self.orbitals} if self.orbitals == "restricted" else {}),
            # Of old, open shells were not followed by default: `record_problem` tells their records.
            "stability": {None: False, True: True, False: "never"}[self.stability],
            "grid": self.grid if any(stage.method == "dft" for stage in self.stages) else None,
            **({"element_bases": of_elements} if (of_elements := self._other_bases()) else {}),
        }

    def part_recipes(self) -> dict[str, dict[str, Any]]:
        """Return what each energy depends on that the stages combine, and each SCF."""
        from piwsl.reference.components import parts_of

        return parts_of(self.recipe())

    def _other_bases(self) -> dict[str, dict[str, str]]:
        """Return, of the bases that the level uses, elements that have another."""
        others = {
            basis: {symbol: name for symbol, name in self.element_bases.get(basis, {}).items() if name != basis}
            for basis in self.bases()
        }
        return {basis: of_elements for basis, of_elements in others.items() if of_elements}

    def record_problem(self, record: Mapping[str, Any]) -> str | None:
        """Say why an energy is not the sum of the energies of its parts."""
        from piwsl.reference.components import sum_problem

        multiplicity = record.get("multiplicity", 1)
        if self.stability is None and self.is_open_shell(multiplicity) and not _followed(record):
            return "its orbitals were not followed to a minimum"
        if not self._is_fitted_as_now(record):
            return "exchange of a d shell was not fitted"
        if self.looks_for_lowest(record.get("numbers", []), multiplicity) and not is_lowest(record):
            return "a lower configuration of the atom was not looked for"
        return sum_problem(self, record.get("energy_eV"), record.get(PARTS))

    def _is_fitted_as_now(self, record: Mapping[str, Any]) -> bool:
        """Whether a record says of elements of its molecule that they have other fitting bases, where they have."""
        from piwsl.reference.element_bases import WITH_3D, refitted, says

        symbols = {chemical_symbols[number] for number in record.get("numbers", []) if number in WITH_3D}
        said = record.get("bases_of_elements", {})
        fitted = dict.fromkeys(basis for stage in self.stages if stage.density_fitting for basis in stage.bases)
        return not symbols or all(says(said, refitted(self, basis, symbols)) for basis in fitted)

    def doubt(self, record: Mapping[str, Any]) -> str | None:
        """Say why one determinant may not describe a frame.

        T1: Lee, Taylor, Int. J. Quantum Chem. Symp. 23, 199 (1989), and for open shells Rienstra-Kiracofe, Allen,
        Schaefer, J. Phys. Chem. A 104, 9823 (2000).
        """
        if self.doubtful == "ignore":
            return None
        largest = self.max_t1 or USUAL_MAX_T1[self.is_open_shell(record.get("multiplicity", 1))]
        found = record.get("t1_diagnostic")
        if found is not None and found > largest:
            return f"T1 diagnostic {found:.3f}, beyond {largest:g}"
        if any(how.get(RESTRICTED) == UNSTABLE for how in record.get("scf", {}).values()):
            return "restricted orbitals are a saddle point: unrestricted ones have a lower energy"
        return None

    @property
    def fails_doubtful(self) -> bool:
        """Whether such a frame fails."""
        return self.doubtful == "fail"

    def versions(self) -> dict[str, str]:
        """Return PySCF's version, and the library of linear algebra that it computes with."""
        return {"pyscf": version("pyscf"), "blas": blas_name()}


def is_lowest(notes: Mapping[str, Any]) -> bool:
    """Whether the SCFs in notes of an atom are the lowest of several."""
    solutions = notes.get("scf", {})
    return isinstance(solutions, dict) and all(LOWEST_OF in how for how in solutions.values() if isinstance(how, dict))


def _followed(record: Mapping[str, Any]) -> bool:
    """Whether the SCFs of a record were followed to a minimum, or started from one."""
    solutions = record.get("scf")
    return isinstance(solutions, dict) and all(
        isinstance(how, dict)
        and ("stability" in how or "started_from" in how)
        and how.get("stability") != PERHAPS_HIGHER
        for how in solutions.values()
    )
