"""What looks odd about labelled frames: units, outliers, net forces, close atoms, copies. Questions, never refusals.

Data may be relative, of pseudopotentials, of slabs that are held: every finding says what was seen and asks. What of it
is left out where the config says so, `piwsl.data.dropping` decides, by the same measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.units import Hartree
from numpy.typing import NDArray

from piwsl.data.between_levels import FEWEST_FRAMES, Factor, explanation, factor_between
from piwsl.data.copies import SAME_GEOMETRY, compared, copied, energy_ranges, sets_of
from piwsl.data.dataset import PARTS, POOL, TEST, TRAINING
from piwsl.data.strains import doubt_of_stress
from piwsl.data.survey import EVERY_ROW, Formula, Formulas, Survey, joined, survey_of
from piwsl.readers import LabelNames
from piwsl.records import Finding
from piwsl.structures.frames import SHORTEST_BOND
from piwsl.structures.labels import REFERENCE, label_key
from piwsl.structures.units import ENERGY_UNITS, FORCE_UNITS

# Hartree-Fock energies of the free atoms from H to Kr, Hartree, to the milli-Hartree that a sum of them needs.
ATOMS = (
    *(-0.500, -2.862, -7.433, -14.573, -24.529, -37.689, -54.401, -74.809, -99.409, -128.547, -161.859, -199.615),
    *(-241.877, -288.854, -340.719, -397.505, -459.482, -526.818, -599.165, -676.758, -759.736, -848.406, -942.884),
    *(-1043.356, -1149.866, -1262.444, -1381.415, -1506.871, -1638.964, -1777.848, -1923.261, -2075.360, -2234.239),
    *(-2399.868, -2572.441, -2752.055),
)
# Binding, correlation and relativity, Hartree an atom, and their share of the total in heavy ones: what a total may be
# away from the sum of its atoms.
BINDING_AN_ATOM, BINDING_SHARE = 0.15, 0.02
# eV an atom: what thermal motion does not come to. Geometries do: of N2 torn apart each atom is 5 eV higher, one of a
# dimer is as far from the bulk.
OUTLIER_AN_ATOM = 2.0
OUTLIER_SPREADS = 20.0
# eV an atom: where energies are relative, to a minimum or to the elements, those of zero have others as near; totals
# and binding energies are farther from zero.
NEAR_ZERO_AN_ATOM = 1.0
# eV/Å, a Hartree/Bohr: what dynamics at some thousand K does not come to; and times the median of the data.
OUTLIER_FORCE, OUTLIER_TIMES = 51.4, 20.0
# Share of the forces that may be left of their sum, and eV/Å that are noise of any program.
NET_SHARE, NET_FORCE = 0.05, 0.1
# Atoms of an element in a composition that no combination of others has; what is there by rounding is far smaller.
UNSETTLED = 1e-6
# Å: pairs of frames whose atoms differ by less tell whether forces are the slope of the energy.
NEIGHBOUR_FRAMES = 0.5
FRAMES_PAIRED = 300
# Of all formulas.
MOST_PAIRED = 3000
# The same of frames whose forces of two levels are compared, of a file, and of those with a stress.
FRAMES_BESIDE, MOST_BESIDE = 100, 300
NAMES_SHOWN = 5

FrameOf = Callable[[int], Atoms]
NamesOfFiles = Mapping[str, Mapping[str, LabelNames]]
"""Of files, where frames have their labels of each level, those that are learned first."""


class Far(NamedTuple):
    """Rows of a survey that are far from the others, and how far."""

    rows: NDArray[np.int64]
    by: NDArray[np.float64]


class _Seen(NamedTuple):
    """What is odd about some rows of a survey; rows are None where it is the data as a whole."""

    kind: str
    said: str
    rows: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Parts:
    """A survey of training, test and pool frames, one behind the other."""

    survey: Survey
    counts: Mapping[str, int]
    """How many frames of it each part has."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The file that each part is of, where it is of one."""

    @classmethod
    def of(
        cls, frames: Mapping[str, tuple[Survey, NDArray[np.int64]]], files: Mapping[str, str] | None = None
    ) -> Parts:
        """Join frames of "training", "test" and "pool", those that there are: rows of surveys, of these files."""
        there = {part: frames[part] for part in PARTS if part in frames}
        return cls(joined(*there.values()), {part: len(rows) for part, (_, rows) in there.items()}, files or {})

    def rows(self, part: str) -> slice:
        """Return where the frames of a part are."""
        first = sum(self.counts.get(before, 0) for before in PARTS[: PARTS.index(part)])
        return slice(first, first + self.counts.get(part, 0))

    @property
    def labelled(self) -> Survey:
        """Of training and test frames together."""
        return self.survey.rows(slice(0, self.rows(POOL).start))

    def rows_of_files(self) -> dict[str, NDArray[np.int64]]:
        """Return which rows are of each file."""
        rows = {part: np.arange(self.rows(part).start, self.rows(part).stop) for part in self.counts}
        return {
            file: np.concatenate([own for part, own in rows.items() if self.files.get(part, "") == file])
            for file in dict.fromkeys(self.files.get(part, "") for part in self.counts)
        }

    def which(self, rows: NDArray[np.int64]) -> str:
        """Name the first of some rows, by their files."""
        of_file: dict[str, list[NDArray[np.int64]]] = {}
        for part in self.counts:
            own = self.rows(part)
            there = rows[(rows >= own.start) & (rows < own.stop)]
            if len(there):
                of_file.setdefault(self.files.get(part, ""), []).append(there)
        named = ((file, _names(self.survey, np.concatenate(found))) for file, found in of_file.items())
        return "; ".join(f"{file}: {names}" if file else names for file, names in named)


@dataclass(frozen=True)
class _Level:
    """Frames of a file that have labels of a level."""

    name: str
    names: LabelNames
    file: str
    rows: NDArray[np.int64]
    """Which they are of a survey of all parts."""
    survey: Survey
    """Of these frames, with the level's labels."""

    @property
    def rows_with_forces(self) -> NDArray[np.int64]:
        """Those of its rows that have forces."""
        return self.rows[self.survey.with_forces]

    @property
    def said(self) -> str:
        """Names and units of what there is of it."""
        quantities = {"energy": self.survey.with_energy, "forces": self.survey.with_forces}
        there = [quantity for quantity, known in quantities.items() if known.any()]
        return ", ".join(
            f"{getattr(self.names, f'{each}_key')} in {getattr(self.names, f'{each}_unit')}" for each in there
        )

    def slopes(self, frame_of: FrameOf, forces_are_right: bool = False) -> list[_Seen]:
        """Compare its energies with its forces."""
        units = self.names.energy_unit, self.names.forces_unit
        return _slopes(self.survey, lambda row: frame_of(int(self.rows[row])), *units, self.name, forces_are_right)

    def found(self, parts: Parts, seen: Iterable[_Seen]) -> list[Finding]:
        """Return what is odd about it as of a further level of these parts."""
        where = f" in {self.file}" if len({*parts.files.values()}) > 1 else ""
        return [
            Finding(
                kind=kind,
                level=self.name,
                said=f"given_levels.{self.name} ({self.said}){where}: {said}",
                frames=None if rows is None else len(rows),
                which=self.file if rows is None else parts.which(self.rows[rows]),
            )
            for kind, said, rows in seen
        ]


def warnings(
    frames: Mapping[str, Sequence[Atoms]],
    energy_unit: str = "eV",
    forces_unit: str = "eV/Å",
    stress_unit: str = "eV/Å³",
    computed: bool = False,
) -> list[str]:
    """Say what looks odd about a dataset, a line each.

    Args:
        frames: for "training" and "test": labels in `REF_energy` (eV) and `REF_forces` (eV/Å), names in info `frame`;
            for "pool", where there is one, geometries.
        energy_unit: that the energies were read in; other units are measured by it.
        forces_unit: likewise.
        stress_unit: likewise, of `REF_stress` (eV/Å³).
        computed: whether the labels are ours: then only copies are looked for.
    """
    return [found.said for found in findings(frames, energy_unit, forces_unit, stress_unit, computed)]


def findings(
    frames: Mapping[str, Sequence[Atoms]],
    energy_unit: str = "eV",
    forces_unit: str = "eV/Å",
    stress_unit: str = "eV/Å³",
    computed: bool = False,
) -> list[Finding]:
    """Return what looks odd about a dataset; arguments as of `warnings`."""
    formulas, every = Formulas(), [atoms for part in PARTS for atoms in frames.get(part, ())]
    surveys = {part: survey_of(each, formulas) for part, each in frames.items()}
    parts = Parts.of({part: (survey, np.arange(len(survey))) for part, survey in surveys.items()})
    if computed:
        return _found(parts, _copies(parts, every.__getitem__))
    return doubts(parts, every.__getitem__, energy_unit, forces_unit, stress_unit)


def _found(parts: Parts, seen: Iterable[_Seen]) -> list[Finding]:
    return [
        Finding(kind=kind, said=said)
        if rows is None
        else Finding(kind=kind, said=said, frames=len(rows), which=parts.which(rows))
        for kind, said, rows in seen
    ]


def doubts(parts: Parts, frame_of: FrameOf, energy_unit: str, forces_unit: str, stress_unit: str) -> list[Finding]:
    """Return what looks odd about given frames that were surveyed.

    Args:
        parts: the survey.
        frame_of: returns the frame of one of its rows; asked for those of `asked_for` alone.
        energy_unit: as of `warnings`.
        forces_unit: likewise.
        stress_unit: likewise.
    """
    together = parts.labelled
    seen = [
        *_usual_energies(together, energy_unit),
        *_outliers(together, energy_unit),
        *_placeholders(together),
        *_large_forces(together),
        *_net_forces(together),
        *_slopes(together, frame_of, energy_unit, forces_unit),
        *_stresses(together, frame_of, stress_unit),
        *_close_atoms(parts.survey),
        *_copies(parts, frame_of),
        *_unsettled(parts),
    ]
    return _found(parts, seen)


def doubts_of_levels(parts: Parts, frame_of: FrameOf, names: NamesOfFiles) -> list[Finding]:
    """Return what looks odd about labels of further levels: of each file by themselves, and forces beside each other.

    Args:
        parts: a survey with these levels; of labels of a pool that are learned elsewhere nothing is known.
        frame_of: returns the frame of one of its rows; asked for those of `asked_of_levels` alone.
        names: where the files have the labels of each level, and the units that these were read in.
    """
    found = []
    for file, rows in parts.rows_of_files().items():
        levels = _levels_of(parts.survey, file, rows, names.get(file, {}))
        slopes = {name: level.slopes(frame_of) for name, level in levels.items()}
        beside = {level.name: (other, common) for level, other, common in _compared(parts.survey, levels)}
        for name, level in levels.items():
            if name != REFERENCE:
                seen = [*_by_itself(level), *_of_forces(level, slopes, beside.get(name), frame_of)]
                found += level.found(parts, seen)
    return found


def asked_of_levels(parts: Parts, names: NamesOfFiles) -> NDArray[np.int64]:
    """Return the rows of a survey whose frames `doubts_of_levels` asks for, likewise."""
    wanted = [np.empty(0, np.int64)]
    for file, rows in parts.rows_of_files().items():
        levels = _levels_of(parts.survey, file, rows, names.get(file, {}))
        wanted += [level.rows[own] for level in levels.values() for own in _paired(level.survey)]
        wanted += [common for _, _, common in _compared(parts.survey, levels)]
    return np.unique(np.concatenate(wanted))


def asked_for(parts: Parts) -> NDArray[np.int64]:
    """Return the rows of a survey whose frames `doubts` asks for: some thousands, however many there are."""
    paired = [np.empty(0, np.int64), *_paired(parts.labelled), *_paired_in_stress(parts.labelled)]
    return np.union1d(np.concatenate(paired), compared(parts.survey))


def warnings_of_test(
    test: Survey,
    training: Survey,
    frame_of: FrameOf,
    energy_unit: str = "eV",
    forces_unit: str = "eV/Å",
    stress_unit: str = "eV/Å³",
) -> list[Finding]:
    """Return what looks odd about a named test set of given frames, by itself and beside the training frames.

    Args:
        test: survey of frames with labels, as of `warnings`.
        training: likewise; what is odd about these alone is said elsewhere.
        frame_of: returns a test frame by its row.
        energy_unit: that the test frames' energies were read in.
        forces_unit: likewise.
        stress_unit: likewise.
    """
    fits = not _outliers(training, energy_unit)
    both = Parts(joined((training, EVERY_ROW), (test, EVERY_ROW)), {TRAINING: len(training), TEST: len(test)})
    alone = Parts(test, {TEST: len(test)})
    of_test = [
        *_placeholders(test),
        *_large_forces(test),
        *_net_forces(test),
        *_slopes(test, frame_of, energy_unit, forces_unit),
        *_stresses(test, frame_of, stress_unit),
        *_close_atoms(test),
    ]
    return [
        *_found(alone, _usual_energies(test, energy_unit)),
        *(_found(both, _outliers(both.survey, energy_unit)) if fits else []),
        *_found(both, _unsettled(both)),
        *_found(alone, of_test),
    ]


def copies_of(known: Survey, frames: Survey, frame_of: FrameOf) -> list[int]:
    """Return the positions of frames that have the geometry of a known one, turned, shifted or renumbered.

    Args:
        known: survey of frames.
        frames: likewise.
        frame_of: returns a frame by its row, first the known ones.
    """
    sets = sets_of(joined((known, EVERY_ROW), (frames, EVERY_ROW)), frame_of)
    found: list[int] = np.flatnonzero(np.isin(sets[len(known) :], sets[: len(known)])).tolist()
    return found


def _names(survey: Survey, rows: NDArray[np.int64]) -> str:
    """Name a few frames."""
    return f"{', '.join(map(str, survey.names[rows[:NAMES_SHOWN]]))}{', ...' if len(rows) > NAMES_SHOWN else ''}"


def _factors(units: dict[str, float], read_in: str) -> dict[str, float]:
    """Return by what labels would have to be multiplied, had they been in another unit or of the other sign."""
    others = {f"in {unit}": scale / units[read_in] for unit, scale in units.items() if unit != read_in}
    return others | {"of the opposite sign": -1.0}


def _usual(survey: Survey, factor: float = 1.0) -> NDArray[np.bool_]:
    """Return of which frames the energy, times a factor, is a usual total energy; never of elements beyond Kr."""
    table = np.array([0.0, *ATOMS] + [np.nan] * (len(chemical_symbols) - len(ATOMS) - 1)) * Hartree
    sums = np.array([table[formula.elements].sum() for formula in survey.formulas])
    sizes = np.array([len(formula.numbers) for formula in survey.formulas])
    allowed = BINDING_SHARE * np.abs(sums) + BINDING_AN_ATOM * Hartree * sizes
    return np.abs(factor * survey.energies - sums[survey.formula]) < allowed[survey.formula]  # false for NaN


def _are_usual(survey: Survey) -> bool:
    """Whether most energies are usual totals, so that their unit and sign are beyond doubt."""
    return bool(_usual(survey).sum() > 0.5 * survey.with_energy.sum())


def _usual_energies(survey: Survey, energy_unit: str) -> list[_Seen]:
    """Compare totals with the sum of the atoms' energies: only where another unit or sign makes them agree, ask."""
    asked = "energies: {}are they {}? Times {:.6g} they are usual total energies of these elements"
    return [
        _Seen("unit", asked.format(_which(meant, survey), how, factor), meant)
        for how, factor, meant in _mistaken(survey, energy_unit)
    ]


def _mistaken(survey: Survey, energy_unit: str) -> list[tuple[str, float, NDArray[np.int64]]]:
    """Return the rows whose energies are usual totals in another unit or of the other sign, and in which."""
    unusual = ~_usual(survey)
    found = []
    for how, factor in _factors(ENERGY_UNITS, energy_unit).items() if unusual.any() else ():
        meant = np.flatnonzero(unusual & _usual(survey, factor))
        found += [(how, factor, meant)] if len(meant) else []
    return found


def _which(rows: NDArray[np.int64], survey: Survey) -> str:
    """Name some of the frames with an energy, unless they are all."""
    count = int(survey.with_energy.sum())
    return "" if len(rows) == count else f"{len(rows)} of {count} frames (frame {_names(survey, rows)}): "


def _outliers(survey: Survey, energy_unit: str) -> list[_Seen]:
    """Find frames whose energies are far from a sum over their elements that fits the others, for no reason known."""
    looked_at = np.flatnonzero(survey.with_energy & ~_explained(survey, energy_unit) & ~_stand_for_none(survey))
    (far, by), fitted = _far_from_fit(survey, looked_at)
    if not len(far):
        return []
    ratio = float(np.median(survey.energies[far] / fitted)) if fitted.all() else np.nan
    fitting = [how for how, factor in _factors(ENERGY_UNITS, energy_unit).items() if abs(ratio * factor - 1) < 0.02]
    why = f"; are they {fitting[0]}?" if fitting else ""
    said = (
        f"energies: {len(far)} of {len(looked_at)} frames (frame {_names(survey, far)}) are up to "
        f"{by.max():.3g} eV an atom away from what fits the others{why}"
    )
    return [_Seen("energy_outliers", said, far)]


def energy_outliers(survey: Survey, energy_unit: str) -> Far:
    """Return the frames whose energies are far from a sum over their elements that fits the others, eV an atom.

    Those that another unit would explain are among them where they are the fewer: most are in the unit that was said.
    Single atoms are not: they are far from molecules, and as they should be. Zeros that stand for none are, by what an
    atom of the others has; they are not fitted to, for many of them would make the others outliers.
    """
    zeros, explained = _stand_for_none(survey), _explained(survey, energy_unit)
    known, several = survey.with_energy & ~zeros, survey.sizes > 1
    few = 2 * np.count_nonzero(explained) < np.count_nonzero(known)
    (rows, by), _ = _far_from_fit(survey, np.flatnonzero(known if few else known & ~explained))
    found = np.zeros(len(survey))
    found[rows] = by
    if zeros.any() and (others := known & several).any():
        found[zeros] = np.median(np.abs(survey.energies[others]) / survey.sizes[others])
    far = np.flatnonzero((found > 0) & several)
    return Far(far, found[far])


def _explained(survey: Survey, energy_unit: str) -> NDArray[np.bool_]:
    """Return of which frames the energy is a usual total energy in another unit or of the other sign."""
    explained = np.zeros(len(survey), dtype=bool)
    for _, _, meant in _mistaken(survey, energy_unit):
        explained[meant] = True
    return explained


def _far_from_fit(survey: Survey, rows: NDArray[np.int64]) -> tuple[Far, NDArray[np.float64]]:
    """Return which of some rows, with energies, are far from what fits these, and the fitted energies of those, eV."""
    if len(rows) < 5:
        return Far(rows[:0], np.empty(0)), np.empty(0)
    survey = survey if len(rows) == len(survey) else survey.rows(rows)
    fitted = _fitted_to_most(survey)
    residuals = np.abs(survey.energies - fitted) / survey.sizes
    spread = 1.4826 * float(np.median(residuals))
    far = np.flatnonzero(residuals > max(OUTLIER_SPREADS * spread, OUTLIER_AN_ATOM))
    return Far(rows[far], residuals[far]), fitted[far]


def _counts(formulas: Sequence[Formula]) -> NDArray[np.float64]:
    """Return (formulas, elements + states): how many atoms of each element they have, and which charge and spin.

    The first state has no column. Others have a constant of their own: ionising costs as much whatever the size.
    """
    elements = sorted({int(number) for formula in formulas for number in formula.elements})
    states = [*dict.fromkeys((formula.charge, formula.multiplicity) for formula in formulas)][1:]
    return np.array(
        [
            [formula.numbers.count(element) for element in elements]
            + [(formula.charge, formula.multiplicity) == state for state in states]
            for formula in formulas
        ],
        float,
    )


def _fitted_to_most(survey: Survey) -> NDArray[np.float64]:
    """Return energies of a fit of atomic references, and a constant of each charge and spin, by least absolute errors.

    Few wrong frames do not bend it.

    Frames of a formula have one fitted energy, so that their weighted mean stands for them all in each step.
    """
    there, formula = np.unique(survey.formula, return_inverse=True)
    formulas = [*survey.formulas]
    counts, energies = _counts([formulas[index] for index in there]), survey.energies
    weights, fitted = np.ones(len(energies)), np.empty(0)
    for _ in range(50):
        total = np.bincount(formula, weights)
        root = np.sqrt(total)
        means = np.bincount(formula, weights * energies) / total
        references, *_ = np.linalg.lstsq(counts * root[:, None], means * root, rcond=None)
        fitted = (counts @ references)[formula]
        weights = 1 / np.maximum(np.abs(energies - fitted), 1e-6)
    return fitted


def _stand_for_none(survey: Survey) -> NDArray[np.bool_]:
    """Return of which frames the energy is zero to the last bit, which no calculation gives to several.

    A single atom's may be, where energies are those of binding. None is where others are near zero, too.
    """
    several = survey.with_energy & (survey.sizes > 1)
    zero = several & (survey.energies == 0)
    near = several & ~zero & (np.abs(survey.energies) < NEAR_ZERO_AN_ATOM * survey.sizes)
    return zero if np.count_nonzero(zero) > 1 and not near.any() else np.zeros_like(zero)


def _placeholders(survey: Survey) -> list[_Seen]:
    """Find labels that stand for none: forces of zero, energies of zero, one energy for all geometries."""
    found, energies = [], survey.energies[survey.with_energy]
    if len(still := np.flatnonzero((survey.sums_of_forces == 0) & (survey.sizes > 1))):
        said = (
            f"forces: those of {len(still)} frames (frame {_names(survey, still)}) are all zero; where there are none, "
            "the column is left out"
        )
        found.append(_Seen("placeholders", said, still))
    if len(zeros := np.flatnonzero(_stand_for_none(survey))):
        said = (
            f"energies: those of {len(zeros)} of {len(energies)} frames (frame {_names(survey, zeros)}) are exactly "
            "zero; a frame without one has nothing in its place"
        )
        found.append(_Seen("placeholders", said, zeros))
    elif len(energies) > 2 and np.ptp(energies) == 0:
        said = f"energies: all {len(energies)} frames have the same one, {energies[0]:.6g} eV"
        found.append(_Seen("placeholders", said))
    return found


def force_outliers(survey: Survey) -> Far:
    """Return the frames with a force that is far larger than the largest of most frames; that force, eV/Å."""
    largest = survey.largest_forces
    if not survey.with_forces.any():
        return Far(np.empty(0, np.int64), np.empty(0))
    far = np.flatnonzero(largest > max(OUTLIER_FORCE, OUTLIER_TIMES * float(np.nanmedian(largest))))  # false for NaN
    return Far(far, largest[far])


def _large_forces(survey: Survey) -> list[_Seen]:
    far, by = force_outliers(survey)
    if not len(far):
        return []
    said = (
        f"forces: {len(far)} of {np.count_nonzero(survey.with_forces)} frames (frame {_names(survey, far)}) have one "
        f"of up to {by.max():.3g} eV/Å, far beyond the others; did their calculations converge?"
    )
    return [_Seen("force_outliers", said, far)]


def net_forces(survey: Survey) -> Far:
    """Return the frames whose forces do not add up to nothing; their sum, eV/Å."""
    nets = survey.net_forces
    several = survey.with_forces & (survey.sizes > 1)
    moving = np.flatnonzero(several & (nets > np.maximum(NET_FORCE, NET_SHARE * survey.sums_of_forces)))
    return Far(moving, nets[moving])


def _net_forces(survey: Survey) -> list[_Seen]:
    moving, by = net_forces(survey)
    if not len(moving):
        return []
    labelled = np.count_nonzero(survey.with_forces & (survey.sizes > 1))
    said = (
        f"forces: those of {len(moving)} of {labelled} frames (frame {_names(survey, moving)}) do "
        f"not add up to zero, but to as much as {by.max():.3g} eV/Å; are they the right columns, of all "
        "atoms, without an outer field?"
    )
    return [_Seen("net_forces", said, moving)]


def close_atoms(survey: Survey) -> Far:
    """Return the frames with atoms nearer than any bond is short; how near, Å."""
    close = np.flatnonzero(~np.isnan(survey.crowding))
    return Far(close, survey.crowding[close].astype(float))


def _close_atoms(survey: Survey) -> list[_Seen]:
    close, distances = close_atoms(survey)
    if not len(close):
        return []
    said = (
        f"geometries: {len(close)} of {len(survey)} frames (frame {_names(survey, close)}) have atoms nearer than "
        f"{SHORTEST_BOND:g} times the sum of their covalent radii, as near as {distances.min():.3g} Å; no "
        "bond is so short, are coordinates in Å, and these frames meant?"
    )
    return [_Seen("close_atoms", said, close)]


def _slopes(
    survey: Survey,
    frame_of: FrameOf,
    energy_unit: str,
    forces_unit: str,
    level: str = REFERENCE,
    forces_are_right: bool = False,
) -> list[_Seen]:
    """Compare energy differences of neighbouring frames with the work of their forces, both of a level."""
    pairs = _work_and_difference([[frame_of(row) for row in rows.tolist()] for rows in _paired(survey)], level)
    if len(pairs) < 4:
        return []
    work, difference = pairs.T
    scale = np.sqrt((work @ work) * (difference @ difference))
    if scale == 0 or abs(work @ difference) < 0.9 * scale:
        return []
    slope = float(np.sqrt((difference @ difference) / (work @ work)) * np.sign(work @ difference))
    if 0.6 < slope < 1.67:
        return []
    factors = {} if forces_are_right else {"are the forces": _factors(FORCE_UNITS, forces_unit)}
    if not _are_usual(survey):
        factors["are the energies"] = _factors(ENERGY_UNITS, energy_unit)
    hypotheses = [
        (abs(np.log(np.abs(expected / slope))), f"{what} {how}")
        for what, by_how in factors.items()
        for how, factor in by_how.items()
        for expected in [1 / factor if what == "are the energies" else factor]
        if expected * slope > 0
    ]
    off, _ = min(hypotheses, default=(np.inf, ""))
    question = (
        f"{' or '.join(likely for other, likely in hypotheses if other == off)}?"
        if off < np.log(1.3)
        else "are both in the units that were said, and are these forces, not gradients?"
    )
    said = f"forces: between neighbouring frames energies change by {slope:.3g} times what the forces say; {question}"
    return [_Seen("unit", said)]


def _paired(survey: Survey) -> list[NDArray[np.int64]]:
    """Return rows of frames of a formula that pairs are looked for among, of the most frequent formulas."""
    rows = np.flatnonzero(survey.with_forces & survey.with_energy)
    return _of_frequent(survey, rows, FRAMES_PAIRED, MOST_PAIRED)


def _stresses(survey: Survey, frame_of: FrameOf, stress_unit: str) -> list[_Seen]:
    """Compare energies of neighbouring cells with their stress."""
    groups = [[frame_of(row) for row in rows.tolist()] for rows in _paired_in_stress(survey)]
    said = doubt_of_stress(groups, stress_unit)
    return [] if said is None else [_Seen("unit", said)]


def _paired_in_stress(survey: Survey) -> list[NDArray[np.int64]]:
    """Return rows of frames with a stress, as `_paired` those with forces."""
    return _of_frequent(survey, np.flatnonzero(survey.with_stress & survey.with_energy), FRAMES_BESIDE, MOST_BESIDE)


def _of_frequent(survey: Survey, rows: NDArray[np.int64], of_each: int, most: int) -> list[NDArray[np.int64]]:
    """Return some of the rows of a survey by formula, those of the most frequent formulas."""
    rows = rows[np.argsort(survey.formula[rows], kind="stable")]
    groups = np.split(rows, np.flatnonzero(np.diff(survey.formula[rows])) + 1)
    chosen = [
        group[np.unique(np.linspace(0, len(group) - 1, of_each).astype(int))]
        for group in sorted(groups, key=len, reverse=True)
        if len(group) > 1
    ]
    counts = accumulate(map(len, chosen))
    return [group for group, count in zip(chosen, counts, strict=True) if count <= most]


def _work_and_difference(groups: Sequence[Sequence[Atoms]], level: str) -> NDArray[np.float64]:
    """Return (P, 2), eV: work of the mean force and difference of energy, of each frame and the nearest of its kind."""
    energy_key, forces_key = label_key(level, "energy"), label_key(level, "forces")
    rows = []
    for chosen in groups:
        positions = np.array([atoms.positions for atoms in chosen])
        for index, atoms in enumerate(chosen):
            moved = np.linalg.norm(positions - positions[index], axis=2).max(axis=1)
            moved[moved < SAME_GEOMETRY] = np.inf
            nearest = int(np.argmin(moved))
            if moved[nearest] < NEIGHBOUR_FRAMES and np.array_equal(atoms.numbers, chosen[nearest].numbers):
                mean = (atoms.arrays[forces_key] + chosen[nearest].arrays[forces_key]) / 2
                work = -np.sum(mean * (positions[nearest] - positions[index]))
                rows.append((work, chosen[nearest].info[energy_key] - atoms.info[energy_key]))
    return np.array(rows).reshape(-1, 2)


def _levels_of(
    survey: Survey, file: str, rows: NDArray[np.int64], names: Mapping[str, LabelNames]
) -> dict[str, _Level]:
    """Return the levels that rows of a survey, those of one file, have labels of."""
    found = {}
    for name, said in names.items():
        own = survey.of_level(name)
        there = rows[(own.with_forces | own.with_energy)[rows]]
        if len(there):
            found[name] = _Level(name, said, file, there, own if len(there) == len(own) else own.rows(there))
    return found


def _by_itself(level: _Level) -> list[_Seen]:
    """Return what is odd about labels of a level, frame by frame."""
    survey = level.survey
    return [
        *_usual_energies(survey, level.names.energy_unit),
        *_outliers(survey, level.names.energy_unit),
        *_placeholders(survey),
        *_large_forces(survey),
        *_net_forces(survey),
    ]


def _of_forces(
    level: _Level,
    slopes: Mapping[str, list[_Seen]],
    compared: tuple[_Level, NDArray[np.int64]] | None,
    frame_of: FrameOf,
) -> list[_Seen]:
    """Return what is odd about forces of a level: by its energies, and beside another, which tells them from these.

    Args:
        level: the level.
        slopes: what is odd about forces of each level by its energies.
        compared: another level, and rows of frames that have forces of both; None where there is none.
        frame_of: returns the frame of a row.
    """
    own = slopes[level.name]
    if compared is None or slopes[compared[0].name]:  # where forces of the other may be what is odd
        return own
    other, rows = compared
    keys = (label_key(each.name, "forces") for each in (level, other))
    factor = factor_between([frame_of(row) for row in rows.tolist()], *keys)
    if factor.is_odd:
        return [_beside(level, other, factor, len(rows))]
    return level.slopes(frame_of, forces_are_right=True) if own and factor.is_usual else own


def _compared(survey: Survey, levels: Mapping[str, _Level]) -> list[tuple[_Level, _Level, NDArray[np.int64]]]:
    """Return each level with the first before it whose forces some of its frames have, too, and rows of such frames."""
    found, before = [], list[_Level]()
    for level in levels.values():
        common = ((other, rows) for other in before if len(rows := _rows_of_both(survey, level, other)))
        if (first := next(common, None)) is not None:
            found.append((level, *first))
        before.append(level)
    return found


def _rows_of_both(survey: Survey, level: _Level, other: _Level) -> NDArray[np.int64]:
    """Return some rows of frames that have forces of two levels, where enough are of one formula."""
    rows, known = level.rows_with_forces, np.zeros(len(survey), dtype=bool)
    known[other.rows_with_forces] = True
    both = rows[known[rows]]
    groups = _of_frequent(survey, both, FRAMES_BESIDE, MOST_BESIDE)
    return np.concatenate([both[:0], *(rows for rows in groups if len(rows) >= FEWEST_FRAMES)])


def _beside(level: _Level, other: _Level, factor: Factor, frames: int) -> _Seen:
    """Say that forces of a level change by a multiple of what those of another do, and ask why."""
    where = f"{other.names.forces_key} in {other.names.forces_unit}"
    those = f"of the labels ({where})" if other.name == REFERENCE else f"of given_levels.{other.name} ({where})"
    said = (
        f"forces: as bonds stretch from frame to frame they change by {factor.value:.3g} times what those {those} do, "
        f"on {frames} frames; {explanation(factor.value, level.names.forces_unit, other.names.forces_unit)}"
    )
    return _Seen("unit", said)


def _unsettled(parts: Parts) -> list[_Seen]:
    """Find test frames with an energy that atomic references of the training frames cannot tell.

    Their composition is no linear combination of those of training frames with an energy; or they are free atoms of an
    element that these have in molecules alone, where a fit takes their binding for the atoms' own.
    """
    survey, with_energy = parts.survey, np.flatnonzero(parts.survey.with_energy)
    learned, tested = (
        with_energy[(with_energy >= own.start) & (with_energy < own.stop)]
        for own in (parts.rows(TRAINING), parts.rows(TEST))
    )
    if not (len(learned) and len(tested)):
        return []
    known, counts = np.unique(survey.formula[learned]), _atoms_of_elements([*survey.formulas])
    open_ = np.abs(counts - counts @ np.linalg.pinv(counts[known]) @ counts[known]).max(axis=1) > UNSETTLED
    if counts[known].sum(axis=1).max() > 1:
        open_ |= (counts.sum(axis=1) == 1) & ~np.isin(np.arange(len(counts)), known)
    rows = tested[open_[survey.formula[tested]]]
    if not len(rows):
        return []
    said = (
        f"compositions: {len(rows)} of {len(tested)} test frames (frame {_names(survey, rows)}) are free atoms, or of "
        "compositions that are no sum of those of training frames; fitted atomic references may miss their energies by "
        "hundreds of eV: test on others, or say atomic_references: free_atoms"
    )
    return [_Seen("compositions", said, rows)]


def _atoms_of_elements(formulas: Sequence[Formula]) -> NDArray[np.float64]:
    """Return (formulas, elements): how many atoms of each element they have."""
    elements = sorted({element for formula in formulas for element in formula.numbers})
    return np.array([[formula.numbers.count(element) for element in elements] for formula in formulas], float)


def _copies(parts: Parts, frame_of: FrameOf) -> list[_Seen]:
    """Find frames of one geometry, turned, shifted or renumbered: within training or test, and those of two parts."""
    sets = sets_of(parts.survey, frame_of)
    training, test, pool = (sets[parts.rows(part)] for part in (TRAINING, TEST, POOL))

    def said(part: str, which: NDArray[np.bool_], what: str) -> list[_Seen]:
        rows = parts.rows(part).start + np.flatnonzero(which)
        count = f"{len(rows)} of {len(which)} {part} frames (frame {_names(parts.survey, rows)})"
        return [_Seen("duplicates", f"copies: {count} have the geometry of {what}", rows)] if len(rows) else []

    return [
        *said(TRAINING, _again(training), "another; they teach nothing, and may be in training and validation"),
        *said(TEST, _again(test), "another; the errors count that geometry more than once"),
        *said(TEST, np.isin(test, training), "a training frame; errors on them say nothing"),
        *said(POOL, np.isin(pool, training), "a training frame, which is labelled; the pool is for others"),
        *said(POOL, np.isin(pool, test), "a test frame; a model that learns from the pool has seen it"),
        *_contradicting(parts, sets),
    ]


def _again(sets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of some frames have the geometry of one before, of the sets that they are of."""
    again = np.ones(len(sets), dtype=bool)
    again[np.unique(sets, return_index=True)[1]] = False
    return again


def _contradicting(parts: Parts, sets: NDArray[np.int64]) -> list[_Seen]:
    """Find labelled frames of one geometry whose energies are not those of one level or state."""
    survey = parts.labelled
    rows = copied(sets[: len(survey)])
    apart = energy_ranges(survey.rows(rows), sets[rows])
    rows = rows[apart > 0]
    if not len(rows):
        return []
    said = (
        f"copies: {len(rows)} of {len(survey)} frames (frame {_names(survey, rows)}) have the geometry of another and "
        f"energies that contradict each other, by up to {apart.max():.3g} eV; none of them is dropped, which are right?"
    )
    return [_Seen("duplicates", said, rows)]
