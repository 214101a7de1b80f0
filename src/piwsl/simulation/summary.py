"""What a simulation of replicas says, as plain values for JSON, and its frames and samples for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from ase import Atoms, units
from numpy.typing import NDArray

from piwsl.config import ReplicaSimulation
from piwsl.simulation import observables
from piwsl.simulation.course import Course
from piwsl.simulation.criteria import bond_vectors
from piwsl.simulation.group import Replica
from piwsl.simulation.survival import in_words, kaplan_meier
from piwsl.structures.structure import Structure

Array = NDArray[np.float64]
# Å, of histograms of bond lengths.
BOND_BIN = 0.01


class Outcome:
    """A simulation that is over: its settings, its replicas and its course."""

    def __init__(self, settings: ReplicaSimulation, replicas: Sequence[Replica], course: Course) -> None:
        """Keep what the numbers are made of."""
        self._settings = settings
        self._replicas = list(replicas)
        self._course = course
        self._stable = course.stable_steps() * settings.timestep / 1000  # ps
        self._ends = np.cumsum([replica.atoms for replica in replicas])

    def summary(self, references: Sequence[Structure]) -> dict[str, Any]:
        """Return all that reports ask for; what is not known is left out, or None.

        Args:
            references: frames that distances are compared with, where they are of the same atoms and cell.
        """
        course, failed = self._course, self._course.failed
        energies, temperatures = self._energies(), self._mean_temperatures()
        curve = kaplan_meier(self._stable.tolist(), failed.tolist())
        found: dict[str, Any] = {
            "ensemble": self._settings.ensemble,
            "temperatures_K": self._settings.temperatures,
            "replicas": len(self._replicas),
            "failed": int(failed.sum()),
            "stable_ps": float(self._stable.mean()),
            "time_ps": self._settings.time,
            "stability": in_words(self._stable.tolist(), failed.tolist(), self._settings.time),
            "ended": self._ended(),
            # A mean over baths would be of none of them, and sink as replicas of the hottest fail.
            "mean_temperature_K": temperatures[0] if len(temperatures) == 1 else None,
            "mean_temperatures_K": temperatures,
            "largest_bond_change_A": float(course.bond_changes.max()),
            "reactive_bonds": sorted({bond for replica in self._replicas for bond in replica.judged.reactive}),
            "steps_per_second": round(course.step / course.seconds, 1) if course.seconds else None,
            "survival": [asdict(point) for point in curve],
            "outcomes": self._outcomes(),
            "energies": energies,
            "capacity_over_harmonic": self._capacities(energies),
            "distances": self._distances(references),
            "settings": self._settings.plain(),
        }
        if self._settings.ensemble == "nve":
            found["drift_meV_per_atom_per_ps"] = self._drift()
        if self._settings.velocities_every:
            found["spectrum"] = self._spectrum()
        return found

    def _mean_temperatures(self) -> list[float | None]:
        """Return means of each bath over samples after the start of replicas that were stable then, K; None without.

        Halfway from the last stable step to the one that failed, a replica is on its way to that.
        """
        steps, temperatures = np.array(self._course.sample_steps)[:, None], np.array(self._course.temperatures)
        last = self._course.stable_steps() - self._course.failed
        stable = (steps > 0) & (steps <= last) & np.isfinite(temperatures)
        baths = np.array([replica.temperature for replica in self._replicas])
        chosen = [stable & (baths == bath) for bath in self._settings.temperatures]
        return [float(temperatures[samples].mean()) if samples.any() else None for samples in chosen]

    def _ended(self) -> str:
        reasons = [reason for reason in self._course.reasons if reason]
        if not reasons:
            return "completed"
        if len(self._replicas) == 1:
            return reasons[0]
        return f"{len(reasons)} of {len(self._replicas)} failed: {'; '.join(dict.fromkeys(reasons))}"

    def _outcomes(self) -> list[dict[str, Any]]:
        return [
            {
                "frame": replica.frame,
                "temperature_K": replica.temperature,
                "replica": replica.number,
                "stable_ps": float(stable),
                "failed": bool(failed),
                "reason": reason or None,
            }
            for replica, stable, failed, reason in zip(
                self._replicas, self._stable, self._course.failed, self._course.reasons, strict=True
            )
        ]

    def _energies(self) -> list[dict[str, Any]]:
        """Compare each kind of molecule and temperature: means over the second half, of replicas that lived so long."""
        return [self._energies_at(formula, temperature) for formula, temperature in self._conditions()]

    def _conditions(self) -> list[tuple[str, float]]:
        return list(dict.fromkeys((self._formula(replica), replica.temperature) for replica in self._replicas))

    @staticmethod
    def _formula(replica: Replica) -> str:
        return str(replica.structure.atoms().get_chemical_formula())

    def _energies_at(self, formula: str, temperature: float) -> dict[str, Any]:
        chosen = [
            number
            for number, replica in enumerate(self._replicas)
            if (self._formula(replica), replica.temperature) == (formula, temperature)
            and not self._course.failed[number]
        ]
        found: dict[str, Any] = {"formula": formula, "temperature_K": temperature, "replicas": len(chosen)}
        if not chosen:
            return found
        late = 2 * np.array(self._course.sample_steps) >= self._settings.steps
        potentials = np.array(self._course.potentials)[late][:, chosen].mean(axis=0)
        if len(chosen) > 1:
            found["potential_error_eV"] = float(potentials.std(ddof=1) / np.sqrt(len(chosen)))
        return found | {
            "kinetic_K": float(np.array(self._course.temperatures)[late][:, chosen].mean()),
            "kinetic_K_by_element": self._by_element(chosen),
            "potential_eV": float(potentials.mean()),
        }

    def _by_element(self, chosen: list[int]) -> dict[str, float]:
        """Return the mean kinetic temperature of the atoms of each element, K."""
        found: dict[str, list[float]] = {}
        for number in chosen:
            replica, stop = self._replicas[number], self._ends[number]
            kinetic = self._course.kinetic[stop - replica.atoms : stop] / self._course.kinetic_samples[number]
            temperatures = observables.kinetic_temperatures(kinetic, replica.masses)
            for symbol, value in zip(replica.structure.atoms().get_chemical_symbols(), temperatures, strict=True):
                found.setdefault(symbol, []).append(float(value))
        return {symbol: float(np.mean(values)) for symbol, values in sorted(found.items())}

    def _capacities(self, energies: list[dict[str, Any]]) -> dict[str, float]:
        """Return how much of equipartition's potential energy each kind of molecule takes up, where known.

        At constant energy it is not: a temperature is that of the first velocities, of which half goes to potential
        energy.
        """
        found: dict[str, float] = {}
        if self._settings.ensemble == "nve":
            return found
        for formula in dict.fromkeys(row["formula"] for row in energies):
            rows = [row for row in energies if row["formula"] == formula and "potential_eV" in row]
            if len(rows) > 1:
                starts = [each.structure.atoms() for each in self._replicas if self._formula(each) == formula]
                at, mean = (np.array([row[key] for row in rows]) for key in ("temperature_K", "potential_eV"))
                vibrations = observables.vibrations(starts)
                found[formula] = observables.heat_capacity_over_harmonic(at, mean, vibrations)
        return found

    def _drift(self) -> dict[str, float | None]:
        """Return the mean over replicas that did not fail, their standard deviation, and the largest."""
        times = np.array(self._course.sample_steps) * self._settings.timestep / 1000
        totals = np.array(self._course.totals)
        drifts = np.array(
            [
                observables.drift(times, totals[:, number], self._replicas[number].atoms)
                for number in np.flatnonzero(~self._course.failed)
            ]
        )
        return {
            "mean": float(drifts.mean()) if len(drifts) else None,
            "deviation": float(drifts.std(ddof=1)) if len(drifts) > 1 else None,
            "largest": float(np.abs(drifts).max()) if len(drifts) else None,
        }

    def _spectrum(self) -> dict[str, list[float]] | None:
        """Return the mean spectrum of all complete segments, its largest value 1."""
        if not self._course.segments.sum():
            return None
        intensity = self._course.power.sum(axis=0)
        timestep, segment = self._settings.timestep, self._settings.segment
        found = observables.wavenumbers(segment, timestep * self._settings.velocities_every, timestep)
        return {
            "wavenumber_per_cm": np.round(found, 2).tolist(),
            "intensity": np.round(intensity / intensity.max(), 6).tolist(),
        }

    def _distances(self, references: Sequence[Structure]) -> list[dict[str, Any]]:
        """Compare distances with those of reference frames of the same atoms and cell, for each kind that has some.

        Another cell has other distances, whatever the model. Where a crystal has its start alone, as each frame at
        constant pressure, there is nothing to compare with: the distances of a moment are no distribution.
        """
        found, left = [], list(range(len(self._replicas)))
        while left:
            first = self._replicas[left[0]]
            alike = [number for number in left if first.structure.is_like(self._replicas[number].structure)]
            left = [number for number in left if number not in alike]
            theirs = [frame.atoms() for frame in references if first.structure.is_like(frame)]
            ours = [atoms for number in alike for atoms in self._stable_frames(number)]
            if ours and len(theirs) > (1 if first.structure.pbc.any() else 0):
                compared = self._compared(ours, theirs)
                bonds = self._bonds(alike[0], ours, theirs)
                found.append({"formula": self._formula(first), **compared, "bonds": bonds})
        return found

    def _stable_frames(self, number: int) -> list[Atoms]:
        """Return the frames that a model made: neither the start, a reference frame, nor what ended the replica."""
        return [atoms for atoms in self.trajectory(number) if atoms.info["time_fs"] > 0 and "ended" not in atoms.info]

    @staticmethod
    def _compared(ours: Sequence[Atoms], theirs: Sequence[Atoms]) -> dict[str, Any]:
        centres, density, reference = observables.histograms(observables.distances(ours), observables.distances(theirs))
        return {
            "error": observables.distribution_error(density, reference, observables.BIN),
            "r_A": np.round(centres, 4).tolist(),
            "density_per_A": np.round(density, 6).tolist(),
            "reference_per_A": np.round(reference, 6).tolist(),
        }

    def _bonds(self, number: int, ours: Sequence[Atoms], theirs: Sequence[Atoms]) -> list[dict[str, Any]]:
        """Compare the lengths of bonds that are judged, by elements."""
        judged, symbols = self._replicas[number].judged, ours[0].get_chemical_symbols()
        rows = []
        for name, pairs in observables.pair_types(symbols, judged.pairs).items():
            own, reference = _lengths(ours, pairs), _lengths(theirs, pairs)
            _, density, theirs_density = observables.histograms(own, reference, BOND_BIN)
            rows.append(
                {
                    "bond": name,
                    "mean_A": float(own.mean()),
                    "deviation_A": float(own.std()),
                    "reference_mean_A": float(reference.mean()),
                    "reference_deviation_A": float(reference.std()),
                    "error": observables.distribution_error(density, theirs_density, BOND_BIN),
                }
            )
        return rows

    def trajectory(self, number: int) -> list[Atoms]:
        """Return the frames of a replica, with velocities; the last of one that failed says how it `ended`."""
        replica, stop = self._replicas[number], self._ends[number]
        atoms, course = slice(stop - replica.atoms, stop), self._course
        frames = []
        for step, positions, velocities in zip(
            course.frame_steps, course.frame_positions, course.frame_velocities, strict=True
        ):
            if not (np.isfinite(positions[atoms]).all() and np.isfinite(velocities[atoms]).all()):
                continue
            frame = replica.structure.atoms()
            frame.positions = positions[atoms]
            frame.set_velocities(velocities[atoms])
            frame.info |= {
                "replica": number,
                "frame": replica.frame,
                "bath_temperature": replica.temperature,
                "time_fs": step * self._settings.timestep,
                "temperature": 2 * frame.get_kinetic_energy() / ((3 * replica.atoms - 3) * units.kB),
            }
            if step == course.ended[number]:
                frame.info["ended"] = course.reasons[number]
            frames.append(frame)
        return frames

    def series(self) -> pd.DataFrame:
        """Return a row a replica and sample: replica, time_ps, temperature_K, potential_eV, total_eV."""
        course = self._course
        times = np.array(course.sample_steps) * self._settings.timestep / 1000
        columns = {
            "temperature_K": course.temperatures,
            "potential_eV": course.potentials,
            "total_eV": course.totals,
        }
        count = len(self._replicas)
        table = pd.DataFrame(
            {
                "replica": np.repeat(np.arange(count), len(times)),
                "time_ps": np.tile(times, count),
                **{name: np.array(values).T.ravel() for name, values in columns.items()},
            }
        )
        return table.dropna(ignore_index=True)


def _lengths(frames: Sequence[Atoms], pairs: NDArray[np.int64]) -> Array:
    """Return the lengths of bonds in all frames, Å."""
    return np.concatenate([np.linalg.norm(bond_vectors(atoms, pairs), axis=1) for atoms in frames])
