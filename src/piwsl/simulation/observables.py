"""What trajectories say: drift, distributions of distances, energies by temperature, vibrational spectra.

Arrays in, numbers out: nothing here knows replicas, files or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Å, of histograms of distances.
BIN = 0.05
# cm/s
LIGHT = 2.99792458e10
# °, on average over frames: linear molecules bend by less than 20 when they are hot, bent ones by more than 40 at rest.
LINEAR = 30.0


def drift(times: Array, energies: Array, atoms: int) -> float:
    """Return the slope of the total energy, by least squares, in meV/atom/ps.

    Args:
        times: (S,), ps; at least two that differ.
        energies: (S,), eV.
        atoms: how many.
    """
    centred = times - times.mean()
    return float(1000 * (centred * (energies - energies.mean())).sum() / (centred**2).sum() / atoms)


def distances(frames: Sequence[Atoms]) -> Array:
    """Return the distances of all pairs of atoms in all frames, Å, to the nearest image."""
    found = [atoms.get_all_distances(mic=bool(atoms.pbc.any()))[np.triu_indices(len(atoms), 1)] for atoms in frames]
    return np.concatenate(found) if found else np.empty(0)


def histograms(ours: Array, theirs: Array, width: float = BIN) -> tuple[Array, Array, Array]:
    """Return the densities of two samples of distances over one axis.

    Args:
        ours: Å, at least one.
        theirs: Å, at least one.
        width: of a bin, Å.

    Returns:
        Centres of bins (Å); both densities (1/Å), whose integrals are 1. Of all distances of a molecule the density is
        h(r) of Fu et al., arXiv 2210.07237, section 3.
    """
    low = np.floor(min(ours.min(), theirs.min()) / width)
    high = np.floor(max(ours.max(), theirs.max()) / width) + 1
    edges = width * np.arange(low, high + 1)
    densities = [np.histogram(sample, edges)[0] / (len(sample) * width) for sample in (ours, theirs)]
    return 0.5 * (edges[1:] + edges[:-1]), densities[0], densities[1]


def distribution_error(ours: Array, theirs: Array, width: float) -> float:
    """Return the integral of the difference of two densities: 0 where they agree, 2 where they have nothing in common.

    Fu et al., arXiv 2210.07237, section 3, MAE of h(r).
    """
    return float(np.abs(ours - theirs).sum() * width)


def pair_types(symbols: Sequence[str], pairs: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Return pairs of atoms (B, 2) by their elements, such as "C-H", in alphabetical order."""
    names = np.array(["-".join(sorted((symbols[first], symbols[second]))) for first, second in pairs])
    known = ["-".join(pair) for pair in combinations_with_replacement(sorted(set(symbols)), 2)]
    return {name: pairs[names == name] for name in known if (names == name).any()}


def kinetic_temperatures(kinetic: Array, masses: Array) -> Array:
    """Return the temperature of each atom, (N,), K, of a molecule whose centre of mass is at rest.

    An atom of mass m in a molecule of mass M has the mean kinetic energy 3/2 k T (1 - m/M).

    Args:
        kinetic: (N,), mean kinetic energies, eV.
        masses: (N,), u.
    """
    return kinetic / (1.5 * units.kB * (1 - masses / masses.sum()))


def vibrations(frames: Sequence[Atoms]) -> int:
    """Return how many vibrations a structure has: 3N - 6, linear molecules 3N - 5, what is periodic 3N - 3.

    Args:
        frames: of the same structure, N of two atoms or more; not at rest, so that a linear molecule is a little bent.
    """
    degrees = 3 * len(frames[0])
    if frames[0].pbc.any():
        return degrees - 3
    return degrees - (5 if np.mean([_bend(atoms.positions) for atoms in frames]) < LINEAR else 6)


def _bend(positions: Array) -> float:
    """Return by how much the chain of atoms along the longest axis departs from a line where it does so most, °."""
    axis = np.linalg.svd(positions - positions.mean(axis=0))[2][0]
    steps = np.diff(positions[np.argsort(positions @ axis)], axis=0)
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    cosines = (steps[1:] * steps[:-1]).sum(axis=1)
    return float(np.degrees(np.arccos(cosines.clip(-1, 1).min(initial=1.0))))


def heat_capacity_over_harmonic(temperatures: Array, energies: Array, vibrations: int) -> float:
    """Return the slope of the mean potential energy with temperature, over that of harmonic vibrations.

    Equipartition gives each of them a mean potential energy of kT/2: of a harmonic surface this is 1.

    Args:
        temperatures: (T,), K; two or more.
        energies: (T,), eV.
        vibrations: how many, one or more.
    """
    slope = np.polyfit(temperatures, energies, 1)[0]
    return float(slope / (0.5 * units.kB * vibrations))


def power(velocities: Array, weights: Array) -> Array:
    """Return the power spectrum of velocities, the Fourier transform of their autocorrelation (Wiener, Khinchin).

    Hann's window keeps a strong band from leaking into its neighbours.

    Args:
        velocities: (S, N, 3), at equal intervals.
        weights: (N,), such as masses.

    Returns:
        (S // 2 + 1,), at the wavenumbers of `wavenumbers`.
    """
    window = np.hanning(len(velocities))[:, None, None]
    amplitudes = np.fft.rfft(window * velocities, axis=0)
    return np.einsum("n,snx->s", weights, np.abs(amplitudes) ** 2)


def wavenumbers(samples: int, interval: float, timestep: float) -> Array:
    """Return the wavenumbers of a power spectrum, cm⁻¹, free of what the integrator adds to them.

    Velocity Verlet, and BAOAB but for friction, move a harmonic vibration by r(t+h) - 2 r(t) + r(t-h) = -(ωh)² r(t): it
    swings with Ω, sin(Ωh/2) = ωh/2, which is more than ω. At 0.5 fs 3700 cm⁻¹ would be told as 3719.

    Args:
        samples: S.
        interval: between them, fs.
        timestep: h of the dynamics, fs; the interval or less.
    """
    seen = np.fft.rfftfreq(samples, interval)  # Ω/2π, 1/fs
    own = np.sin(np.pi * seen * timestep) / (np.pi * timestep)
    return np.asarray(own * 1e15 / LIGHT, dtype=np.float64)
