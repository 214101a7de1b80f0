"""How far a simulation of replicas has come, and all that it has seen: what a checkpoint holds."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from piwsl.files import write_atomically

Array = NDArray[np.float64]
# Goes up where what is noted means another thing: a simulation in progress then begins anew.
FORMAT = 3


@dataclass
class Course:
    """Of M replicas with N atoms in all; what has ended has NaN from then on."""

    step: int
    positions: Array
    """(N, 3), Å; of replicas that have ended, where they ended."""
    velocities: Array
    """(N, 3), in ASE's units."""
    energies: Array
    """(M,), potential, eV."""
    forces: Array
    """(N, 3), eV/Å."""
    start_energies: Array
    """(M,), eV."""
    ended: NDArray[np.int64]
    """(M,), the step that failed; -1 while a replica goes on."""
    reasons: list[str]
    """(M,), empty while a replica goes on."""
    bond_changes: Array
    """(M,), Å, largest so far."""
    kinetic: Array
    """(N,), eV, halfway through steps, summed over samples of the second half."""
    kinetic_samples: NDArray[np.int64]
    """(M,)."""
    power: Array
    """(M, F), of velocities, summed over segments; F is 0 where no spectrum is wanted."""
    segments: NDArray[np.int64]
    """(M,), how many those are."""
    sample_steps: list[int] = field(default_factory=list)
    temperatures: list[Array] = field(default_factory=list)
    """(M,) of each sample, K, halfway through the next step."""
    potentials: list[Array] = field(default_factory=list)
    """(M,) of each sample, eV."""
    totals: list[Array] = field(default_factory=list)
    """(M,) of each sample, eV."""
    frame_steps: list[int] = field(default_factory=list)
    frame_positions: list[Array] = field(default_factory=list)
    """(N, 3) of each frame, Å."""
    frame_velocities: list[Array] = field(default_factory=list)
    """(N, 3) of each frame."""
    segment: list[Array] = field(default_factory=list)
    """(N, 3) of each sample of the segment that is not complete, velocities."""
    seconds: float = 0.0
    """That it has run, over all attempts."""

    @property
    def alive(self) -> NDArray[np.int64]:
        """The replicas that go on."""
        return np.flatnonzero(self.ended < 0)

    @property
    def failed(self) -> NDArray[np.bool_]:
        """(M,), which replicas have failed."""
        return self.ended >= 0

    def stable_steps(self) -> NDArray[np.int64]:
        """Return how many steps each replica was stable, (M,)."""
        return np.where(self.failed, np.maximum(self.ended - 1, 0), self.step)

    def save(self, path: Path, key: str) -> None:
        """Write a checkpoint, atomically.

        Args:
            path: NPZ to write.
            key: says what the simulation is, so that another never goes on from it.
        """
        values = {entry.name: np.asarray(getattr(self, entry.name)) for entry in fields(self)}
        write_atomically(path, lambda temporary: np.savez(temporary, key=_name(key), **values))  # type: ignore[arg-type]


def _name(key: str) -> NDArray[np.str_]:
    return np.array(f"{FORMAT} {key}")


def resumed(path: Path, key: str) -> Course | None:
    """Return the course that a checkpoint holds, or None where it is none, damaged, or of another simulation."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as found:
            if str(found["key"]) != str(_name(key)):
                print(f"checkpoint {path} is of another model, start, setting or version; beginning anew", flush=True)
                return None
            return Course(**{entry.name: _plain(entry.name, found[entry.name]) for entry in fields(Course)})
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        print(f"checkpoint {path} cannot be read ({type(error).__name__}); beginning anew", flush=True)
        return None


def _plain(name: str, values: NDArray[Any]) -> Any:
    """Return what the field of a course holds: a number, a list, or the array itself."""
    if name == "step":
        return int(values)
    if name == "seconds":
        return float(values)
    if name in ("reasons", "sample_steps", "frame_steps"):
        return values.tolist()
    if name in ("temperatures", "potentials", "totals", "frame_positions", "frame_velocities", "segment"):
        return list(values)
    return values
