"""Composite energies as data: stages, basis families and their extrapolation, named presets. Nothing here computes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from pydantic import Field, field_validator, model_validator

from piwsl.config.section import ConfigError, Section

CARDINAL_NUMBERS = {"d": 2, "t": 3, "q": 4, "5": 5, "6": 6}
CORRELATION_CONSISTENT = re.compile(r"^(?P<head>(aug-)?cc-p(w?c)?v)\(?(?P<letter>[dtq56])(?P<tail>(\+d\))?z(-pp)?)$")
KARLSRUHE = {
    f"def2-{name}{diffuse}": cardinal
    for name, cardinal in {"svp": 2, "tzvp": 3, "tzvpp": 3, "qzvp": 4, "qzvpp": 4}.items()
    for diffuse in ("", "d")
}

# Exponents of E(X) = E_cbs + A exp(-α √X) for HF, and of E(X) = E_cbs + A X^-β for correlation, by family and
# smaller cardinal number: Neese, Valeev, J. Chem. Theory Comput. 7, 33 (2011).
SQUARE_ROOT_EXPONENTS = {
    ("cc", 2): 4.42,
    ("cc", 3): 5.46,
    ("aug-cc", 2): 4.30,
    ("aug-cc", 3): 5.79,
    ("def2", 2): 10.39,
    ("def2", 3): 7.88,
}
DEF2_CORRELATION_EXPONENTS = {2: 2.40, 3: 2.97}
# For correlation-consistent bases: Halkier, Helgaker, Jørgensen, Klopper, Olsen, Chem. Phys. Lett. 302, 437 (1999).
HALKIER_EXPONENT = 1.63
# Helgaker, Klopper, Koch, Noga, J. Chem. Phys. 106, 9639 (1997).
HELGAKER_EXPONENT = 3.0


class BasisFamily(NamedTuple):
    """Where a basis stands in a family of growing ones."""

    series: str
    """The family in full; only bases of one series are extrapolated together."""
    group: str
    """cc, aug-cc or def2: whose exponents apply."""
    cardinal: int
    """X."""


def basis_family(basis: str) -> BasisFamily:
    """Return family and cardinal number of a basis: cc-pVXZ, aug-cc-pVXZ, their core-valence kin and those
    for core potentials (-PP), def2.

    Raises:
        ConfigError: the basis belongs to no family that the extrapolation formulas are fitted for.
    """
    name = basis.lower()
    match = CORRELATION_CONSISTENT.match(name)
    if match is not None:
        group = "aug-cc" if name.startswith("aug-") else "cc"
        return BasisFamily(f"{match['head']}x{match['tail']}", group, CARDINAL_NUMBERS[match["letter"]])
    if name in KARLSRUHE:
        return BasisFamily("def2 with diffuse functions" if name.endswith("d") else "def2", "def2", KARLSRUHE[name])
    raise ConfigError(
        f"basis '{basis}' has no cardinal number to extrapolate with; use cc-pVXZ, aug-cc-pVXZ or def2-XVP(P)"
    )


# PySCF takes other names for paths of files, for sums, for contractions (@).
BasisName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9+*(), _-]*$", max_length=60)]
FunctionalName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9+*(), _-]*$", max_length=60)]

Formula = Literal["exponential", "exponential-sqrt", "three-point", "power"]

# From simple to elaborate. Coupled cluster with local pair natural orbitals (DLPNO) is named for what it is: Riplinger,
# Sandhoefer, Hansen, Neese, J. Chem. Phys. 139, 134101 (2013). (T1) has its triples iterated: Guo et al., J. Chem.
# Phys. 148, 011101 (2018).
Method = Literal["hf", "dft", "mp2", "ccsd", "ccsd(t)", "dlpno-ccsd", "dlpno-ccsd(t)", "dlpno-ccsd(t1)"]
METHODS: tuple[Method, ...] = get_args(Method)
MEAN_FIELD: tuple[Method, ...] = ("hf", "dft")
LOCAL: tuple[Method, ...] = ("dlpno-ccsd", "dlpno-ccsd(t)", "dlpno-ccsd(t1)")
# Their integrals are fitted unless the level says otherwise; those of DLPNO always.
FITTED = (*MEAN_FIELD, "mp2", *LOCAL)


class Extrapolation(NamedTuple):
    """How the energies of a stage are taken to the basis-set limit."""

    formula: Formula
    exponent: float | None
    """α or β; none for three points, which determine it."""
    smallest: int
    """The smallest cardinal number; the others follow it one by one."""


class Stage(Section):
    """One term of a composite energy: a mean-field energy or (a difference of) correlation energies."""

    method: Method = Field(
        description="hf and dft give the total mean-field energy; the others give their correlation energy. Local "
        "coupled cluster (dlpno-...) is of engine orca alone."
    )
    functional: FunctionalName | None = Field(
        None, description="For dft: any name PySCF has, such as wb97m-d3bj, pbe0, b3lyp."
    )
    dispersion: Literal["d3bj", "d4"] | None = Field(None, description="For dft: an added dispersion correction.")
    minus: Literal["mp2", "ccsd", "dlpno-ccsd", "dlpno-ccsd(t)"] | None = Field(
        None, description="Correlation energy to subtract: {method: ccsd(t), minus: mp2} is [CCSD(T) - MP2]."
    )
    bases: list[BasisName] = Field(
        min_length=1,
        max_length=3,
        description="One basis; or two (for hf also three) of successive cardinal numbers to extrapolate from.",
    )
    density_fitting: bool = Field(
        default_factory=lambda given: given.get("method") in FITTED,
        description="Default: true for hf, dft, mp2 and dlpno-..., false for coupled cluster.",
    )
    natural_orbitals: float | None = Field(
        None,
        ge=1e-7,
        le=1e-3,
        description="For ccsd and ccsd(t): keep the virtual natural orbitals of MP2 that are occupied by more "
        "electrons than this. What MP2 loses by it is added back.",
    )
    extrapolation: Literal["exponential", "exponential-sqrt"] | None = Field(
        None, description="For hf in two bases. Default: exponential; for def2 exponential-sqrt."
    )
    exponent: float | None = Field(
        None,
        ge=0.1,
        le=20,
        description="Of the formula, in place of the published one of the family and pair of bases.",
    )

    @field_validator("bases")
    @classmethod
    def _one_spelling(cls, bases: list[str]) -> list[str]:
        # cc-pVTZ and cc-pvtz are one level, and share their labels.
        return [basis.lower() for basis in bases]

    @field_validator("functional")
    @classmethod
    def _lower(cls, functional: str | None) -> str | None:
        return functional.lower() if functional else None

    @model_validator(mode="after")
    def _methods_fit(self) -> Self:
        if self.minus is not None and METHODS.index(self.minus) >= METHODS.index(self.method):
            raise ValueError(f"'{self.method}' minus '{self.minus}' is no correction; subtract a simpler method")
        if self.method in LOCAL and not self.density_fitting:
            raise ValueError(f"density_fitting: '{self.method}' always has it; leave it out")
        if self.natural_orbitals is not None and self.method not in ("ccsd", "ccsd(t)"):
            raise ValueError("natural_orbitals: only 'ccsd' and 'ccsd(t)' are cut off; leave it out")
        if (self.method == "dft") != (self.functional is not None):
            raise ValueError("functional: 'dft' needs one, and no other method takes one")
        if self.dispersion is not None and self.method != "dft":
            raise ValueError("dispersion: only 'dft' takes a dispersion correction")
        return self

    @model_validator(mode="after")
    def _bases_can_be_extrapolated(self) -> Self:
        if len(self.bases) == 1:
            if self.extrapolation or self.exponent:
                raise ValueError("extrapolation, exponent: one basis is not extrapolated; give two")
            return self
        if self.method == "dft":
            raise ValueError(f"bases {self.bases}: no extrapolation is fitted for density functionals; name one basis")
        if self.extrapolation and (self.method != "hf" or len(self.bases) != 2):
            raise ValueError("extrapolation: a choice there is only for 'hf' in two bases")
        if len(self.bases) == 3 and (self.method != "hf" or self.exponent):
            raise ValueError("bases: three are for 'hf' alone, and determine the exponent; name two")
        try:
            families = [basis_family(basis) for basis in self.bases]
        except ConfigError as error:
            raise ValueError(str(error)) from None
        first = families[0]
        if any(family.series != first.series for family in families):
            raise ValueError(f"bases {self.bases} are of different families; extrapolate within one")
        if [family.cardinal for family in families] != [first.cardinal + n for n in range(len(families))]:
            raise ValueError(f"bases {self.bases}: the formulas want successive cardinal numbers, smaller first")
        self.limit()
        return self

    def limit(self) -> Extrapolation:
        """Return the extrapolation of a stage of two or three bases.

        Raises:
            ValueError: no exponent is published for the pair of bases, and none is given.
        """
        family = basis_family(self.bases[0])
        formula, published = self._formula(family)
        exponent = self.exponent or published
        if exponent is None and formula != "three-point":
            raise ValueError(
                f"exponent: none is published for {formula} extrapolation from {self.bases}; give one, or other bases"
            )
        return Extrapolation(formula, exponent, family.cardinal)

    def _formula(self, family: BasisFamily) -> tuple[Formula, float | None]:
        key = (family.group, family.cardinal)
        if self.method != "hf":
            def2 = family.group == "def2"
            return "power", DEF2_CORRELATION_EXPONENTS.get(family.cardinal) if def2 else HELGAKER_EXPONENT
        if len(self.bases) == 3:
            return "three-point", None
        default: Formula = "exponential-sqrt" if family.group == "def2" else "exponential"
        if (self.extrapolation or default) == "exponential":
            return "exponential", None if family.group == "def2" else HALKIER_EXPONENT
        return "exponential-sqrt", SQUARE_ROOT_EXPONENTS.get(key)

    def __str__(self) -> str:
        """Return the stage as a formula."""
        name = (self.functional or self.method).upper() + (f"-{self.dispersion.upper()}" if self.dispersion else "")
        if self.natural_orbitals is not None:
            name = f"FNO({self.natural_orbitals:.0e})-{name}"
        term = f"[{name} - {self.minus.upper()}]" if self.minus else name
        bases = f"CBS({', '.join(self.bases)})" if len(self.bases) > 1 else self.bases[0]
        return f"{'DF-' if self.density_fitting else ''}{term}/{bases}"


class FittingBases(Section):
    """Auxiliary bases of density fitting, where the usual ones are not wanted."""

    jk: BasisName | None = Field(None, description="For Coulomb and exchange.")
    ri: BasisName | None = Field(None, description="For correlation.")


SINGLE_LEVEL_OPTIONS = ["functional", "dispersion", "density_fitting", "natural_orbitals"]


def single_level(short: Mapping[str, Any]) -> dict[str, Any]:
    """Write a single level, `{method, basis}`, as stages.

    Raises:
        ValueError: the basis is missing.
    """
    if "basis" not in short:
        raise ValueError("basis: this key is missing; a single level has a method and a basis")
    method, bases = str(short["method"]).lower(), [short["basis"]]
    rest = {key: value for key, value in short.items() if key not in ("method", "basis", *SINGLE_LEVEL_OPTIONS)}
    options = {key: short[key] for key in SINGLE_LEVEL_OPTIONS if key in short}
    if method in ("hf", "dft"):
        return rest | {"stages": [{"method": method, "bases": bases, **options}]}
    # Coupled cluster starts from orbitals of the same integrals.
    orbitals = {"density_fitting": short.get("density_fitting", method in FITTED)}
    stages = [{"method": "hf", "bases": bases, **orbitals}, {"method": method, "bases": bases, **options}]
    return rest | {"stages": stages}


def demo() -> dict[str, Any]:
    """HF/CBS(DT) + MP2/CBS(DT) + [CCSD(T) - MP2]/cc-pVDZ: for trying things out, some 10 kJ/mol from the limit.

    Ethanol: about 9 CPU seconds and 1 GB a frame, most of it for CCSD(T); with forces 60 and 2 GB.
    """
    return _focal_point(["cc-pvdz", "cc-pvtz"])


def ccsdt_cbs() -> dict[str, Any]:
    """HF/CBS(TQ) + MP2/CBS(TQ) + [CCSD(T) - MP2]/cc-pVDZ: the scheme for reference energies.

    Ethanol: about 17 CPU seconds and 1.2 GB a frame, with forces 130 and 2.4 GB.
    """
    return _focal_point(["cc-pvtz", "cc-pvqz"])


def ccsdt_cbs_tz() -> dict[str, Any]:
    """HF/CBS(TQ) + MP2/CBS(TQ) + [CCSD(T) - MP2]/cc-pVTZ in natural orbitals, all density-fitted: the sharper scheme.

    It shares the orbitals of cc-pVTZ with the extrapolation. Ethanol: about 42 CPU seconds and 1.2 GB a frame.
    """
    correction = {"method": "ccsd(t)", "minus": "mp2", "bases": ["cc-pvtz"]}
    cut = {"density_fitting": True, "natural_orbitals": 1e-4}
    return {"stages": [*ccsdt_cbs()["stages"][:2], correction | cut]}


def mp2_cbs() -> dict[str, Any]:
    """HF/CBS(TQ) + MP2/CBS(TQ), without a coupled-cluster correction.

    Ethanol: about 11 CPU seconds and 1.2 GB a frame, with forces 75 and 2.4 GB.
    """
    return {"stages": ccsdt_cbs()["stages"][:2]}


def dft() -> dict[str, Any]:
    """wB97M-D3BJ/def2-TZVPPD, density-fitted, with analytic forces.

    Ethanol: about 80 CPU seconds and 2 GB a frame, forces included.
    """
    return {"stages": [{"method": "dft", "functional": "wb97m-d3bj", "bases": ["def2-tzvppd"]}]}


def _focal_point(bases: list[str]) -> dict[str, Any]:
    return {
        "stages": [
            {"method": "hf", "bases": bases},
            {"method": "mp2", "bases": bases},
            {"method": "ccsd(t)", "minus": "mp2", "bases": ["cc-pvdz"]},
        ]
    }


PRESETS: dict[str, Callable[[], dict[str, Any]]] = {
    "demo": demo,
    "ccsdt-cbs": ccsdt_cbs,
    "ccsdt-cbs-tz": ccsdt_cbs_tz,
    "mp2-cbs": mp2_cbs,
    "dft": dft,
}
