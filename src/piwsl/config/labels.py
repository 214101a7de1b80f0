"""Keys that say where frames of the user's have their labels, and in which units."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from piwsl.config.section import Section, nearest
from piwsl.readers import READERS, LabelNames
from piwsl.structures.labels import label_key
from piwsl.structures.units import ENERGY_SPELLINGS, FORCE_SPELLINGS, STRESS_SPELLINGS, canonical_unit

LABELS = [field.name for field in fields(LabelNames)]


def _unit(spellings: dict[str, str]) -> BeforeValidator:
    """Take the usual spellings of a unit for its name here."""

    def validate(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        name = canonical_unit(value, spellings)
        if name not in spellings.values():
            raise ValueError(f"no unit '{value[:40]}'; {nearest(name, list(dict.fromkeys(spellings.values())))}")
        return name

    return BeforeValidator(validate)


EnergyUnit = Annotated[Literal["eV", "Hartree", "kcal/mol", "kJ/mol"], _unit(ENERGY_SPELLINGS)]
ForcesUnit = Annotated[Literal["eV/Å", "Hartree/Bohr", "Hartree/Å", "kcal/mol/Å", "kJ/mol/Å"], _unit(FORCE_SPELLINGS)]
StressUnit = Annotated[Literal["eV/Å³", "GPa", "kbar", "Hartree/Bohr³"], _unit(STRESS_SPELLINGS)]


def _known_format(name: str | None) -> str | None:
    if name is not None and name not in READERS:
        raise ValueError(f"no format '{name[:40]}'; {nearest(name, list(READERS))}")
    return name


Format = Annotated[
    str | None,
    Field(
        description="What reads the files: extxyz, ase (.traj, .db, .json, OUTCAR, ...), rmd17, sgdml, npz, ani1x, "
        "ani1ccx, spice, aenet, n2p2, or a reader that is installed. Default: by the end of a file's name, else extxyz."
    ),
    AfterValidator(_known_format),
]
EnergyKey = Annotated[
    str | None,
    Field(
        description="Where a frame's info has its total energy. Default, as of the keys and units below: by format; of "
        "extxyz REF_energy, of ase energy."
    ),
]
ForcesKey = Annotated[
    str | None, Field(description="Which column holds the forces. Of extxyz REF_forces, of ase forces.")
]
StressKey = Annotated[
    str | None,
    Field(
        description="Where a frame's info has its stress, if any: 3 x 3, or xx, yy, zz, yz, xz, xy; negative on the "
        "diagonal under pressure. Of extxyz REF_stress, of ase stress."
    ),
]
EnergyUnitOrNone = Annotated[
    EnergyUnit | None,
    Field(description="Of the energies; also as people write it: Ha, kcal/mol, ... Of extxyz and ase eV."),
]
ForcesUnitOrNone = Annotated[
    ForcesUnit | None,
    Field(description="Of all forces; also as people write it: Ha/a0, kcal/mol/A, ... Of extxyz and ase eV/Å."),
]
StressUnitOrNone = Annotated[StressUnit | None, Field(description="Of the stress. Of extxyz and ase eV/Å³.")]


class GivenLevel(Section):
    """A further level whose labels frames of a file hold beside those that are learned."""

    energy_key: str | None = Field(
        None, description="Where a frame's info has the level's total energy. Default: NAME_energy."
    )
    forces_key: str | None = Field(
        None, description="Which column holds the level's forces, if any. Default: NAME_forces."
    )
    energy_unit: EnergyUnit | None = Field(None, description="Of its energies. Default: that of the labels.")
    forces_unit: ForcesUnit | None = Field(None, description="Of its forces. Default: that of the labels.")
    level: str | None = Field(None, max_length=200, description="The level of theory in words, for the report.")

    def names(self, name: str, beside: LabelNames) -> LabelNames:
        """Return where its labels stand, and their units.

        Args:
            name: of the level.
            beside: the same of the labels of the file.
        """
        said = {key: value for key in LABELS if (value := getattr(self, key, None)) is not None}
        by_name = {"energy_key": label_key(name, "energy"), "forces_key": label_key(name, "forces")}
        return replace(beside, **{**by_name, **said})
