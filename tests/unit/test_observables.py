"""What trajectories and survival times say, by cases worked out by hand, from textbooks, or of known surfaces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from scipy.stats import binomtest

from piwsl.simulation.integrators import Masses, State, baoab, velocity_verlet
from piwsl.simulation.observables import (
    distances,
    distribution_error,
    drift,
    heat_capacity_over_harmonic,
    histograms,
    kinetic_temperatures,
    pair_types,
    power,
    vibrations,
    wavenumbers,
)
from piwsl.simulation.survival import clopper_pearson, in_words, kaplan_meier

# Weeks of remission under 6-mercaptopurine: those that ended, and patients who were last seen in it. Freireich et al.,
# Blood 21, 699 (1963).
ENDED = [6, 6, 6, 7, 10, 13, 16, 22, 23]
LAST_SEEN = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]


def test_the_survival_curve_is_that_of_the_textbook():
    curve = kaplan_meier([*ENDED, *LAST_SEEN], [True] * len(ENDED) + [False] * len(LAST_SEEN))
    found = {point.time: (point.at_risk, point.failed, round(point.survival, 3)) for point in curve}
    assert found == {
        0.0: (21, 0, 1.0), 6.0: (21, 3, 0.857), 7.0: (17, 1, 0.807), 10.0: (15, 1, 0.753), 13.0: (12, 1, 0.690),
        16.0: (11, 1, 0.627), 22.0: (7, 1, 0.538), 23.0: (6, 1, 0.448), 35.0: (1, 0, 0.448),
    }  # fmt: skip
    # Greenwood's standard error at 23 weeks is 0.135; the interval is as wide as that of as many independent patients.
    last = next(point for point in curve if point.time == 23.0)
    worth = last.survival * (1 - last.survival) / 0.1346**2
    assert (last.low, last.high) == pytest.approx(clopper_pearson(last.survival * worth, worth), abs=2e-3)


def test_where_all_run_equally_long_the_interval_is_the_binomial_one():
    curve = kaplan_meier([0.2, 0.5, 1.0, 1.0, 1.0, 1.0], [True, True, False, False, False, False])
    for point, alive in zip(curve, (6, 5, 4, 4), strict=True):
        exact = binomtest(alive, 6).proportion_ci(0.95)
        assert point.survival == pytest.approx(alive / 6)
        assert (point.low, point.high) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_none_or_all_failed_is_no_certainty():
    none, all_ = kaplan_meier([1.0] * 6, [False] * 6), kaplan_meier([0.5] * 6, [True] * 6)
    # 0.025 to the power 1/6: a chance of 54 % each leaves six of six alive once in forty times.
    assert (none[-1].survival, none[-1].low, none[-1].high) == pytest.approx((1.0, 0.5407, 1.0), abs=1e-4)
    assert (all_[-1].survival, all_[-1].low, all_[-1].high) == pytest.approx((0.0, 0.0, 0.4593), abs=1e-4)
    assert kaplan_meier([1.0], [False])[-1].low == pytest.approx(0.025)
    with pytest.raises(ValueError, match="no replicas"):
        kaplan_meier([], [])


@pytest.mark.parametrize(
    ("stable", "failed", "words"),
    [
        ([1.0] * 6, [False] * 6, "at least 1 ps, none of 6 failed"),
        ([1.0], [False], "at least 1 ps, the one replica did not fail"),
        ([0.31], [True], "the one replica failed, after 0.31 ps, of 1 ps"),
        ([0.31, 0.9, 1.0], [True, True, False], "2 of 3 failed, the first after 0.31 ps, of 1 ps"),
        ([1.0, 0.5], [False, True], "1 of 2 failed, after 0.5 ps, of 1 ps"),
    ],
)
def test_a_time_that_was_cut_off_is_said_to_be(stable, failed, words):
    assert in_words(stable, failed, 1.0) == words


def test_the_drift_of_a_line_is_its_slope():
    times = np.linspace(0.0, 2.0, 201)
    noise = 1e-3 * np.cos(2 * np.pi * 50 * times)  # whole periods
    assert drift(times, -5.0 + 0.012 * times + noise, atoms=4) == pytest.approx(3.0, abs=0.05)  # 12 meV/ps of 4 atoms
    assert drift(times, np.full(201, -5.0), atoms=4) == pytest.approx(0.0, abs=1e-9)


def test_distances_of_a_molecule_and_over_a_boundary():
    np.testing.assert_allclose(distances([molecule("H2O")] * 2), [0.9686, 0.9686, 1.5265] * 2, atol=1e-3)
    across = Atoms("HH", positions=[[0.2, 0, 0], [4.9, 0, 0]], cell=[5, 5, 5], pbc=True)
    np.testing.assert_allclose(distances([across]), [0.3])


def test_densities_have_an_integral_of_one_and_an_error_from_nothing_to_two():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(1.0, 0.05, 5000), rng.normal(1.0, 0.05, 300)
    centres, density, reference = histograms(ours, theirs, 0.05)
    assert density.sum() * 0.05 == pytest.approx(1.0)
    assert reference.sum() * 0.05 == pytest.approx(1.0)
    assert centres[density.argmax()] == pytest.approx(1.0, abs=0.06)
    assert distribution_error(density, density, 0.05) == 0
    _, first, second = histograms(np.array([1.01, 1.02]), np.array([2.01]), 0.05)
    assert distribution_error(first, second, 0.05) == pytest.approx(2.0)
    _, first, second = histograms(np.array([1.01, 1.06]), np.array([1.01, 1.01]), 0.05)
    assert distribution_error(first, second, 0.05) == pytest.approx(1.0)


def test_pairs_are_told_apart_by_elements():
    found = pair_types(["O", "H", "H", "C"], np.array([[0, 1], [0, 2], [1, 3], [0, 3]]))
    assert {name: pairs.tolist() for name, pairs in found.items()} == {
        "C-H": [[1, 3]], "C-O": [[0, 3]], "H-O": [[0, 1], [0, 2]],
    }  # fmt: skip
    assert pair_types(["Ar", "Ar"], np.empty((0, 2), dtype=int)) == {}


def test_the_temperature_of_an_atom_knows_that_the_centre_of_mass_rests():
    masses = np.array([16.0, 1.0, 1.0])
    noise = np.random.default_rng(1).normal(size=(40_000, 3, 3))
    velocities = noise * np.sqrt(units.kB * 250 / masses[:, None])
    velocities -= (masses[:, None] * velocities).sum(axis=1, keepdims=True) / masses.sum()
    kinetic = (0.5 * masses[:, None] * velocities**2).sum(axis=2).mean(axis=0)
    np.testing.assert_allclose(kinetic_temperatures(kinetic, masses), 250, rtol=0.02)


def test_a_harmonic_surface_takes_up_half_kt_a_vibration():
    temperatures = np.array([100.0, 300.0, 500.0])
    assert heat_capacity_over_harmonic(temperatures, 6 * 0.5 * units.kB * temperatures - 7, 6) == pytest.approx(1.0)


def thermal(atoms: Atoms, deviation: float) -> list[Atoms]:
    """Return frames with atoms displaced by as much in each direction, Å."""
    frames = [atoms.copy() for _ in range(4)]
    for seed, frame in enumerate(frames):
        frame.rattle(deviation, seed=seed)
    return frames


CARBON_DIOXIDE = Atoms("OCO", positions=[[0, 0, -1.16], [0, 0, 0], [0, 0, 1.16]])
POLYYNE = Atoms("HCCCCCCCCH", positions=[[0, 0, z] for z in np.cumsum([0, 1.06, *[1.21, 1.37] * 3, 1.21, 1.06])])


@pytest.mark.parametrize(
    ("atoms", "count"),
    [
        (molecule("N2"), 1), (CARBON_DIOXIDE, 4), (molecule("HCN"), 4), (molecule("C2H2"), 7), (POLYYNE, 25),
        (molecule("H2O"), 3), (molecule("SO2"), 3), (molecule("H2CO"), 6), (molecule("CH3CN"), 12),
        (molecule("trans-butane"), 36), (bulk("Si", "diamond", a=5.43, cubic=True), 21),
    ],
    ids=lambda value: str(value.symbols) if isinstance(value, Atoms) else "",
)  # fmt: skip
@pytest.mark.parametrize("deviation", [0.0, 0.08])
def test_vibrations_are_what_is_neither_translation_nor_rotation_hot_or_cold(atoms, count, deviation):
    # 0.08 Å: about as much as in carbon dioxide at 1000 K.
    assert vibrations(thermal(atoms, deviation)) == count


def test_a_bond_askew_at_the_end_of_a_long_line_makes_no_linear_molecule():
    polyynol = POLYYNE.copy()
    polyynol.symbols[-2] = "O"
    polyynol.positions[-1] += [0.9, 0.0, -0.7]
    assert vibrations([polyynol]) == 24


@pytest.mark.parametrize("frequency", [500.0, 1600.0, 3700.0])
def test_the_spectrum_of_a_vibration_peaks_at_its_frequency(frequency):
    interval, samples = 2.0, 4096
    times = interval * 1e-15 * np.arange(samples)
    swing = np.cos(2 * np.pi * 2.99792458e10 * frequency * times)
    velocities = swing[:, None, None] * np.array([[1.0, 0, 0], [-1.0, 0, 0]])
    spectrum = power(velocities, np.array([1.0, 1.0]))
    axis = wavenumbers(samples, interval, timestep=1e-6)
    assert axis[spectrum.argmax()] == pytest.approx(frequency, abs=axis[1])
    assert spectrum[np.abs(axis - frequency) > 30].max() < 1e-6 * spectrum.max()


@pytest.mark.parametrize("timestep", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("bath", [False, True], ids=["velocity Verlet", "BAOAB"])
def test_the_spectrum_has_a_stiff_bond_where_it_is_whatever_the_timestep(timestep, bath):
    """An atom of hydrogen on a spring of 3700 cm⁻¹, which steps of 1 fs let swing with 3779."""
    frequency, samples, every = 3700.0, 4096, int(2.0 / timestep)
    one = Masses(torch.tensor([[1.008]], dtype=torch.float64), torch.zeros(1, dtype=torch.int64), 1)
    omega = 2 * np.pi * 2.99792458e10 * frequency * 1e-15 / units.fs

    def spring(positions):
        return 0.5 * 1.008 * omega**2 * (positions**2).sum()[None], -1.008 * omega**2 * positions

    def moved(state):
        if not bath:
            return velocity_verlet(state, one, timestep * units.fs, spring)
        still = torch.zeros(1, 3, dtype=torch.float64)
        return baoab(state, one, timestep * units.fs, spring, 0.0, torch.zeros(1, dtype=torch.float64), still)

    start = torch.tensor([[0.05, 0.0, 0.0]], dtype=torch.float64)
    state, velocities = State(start, torch.zeros_like(start), *spring(start)), []
    for _ in range(samples):
        for _ in range(every):
            state = moved(state)
        velocities.append(state.velocities.numpy())
    axis = wavenumbers(samples, every * timestep, timestep)
    assert axis[power(np.array(velocities), np.array([1.008])).argmax()] == pytest.approx(frequency, abs=5.0)


def test_the_spectrum_is_the_transform_of_the_autocorrelation():
    rng = np.random.default_rng(2)
    velocities, masses = rng.normal(size=(64, 2, 3)), np.array([1.0, 12.0])
    windowed = velocities * np.hanning(64)[:, None, None]
    # Circular, over one period: sum over atoms of m <v(0) v(t)>.
    autocorrelation = [(masses[:, None] * windowed * np.roll(windowed, -shift, axis=0)).sum() for shift in range(64)]
    np.testing.assert_allclose(power(velocities, masses), np.fft.rfft(autocorrelation).real, rtol=1e-9)
