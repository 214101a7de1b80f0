"""Frames an hour of `ccsdt-cbs` on one thread, ours against psi4's Python interface, and time outside PySCF's kernels.

Both label the same displaced frames of HCN, methanol and ethanol, many in one process, in turns; start-up does not
count. psi4 runs the same scheme with the same approximations: HF and MP2 density-fitted through its cbs driver, CCSD(T)
conventional by its fastest module (fnocc) on density-fitted orbitals, which saves it a conventional SCF.
Without psi4 on this machine only ours is measured. `ccsdt-cbs-tz`, with the correction in cc-pVTZ, is ours alone.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FRAMES = {"HCN": 8, "CH3OH": 4, "CH3CH2OH": 3}
ROUNDS = 2
# Ours by preset, and psi4's way to the first of them.
ENGINES = ("ccsdt-cbs", "ccsdt-cbs-tz", "psi4")
PSI4_PYTHON = "/usr/bin/python3"
PSI4_PATH = "/usr/lib/x86_64-linux-gnu"

PSI4 = """
import json, os, sys
import psi4

psi4.core.set_output_file("output.dat", False)
psi4.set_num_threads(1)
psi4.set_memory("4 GB")
options = {"scf_type": "df", "mp2_type": "df", "cc_type": "conv", "freeze_core": True,
           "e_convergence": 1e-9, "d_convergence": 1e-7, "r_convergence": 1e-6}
times = []
for frame in json.load(open("frames.json")):
    psi4.core.clean()
    psi4.core.clean_options()
    molecule = psi4.geometry(frame + "\\nunits angstrom\\nsymmetry c1\\nno_com\\nno_reorient\\n")
    start = os.times()
    psi4.set_options(options)
    energy = psi4.energy(
        psi4.cbs, molecule=molecule,
        scf_wfn="hf", scf_basis="cc-pv[tq]z", scf_scheme=psi4.driver.driver_cbs.scf_xtpl_helgaker_2,
        corl_wfn="mp2", corl_basis="cc-pv[tq]z", corl_scheme=psi4.driver.driver_cbs.corl_xtpl_helgaker_2,
    )
    psi4.set_options({"basis": "cc-pvdz", "qc_module": "fnocc"})
    energy += psi4.energy("ccsd(t)", molecule=molecule) - psi4.variable("MP2 TOTAL ENERGY")
    end = os.times()
    times.append(end.user + end.system - start.user - start.system)
print("RESULT", json.dumps({"seconds": times, "energy": energy}))
"""


def frames_of(name: str) -> list[str]:
    """Return displaced frames as lines of element and coordinates, Å."""
    import numpy as np
    from ase.build import molecule

    rng = np.random.default_rng(0)
    texts = []
    for _ in range(FRAMES[name]):
        atoms = molecule(name)
        atoms.positions += 0.03 * rng.normal(size=atoms.positions.shape)
        rows = zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True)
        texts.append("\n".join(f"{symbol} {x:.8f} {y:.8f} {z:.8f}" for symbol, (x, y, z) in rows))
    return texts


def ours(folder: Path, preset: str) -> dict[str, float | list[float]]:
    """Label the frames of a folder in this process; runs as a process of its own."""
    from ase import Atoms, units

    from piwsl.reference.engines.pyscf import PySCF
    from piwsl.reference.labelling import Labeller
    from piwsl.reference.store import LabelStore

    level = PySCF.model_validate({"preset": preset})
    labeller = Labeller(level, LabelStore(folder / "store", level), memory_mb=4000)
    frames = []
    for text in json.loads((folder / "frames.json").read_text()):
        rows = [line.split() for line in text.splitlines()]
        frames.append(Atoms([row[0] for row in rows], [[float(x) for x in row[1:]] for row in rows]))
    times = []
    profile = cProfile.Profile()
    for atoms in frames:
        start = time.process_time()
        _, record = labeller.label(atoms, None)
        times.append(time.process_time() - start)
    # Profiled apart: the profiler slows Python down.
    warm = frames[0].copy()
    warm.positions += 1e-4
    profile.runcall(labeller.label, warm, None)
    return {"seconds": times, "energy": record["energy_eV"] / units.Hartree, "outside": outside_kernels(profile)}


def outside_kernels(profile: cProfile.Profile) -> float:
    """Return the share of the time that is not within calls from our modules into PySCF."""
    table = pstats.Stats(profile).stats  # type: ignore[attr-defined]  # the stubs leave it out
    total = sum(own for _, _, own, _, _ in table.values())
    within = 0.0
    for (file, _, _), (_, _, _, _, callers) in table.items():
        if "/pyscf/" in file or file == "<string>":  # PySCF makes aliases of its methods from strings
            within += sum(spent[3] for (caller, _, _), spent in callers.items() if "/piwsl/" in caller)
    return 1.0 - within / total


def run(engine: str, name: str) -> dict[str, float | list[float]]:
    """Label the frames of a molecule in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "frames.json").write_text(json.dumps(frames_of(name)))
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PSI_SCRATCH": folder}
        if engine == "psi4":
            environment["PYTHONPATH"] = PSI4_PATH
            command = [PSI4_PYTHON, "-c", PSI4]
        else:
            command = [sys.executable, __file__, "--ours", folder, "--preset", engine]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{engine} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
        return json.loads(line.removeprefix("RESULT "))


def main(molecules: list[str], engines: list[str], rounds: int) -> None:
    """Measure in turns and print a table."""
    print(f"{'molecule':10} {'level':12} {'CPU s a frame':>14} {'frames an hour':>15} {'energy of the last, Eh':>23}")
    for name in molecules:
        seconds: dict[str, list[float]] = {engine: [] for engine in engines}
        for _ in range(rounds):
            for engine in engines:
                found = run(engine, name)
                seconds[engine] += found["seconds"]
                mean = sum(found["seconds"]) / len(found["seconds"])
                row = f"{name:10} {engine:12} {mean:14.2f} {3600 / mean:15.0f} {found['energy']:23.8f}"
                outside = f", outside PySCF {100 * found['outside']:.1f} %" if engine != "psi4" else ""
                print(row + outside, flush=True)
        if {"psi4", ENGINES[0]} <= seconds.keys():
            means = {engine: sum(times) / len(times) for engine, times in seconds.items()}
            print(f"{name:10} psi4's time over ours: {means['psi4'] / means[ENGINES[0]]:.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--preset", help=argparse.SUPPRESS)
    there = ENGINES if shutil.which("psi4") else ENGINES[:-1]
    parser.add_argument("--molecules", nargs="+", choices=FRAMES, default=list(FRAMES))
    parser.add_argument("--engines", nargs="+", choices=there, default=list(there))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    if given.ours is None:
        main(given.molecules, given.engines, given.rounds)
    else:
        print("RESULT", json.dumps(ours(given.ours, given.preset)))
