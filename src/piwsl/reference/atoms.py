"""Energies of free atoms at a level: what an atomisation energy is counted from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ase import Atoms
from ase.data import atomic_numbers

from piwsl.config import Level
from piwsl.config.level_checks import of_free_atoms
from piwsl.reference.labelling import label_frames
from piwsl.structures.frames import ground_state_multiplicity


def free_atoms(symbols: set[str], level: Level, store: Path, memory_mb: int) -> dict[str, dict[str, Any]]:
    """Compute free, neutral atoms in their ground-state multiplicity.

    Args:
        symbols: chemical symbols.
        level: the level of theory; computed as it says for free atoms.
        store: folder of finished energies.
        memory_mb: memory of the job, MB.

    Returns:
        By symbol the record of labelling: `status`, `energy_eV`, or the reason of a failure. A failed atom is no reason
        to stop: nothing is trained on it.
    """
    alone = of_free_atoms(level)
    found = {}
    for symbol in sorted(symbols, key=lambda name: int(atomic_numbers[name])):
        multiplicity = ground_state_multiplicity(atomic_numbers[symbol])
        atom = Atoms(symbol, positions=[[0.0, 0.0, 0.0]], info={"frame": symbol, "multiplicity": multiplicity})
        _, (record,) = label_frames([atom], alone, store, None, memory_mb)
        found[symbol] = record
    return found
