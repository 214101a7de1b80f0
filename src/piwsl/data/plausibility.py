"""What looks odd about labelled frames: units, single outliers, net forces, copies. Questions, never refusals.

Data may be relative, of pseudopotentials, of slabs that are held: every warning says what was seen and asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.units import Hartree
from numpy.typing import NDArray

from piwsl.data.dataset import POOL, TEST, TRAINING
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY
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
# eV an atom: no geometry is that far from the others of its data, bonds torn apart included.
OUTLIER_AN_ATOM = 2.0
OUTLIER_SPREADS = 20.0
# Share of the forces that may be left of their sum, and eV/Å that are noise of any program.
NET_SHARE, NET_FORCE = 0.05, 0.1
# Å: frames that agree so far in all distances are one; dimers with independent bond lengths come nearer than 1e-3.
SAME_GEOMETRY = 1e-5
# Å: pairs of frames whose atoms differ by less tell whether forces are the slope of the energy.
NEIGHBOUR_FRAMES = 0.5
FRAMES_PAIRED = 300
NAMES_SHOWN = 5


def warnings(
    frames: dict[str, list[Atoms]], energy_unit: str = "eV", forces_unit: str = "eV/Å", computed: bool = False
) -> list[str]:
    """Say what looks odd about a dataset, a line each.

    Args:
        frames: for "training" and "test": labels in `REF_energy` (eV) and `REF_forces` (eV/Å), names in info `frame`;
            for "pool", where there is one, geometries.
        energy_unit: that the energies were read in; other units are measured by it.
        forces_unit: likewise.
        computed: whether the labels are ours: then only copies are looked for.
    """
    together = [atoms for part in (TRAINING, TEST) for atoms in frames[part]]
    if computed:
        return [*_copies(frames)]
    return [
        *_usual_energies(together, energy_unit),
        *_outliers(together, energy_unit),
        *_placeholders(together),
        *_net_forces(together),
        *_slopes(together, energy_unit, forces_unit, _are_usual(together)),
        *_copies(frames),
    ]


def warnings_of_test(
    test: list[Atoms], training: list[Atoms], energy_unit: str = "eV", forces_unit: str = "eV/Å"
) -> list[str]:
    """Say what looks odd about a named test set of given frames, by itself and beside the training frames.

    Args:
        test: frames with labels, as of `warnings`.
        training: likewise; what is odd about these alone is said elsewhere.
        energy_unit: that the test frames' energies were read in.
        forces_unit: likewise.
    """
    fits = not _outliers(training, energy_unit)
    return [
        *_usual_energies(test, energy_unit),
        *(_outliers([*training, *test], energy_unit) if fits else []),
        *_placeholders(test),
        *_net_forces(test),
        *_slopes(test, energy_unit, forces_unit, _are_usual(test)),
    ]


def copies_of(known: Sequence[Atoms], frames: Sequence[Atoms]) -> list[int]:
    """Return the positions of frames that have the geometry of a known one, turned, shifted or renumbered."""
    position = {id(atoms): index for index, atoms in enumerate(frames)}
    same = [found for group in _by_formula([*known, *frames]) for found in _alike(group)]
    mixed = [found for found in same if any(id(atoms) not in position for atoms in found)]
    return sorted(position[id(atoms)] for found in mixed for atoms in found if id(atoms) in position)


def _energies(frames: Sequence[Atoms]) -> NDArray[np.float64]:
    return np.array([atoms.info[ENERGY_KEY] for atoms in frames])


def _names(frames: Sequence[Atoms]) -> str:
    """Name a few frames by what their info calls them."""
    names = [str(atoms.info.get("frame", "?")) for atoms in frames[:NAMES_SHOWN]]
    return f"{', '.join(names)}{', ...' if len(frames) > NAMES_SHOWN else ''}"


def _factors(units: dict[str, float], read_in: str) -> dict[str, float]:
    """Return by what labels would have to be multiplied, had they been in another unit or of the other sign."""
    others = {f"in {unit}": scale / units[read_in] for unit, scale in units.items() if unit != read_in}
    return others | {"of the opposite sign": -1.0}


def _usual(frames: list[Atoms], factor: float = 1.0) -> NDArray[np.bool_]:
    """Return of which frames the energy, times a factor, is a usual total energy; never of elements beyond Kr."""
    table = np.array([0.0, *ATOMS] + [np.nan] * (len(chemical_symbols) - len(ATOMS) - 1)) * Hartree
    sums = np.array([table[atoms.numbers].sum() for atoms in frames])
    allowed = BINDING_SHARE * np.abs(sums) + BINDING_AN_ATOM * Hartree * np.array([len(atoms) for atoms in frames])
    return np.abs(factor * _energies(frames) - sums) < allowed  # false for NaN


def _are_usual(frames: list[Atoms]) -> bool:
    """Whether most energies are usual totals, so that their unit and sign are beyond doubt."""
    return bool(_usual(frames).mean() > 0.5)


def _usual_energies(frames: list[Atoms], energy_unit: str) -> list[str]:
    """Compare totals with the sum of the atoms' energies: only where another unit or sign makes them agree, ask."""
    return [
        f"energies: {_which(meant, frames)}are they {how}? Times {factor:.6g} they are usual total energies of these "
        "elements"
        for how, factor, meant in _mistaken(frames, energy_unit)
    ]


def _mistaken(frames: list[Atoms], energy_unit: str) -> list[tuple[str, float, list[Atoms]]]:
    """Return the frames whose energies are usual totals in another unit or of the other sign, and in which."""
    unusual = [atoms for atoms, usual in zip(frames, _usual(frames), strict=True) if not usual]
    found = []
    for how, factor in _factors(ENERGY_UNITS, energy_unit).items() if unusual else ():
        meant = [atoms for atoms, usual in zip(unusual, _usual(unusual, factor), strict=True) if usual]
        found += [(how, factor, meant)] if meant else []
    return found


def _which(some: list[Atoms], frames: list[Atoms]) -> str:
    """Name some of the frames, unless they are all."""
    return "" if len(some) == len(frames) else f"{len(some)} of {len(frames)} frames (frame {_names(some)}): "


def _outliers(frames: list[Atoms], energy_unit: str) -> list[str]:
    """Find frames whose energies are far from a sum over their elements that fits the others, for no reason known."""
    explained = {id(atoms) for _, _, meant in _mistaken(frames, energy_unit) for atoms in meant}
    frames = [atoms for atoms in frames if id(atoms) not in explained]
    if len(frames) < 5:
        return []
    numbers, energies = np.array([len(atoms) for atoms in frames]), _energies(frames)
    fitted = _fitted_to_most(_counts(frames), energies)
    residuals = (energies - fitted) / numbers
    spread = 1.4826 * float(np.median(np.abs(residuals)))
    far = np.abs(residuals) > max(OUTLIER_SPREADS * spread, OUTLIER_AN_ATOM)
    if not far.any():
        return []
    odd = [atoms for atoms, is_far in zip(frames, far, strict=True) if is_far]
    ratio = float(np.median(energies[far] / fitted[far])) if fitted[far].all() else np.nan
    fitting = [how for how, factor in _factors(ENERGY_UNITS, energy_unit).items() if abs(ratio * factor - 1) < 0.02]
    why = f"; are they {fitting[0]}?" if fitting else ""
    largest = float(np.abs(residuals).max())
    return [
        f"energies: {len(odd)} of {len(frames)} frames (frame {_names(odd)}) are up to {largest:.3g} eV an atom away "
        f"from what fits the others{why}"
    ]


def _counts(frames: list[Atoms]) -> NDArray[np.float64]:
    """Return (M, elements): how many atoms of each element the frames have."""
    elements = sorted({int(number) for atoms in frames for number in atoms.numbers})
    return np.array([[np.count_nonzero(atoms.numbers == element) for element in elements] for atoms in frames], float)


def _fitted_to_most(counts: NDArray[np.float64], energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return energies of a fit of atomic references by least absolute errors: few wrong frames do not bend it."""
    weights = np.ones(len(energies))
    fitted = np.full_like(energies, np.median(energies))
    for _ in range(50):
        root = np.sqrt(weights)
        references, *_ = np.linalg.lstsq(counts * root[:, None], energies * root, rcond=None)
        fitted = counts @ references
        weights = 1 / np.maximum(np.abs(energies - fitted), 1e-6)
    return fitted


def _with_forces(frames: list[Atoms]) -> list[Atoms]:
    return [atoms for atoms in frames if FORCES_KEY in atoms.arrays and len(atoms) > 1]


def _placeholders(frames: list[Atoms]) -> list[str]:
    """Find labels that stand for none: forces of zero, one energy for all geometries."""
    found = []
    if still := [atoms for atoms in _with_forces(frames) if not atoms.arrays[FORCES_KEY].any()]:
        found.append(
            f"forces: those of {len(still)} frames (frame {_names(still)}) are all zero; where there are none, "
            "the column is left out"
        )
    if len(frames) > 2 and np.ptp(_energies(frames)) == 0:
        found.append(f"energies: all {len(frames)} frames have the same one, {_energies(frames)[0]:.6g} eV")
    return found


def _net_forces(frames: list[Atoms]) -> list[str]:
    """Find frames whose forces do not add up to nothing."""
    labelled = _with_forces(frames)
    nets = np.array([np.linalg.norm(atoms.arrays[FORCES_KEY].sum(axis=0)) for atoms in labelled])
    scales = np.array([np.linalg.norm(atoms.arrays[FORCES_KEY], axis=1).sum() for atoms in labelled])
    moving = [
        atoms
        for atoms, net, scale in zip(labelled, nets, scales, strict=True)
        if net > max(NET_FORCE, NET_SHARE * scale)
    ]
    if not moving:
        return []
    return [
        f"forces: those of {len(moving)} of {len(labelled)} frames (frame {_names(moving)}) do not add up to zero, but "
        f"to as much as {nets.max():.3g} eV/Å; are they the right columns, of all atoms, without an outer field?"
    ]


def _slopes(frames: list[Atoms], energy_unit: str, forces_unit: str, energies_are_usual: bool) -> list[str]:
    """Compare energy differences of neighbouring frames with the work of their forces."""
    pairs = _work_and_difference([atoms for atoms in frames if FORCES_KEY in atoms.arrays])
    if len(pairs) < 4:
        return []
    work, difference = pairs.T
    scale = np.sqrt((work @ work) * (difference @ difference))
    if scale == 0 or abs(work @ difference) < 0.9 * scale:
        return []
    slope = float(np.sqrt((difference @ difference) / (work @ work)) * np.sign(work @ difference))
    if 0.6 < slope < 1.67:
        return []
    factors = {"are the forces": _factors(FORCE_UNITS, forces_unit)}
    if not energies_are_usual:
        factors["are the energies"] = _factors(ENERGY_UNITS, energy_unit)
    hypotheses = [
        (abs(np.log(np.abs(expected / slope))), f"{what} {how}")
        for what, by_how in factors.items()
        for how, factor in by_how.items()
        for expected in [1 / factor if what == "are the energies" else factor]
        if expected * slope > 0
    ]
    off, likely = min(hypotheses, default=(np.inf, ""))
    question = (
        f"{likely}?"
        if off < np.log(1.3)
        else "are both in the units that were said, and are these forces, not gradients?"
    )
    return [f"forces: between neighbouring frames energies change by {slope:.3g} times what the forces say; {question}"]


def _work_and_difference(frames: list[Atoms]) -> NDArray[np.float64]:
    """Return (P, 2), eV: work of the mean force and difference of energy, of each frame and the nearest of its kind."""
    rows = []
    for group in _by_formula(frames):
        chosen = [group[i] for i in np.unique(np.linspace(0, len(group) - 1, FRAMES_PAIRED).astype(int))]
        positions = np.array([atoms.positions for atoms in chosen])
        for index, atoms in enumerate(chosen):
            moved = np.linalg.norm(positions - positions[index], axis=2).max(axis=1)
            moved[moved < SAME_GEOMETRY] = np.inf
            nearest = int(np.argmin(moved))
            if moved[nearest] < NEIGHBOUR_FRAMES and np.array_equal(atoms.numbers, chosen[nearest].numbers):
                mean = (atoms.arrays[FORCES_KEY] + chosen[nearest].arrays[FORCES_KEY]) / 2
                work = -np.sum(mean * (positions[nearest] - positions[index]))
                rows.append((work, chosen[nearest].info[ENERGY_KEY] - atoms.info[ENERGY_KEY]))
    return np.array(rows).reshape(-1, 2)


def _by_formula(frames: Sequence[Atoms]) -> list[list[Atoms]]:
    """Return frames of the same elements, charge and multiplicity."""
    groups: dict[tuple[object, ...], list[Atoms]] = {}
    for atoms in frames:
        electrons = (str(atoms.info.get("charge", 0)), str(atoms.info.get("multiplicity", 1)))
        groups.setdefault((np.sort(atoms.numbers).tobytes(), *electrons), []).append(atoms)
    return list(groups.values())


def _copies(frames: dict[str, list[Atoms]]) -> list[str]:
    """Find frames of one geometry, turned, shifted or renumbered: among the training frames, test and pool among them.

    And frames of the pool among the test frames.
    """
    pool = frames.get(POOL, [])
    part = {id(atoms): name for name in (TRAINING, TEST, POOL) for atoms in frames.get(name, [])}
    repeated, leaked, known, tested = [], [], [], []
    for group in _by_formula([*frames[TRAINING], *frames[TEST], *pool]):
        for same in _alike(group):
            of = {name: [atoms for atoms in same if part[id(atoms)] == name] for name in (TRAINING, TEST, POOL)}
            repeated += of[TRAINING][1:]
            leaked += of[TEST] if of[TRAINING] else []
            known += of[POOL] if of[TRAINING] else []
            tested += of[POOL] if of[TEST] else []
    found = []
    if repeated:
        found.append(
            f"copies: {len(repeated)} of {len(frames[TRAINING])} training frames (frame {_names(repeated)}) have the "
            "geometry of another; they teach nothing, and may be in training and validation"
        )
    if leaked:
        found.append(
            f"copies: {len(leaked)} of {len(frames[TEST])} test frames (frame {_names(leaked)}) have the geometry of a "
            "training frame; errors on them say nothing"
        )
    if known:
        found.append(
            f"copies: {len(known)} of {len(pool)} pool frames (frame {_names(known)}) have the geometry of a training "
            "frame, which is labelled; the pool is for others"
        )
    if tested:
        found.append(
            f"copies: {len(tested)} of {len(pool)} pool frames (frame {_names(tested)}) have the geometry of a test "
            "frame; a model that learns from the pool has seen it"
        )
    return found


def _alike(frames: list[Atoms]) -> list[list[Atoms]]:
    """Return sets of two or more frames of one geometry."""
    radii = [_radii(atoms) for atoms in frames]
    weights = np.sort(frames[0].numbers) + 1.0
    order = np.argsort([own @ weights for own in radii], kind="stable")
    sets, current = [], [frames[order[0]]]
    for before, after in pairwise(order):
        # Radii are cheap, and differ in nearly all pairs; distances are not.
        if _close(radii[before], radii[after]) and _close(_distances(frames[before]), _distances(frames[after])):
            current.append(frames[after])
        else:
            sets.append(current)
            current = [frames[after]]
    return [same for same in [*sets, current] if len(same) > 1]


def _close(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    return bool(np.abs(first - second).max(initial=0.0) < SAME_GEOMETRY)


def _radii(atoms: Atoms) -> NDArray[np.float64]:
    """Return distances to the centre, Å, in order within each element; no turn, shift or renumbering changes them."""
    radii = np.linalg.norm(atoms.positions - atoms.positions.mean(axis=0), axis=1)
    return radii[np.lexsort((radii, atoms.numbers))]


def _distances(atoms: Atoms) -> NDArray[np.float64]:
    """Return all distances, Å, in order within each pair of elements; of periodic frames the cell's Å and °, too."""
    order = np.argsort(atoms.numbers, kind="stable")
    numbers, positions = atoms.numbers[order], atoms.positions[order]
    first, second = np.triu_indices(len(atoms), 1)
    distances = np.linalg.norm(positions[first] - positions[second], axis=1)
    kinds = numbers[first] * len(chemical_symbols) + numbers[second]
    cell = atoms.cell.cellpar() if atoms.pbc.any() else np.zeros(6)
    return np.concatenate([distances[np.lexsort((distances, kinds))], cell])
