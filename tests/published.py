"""Labelled frames as published sets have them: the HDF5 of ANI, the XSF of aenet and archives of such."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from ase import Atoms
from ase.units import Hartree

from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY

# Of the levels of ANI, Hartree: how far those beside ωB97X/6-31G* lie above it.
COUPLED_CLUSTER_AN_ATOM = -0.25
TRIPLE_ZETA = -2.0
# Of the conformations, one has coupled cluster.
COUPLED_CLUSTER_EVERY = 3


def write_ani(path: Path, molecules: Mapping[str, Sequence[Atoms]], lacking: Collection[int] = ()) -> None:
    """Write frames with energies and forces (eV, eV/Å) as ANI-1x is published, those as its ωB97X/6-31G*.

    Every third conformation has CCSD(T)*/CBS, every second forces of def2-TZVPP.

    Args:
        path: HDF5 to write.
        molecules: by the name of a group conformations of one molecule, or none.
        lacking: which conformations of each group have no energy of ωB97X.
    """
    with h5py.File(path, "w") as file:
        for name, frames in molecules.items():
            count, atoms = len(frames), len(frames[0]) if frames else 3
            energies = np.array([frame.info[ENERGY_KEY] for frame in frames]) / Hartree
            forces = np.array([frame.arrays[FORCES_KEY] for frame in frames]).reshape(count, atoms, 3) / Hartree
            dft, row = energies.copy(), np.arange(count)
            dft[[index for index in lacking if index < count]] = np.nan
            coupled = energies + COUPLED_CLUSTER_AN_ATOM * atoms
            group = file.create_group(name)
            group["atomic_numbers"] = (frames[0].numbers if frames else np.ones(atoms)).astype(np.uint8)
            group["coordinates"] = np.array([frame.positions for frame in frames]).reshape(count, atoms, 3)
            group["wb97x_dz.energy"], group["wb97x_dz.forces"] = dft, forces
            group["wb97x_tz.energy"] = dft + TRIPLE_ZETA
            group["wb97x_tz.forces"] = np.where((row % 2 == 0)[:, None, None], 2.0 * forces, np.nan)
            group["ccsd(t)_cbs.energy"] = np.where(row % COUPLED_CLUSTER_EVERY == 0, coupled, np.nan)
            group["mp2_dz.corr_energy"] = np.full(count, -0.2)
            group["wb97x_dz.dipole"] = np.zeros((count, 3))


def xsf(atoms: Atoms) -> str:
    """Return a periodic frame with energy and forces (eV, eV/Å) as aenet has it."""
    rows = np.hstack([atoms.positions, atoms.arrays[FORCES_KEY]])
    lines = [f"# total energy = {atoms.info[ENERGY_KEY]:.10f} eV", "", "CRYSTAL", "PRIMVEC"]
    lines += [" ".join(f"{value:.10f}" for value in vector) for vector in atoms.cell]
    lines += ["PRIMCOORD", f"{len(atoms)} 1"]
    lines += [
        " ".join([symbol, *(f"{value:.10f}" for value in row)]) for symbol, row in zip(atoms.symbols, rows, strict=True)
    ]
    return "\n".join(lines) + "\n"


def write_archive(path: Path, members: Mapping[str, str], link: bool = False) -> None:
    """Write an archive by the end of its name: zip, tar or a compressed tar.

    Args:
        path: the archive.
        members: texts by their names in it.
        link: whether a tar has a symbolic link out of it, too.
    """
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members.items():
                file.writestr(name, content)
        return
    with tarfile.open(path, f"w:{path.suffix[1:]}" if path.suffix != ".tar" else "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content.encode()))
        if link:
            info = tarfile.TarInfo("data/link.xsf")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            file.addfile(info)
