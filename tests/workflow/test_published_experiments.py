"""The experiments on published sets, planned as they are and run, small, on files that are written as those are."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from ase import Atoms, units
from ase.calculators.morse import MorsePotential
from experiment import planned
from helpers import ROOT, morse_frames, snakemake
from published import write_ani, write_archive, xsf

from piwsl.data.dataset import TEST, TRAINING, Dataset
from piwsl.files import read_json
from piwsl.models.storage import read_header
from piwsl.structures.frames import ENERGY_KEY, FORCES_KEY, label
from piwsl.workflow.layout import Layout

KCAL = units.kcal / units.mol
EXPERIMENTS = ROOT / "workflow" / "experiments"
MOLECULES = ("H2O", "NH3", "CH4", "HCN", "H2CO", "CH3OH", "CO2", "C2H4")
SMALL = {"features": 16, "layers": 2}
KEPT = {"stride": 2, "test_frames": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What Snakemake runs in."""
    folder = tmp_path_factory.mktemp("published")
    for name in ("workflow", "envs"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "Snakefile", folder)
    return folder


@pytest.fixture(scope="module")
def molecules(folder) -> str:
    """A file as ANI-1x is published, of eight molecules."""
    frames = {name: morse_frames(name, 48, seed=place, forces=True) for place, name in enumerate(MOLECULES)}
    write_ani(folder / "ani.h5", frames)
    return "ani.h5"


def shrunk(
    name: str, path: str, size: int, steps: int, runs: Sequence[dict[str, str]] = (), **dataset: Any
) -> dict[str, Any]:
    """Return an experiment as it stands, on a file that is there, of one size and seed, with small short models.

    Args:
        name: of the experiment.
        path: the file.
        size: labelled frames of a run.
        steps: of training.
        runs: which of them; by default all.
        dataset: keys of the datasets that depend on how large the file is.
    """
    config = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text())
    for section in config["datasets"].values():
        section |= {"path": path} | dataset
    for model in config["models"].values():
        model |= SMALL | {"resources": {"gpus": 0}}
        model["training"] = model.get("training", {}) | {"steps": steps, "batch_size": 4, "validate_every": steps}
    config["exclude"] = [each for each in config.get("exclude", []) if "size" not in each]
    return config | {"sizes": [size], "seeds": [0], "simulations": {}, "only": [*runs]}


def write(folder: Path, config: dict[str, Any]) -> str:
    """Write an experiment's file, and return its name."""
    name = f"{config['experiment']}.yaml"
    (folder / name).write_text(yaml.safe_dump(config))
    return name


def refusal(folder: Path, config: Path) -> str:
    """Return what Snakemake says of an experiment that cannot start."""
    refused = snakemake(folder, "--dry-run", "--quiet", "--configfile", str(config))
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    return refused.stderr


def run(folder: Path, config: dict[str, Any]) -> pd.DataFrame:
    """Run an experiment to its report, and return its table of results."""
    done = snakemake(folder, "--configfile", write(folder, config))
    assert done.returncode == 0, done.stdout + done.stderr
    results = folder / "results" / config["experiment"]
    assert "Errors on the test frames" in (results / "report.html").read_text()
    return pd.read_csv(results / "results.csv")


def compositions(folder: Path, experiment: str, dataset: str) -> dict[str, set[str]]:
    """Return which molecules are trained on, and which are tested."""
    with Dataset(folder / Layout(experiment).dataset(dataset).whole) as found:
        return {
            part: {str(Atoms(each.numbers).symbols) for each in found.structures(found.indices(part))}
            for part in (TRAINING, TEST)
        }


def test_each_is_planned_before_its_set_is_there(folder):
    base = planned(folder, "--configfile", str(EXPERIMENTS / "ani1x-base.yaml"))
    assert (base["download"], base["train"], base["evaluate"]) == (1, 1, 1)
    oxide = planned(folder, "--configfile", str(EXPERIMENTS / "tio2.yaml"))
    # three sizes and three seeds of four losses; of the largest structures one size
    assert (oxide["download"], oxide["train"], oxide["evaluate"]) == (1, 48, 48)


def test_the_second_step_asks_for_the_set_and_then_for_the_first_step(folder, molecules):
    assert "`piwsl data download ani1ccx` first" in refusal(folder, EXPERIMENTS / "ani1ccx.yaml")
    there = write(folder, shrunk("ani1ccx", molecules, 24, 20, **KEPT))
    assert "levels.base: model: no file results/ani1x-base/wb97x/" in refusal(folder, Path(there))


def test_both_steps_take_the_same_frames():
    keys = ("catalogue", "stride", "test_frames", "split", "seed")
    (first,), (second,) = (
        yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text())["datasets"].values()
        for name in ("ani1x-base", "ani1ccx")
    )
    assert {key: first.get(key) for key in keys} == {key: second.get(key) for key in keys}


def test_coupled_cluster_is_learned_in_two_steps(folder, molecules):
    """Cheap energies with forces, then dear ones without, of molecules that neither step is tested on."""
    model = "results/ani1x-base/wb97x/painn/supervised/n40/seed0/model.safetensors"
    first = write(folder, shrunk("ani1x-base", molecules, 40, 100, **KEPT))
    done = snakemake(folder, model, Layout("ani1x-base").dataset("wb97x").whole, "--configfile", first)
    assert done.returncode == 0, done.stdout + done.stderr

    runs = [{"model": "painn-base", "loss": "weak"}, {"model": "painn", "loss": "weak-forces"}]
    second = shrunk("ani1ccx", molecules, 24, 20, runs, **KEPT)
    second["levels"]["base"]["model"] = model
    run_of_second, run_of_forces = run(folder, second).sort_values("model", ascending=False).to_dict("records")
    assert (run_of_forces["model"], run_of_forces["loss"]) == ("painn", "weak-forces")
    assert np.isfinite(run_of_forces["energy_mae_meV"])
    history = pd.read_csv(folder / "results/ani1ccx/ccsdt/painn/weak-forces/n24/seed0/history.csv")
    assert (history["training_weak_forces"] > 0).all()
    assert run_of_second["test_frames"] == 16
    assert np.isfinite(run_of_second["energy_mae_meV"])
    assert np.isnan(run_of_second["force_mae_meV_per_A"])
    mean, errors = "energy_mae_meV_mean", pd.read_csv(folder / "results/ani1ccx/tables/errors.csv").set_index("model")
    # What is written as coupled cluster is lower by one energy an atom: what the base has wrong is all that is left.
    assert errors.loc["painn-base", mean] < 1.2 * errors.loc["base", mean] < errors.loc["the best constant", mean]

    # The set brings ωB97X itself, which the base was trained on.
    assert errors.loc["wb97x_dz", mean] < errors.loc["base", mean]

    divided = compositions(folder, "ani1ccx", "ccsdt")
    assert divided == compositions(folder, "ani1x-base", "wb97x")
    assert not divided[TRAINING] & divided[TEST]
    header = read_header(folder / "results/ani1ccx/ccsdt/painn-base/weak/n24/seed0/model.safetensors")
    assert header["baseline"]["name"] == "base"


def test_ethanol_is_learned_from_energies_alone_with_a_weak_loss(folder):
    frames = morse_frames("CH3CH2OH", 40, forces=True)
    content = {
        "nuclear_charges": frames[0].numbers,
        "coords": [atoms.positions for atoms in frames],
        "energies": [atoms.info[ENERGY_KEY] / KCAL for atoms in frames],
        "forces": [atoms.arrays[FORCES_KEY] / KCAL for atoms in frames],
    }
    np.savez(folder / "ethanol.npz", **content)
    config = write(folder, shrunk("rmd17-ethanol", "ethanol.npz", 16, 20, test_frames=8))
    errors = "results/rmd17-ethanol/ethanol/painn/weak-energies/n16/seed0/errors.json"
    done = snakemake(folder, errors, "--configfile", config)
    assert done.returncode == 0, done.stdout + done.stderr
    found = read_json(folder / errors)
    assert (found["test_frames"], found["test_force_frames"]) == (8, 8)
    assert np.isfinite([found["energy_mae_meV"], found["force_mae_meV_per_A"]]).all()


def rutile(count: int, repeated: tuple[int, int, int], seed: int) -> list[Atoms]:
    """Return labelled frames of TiO2 about its rutile structure."""
    bare = Atoms(
        "Ti2O4",
        scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5], [0.305, 0.305, 0], [0.695, 0.695, 0], [0.195, 0.805, 0.5],
                          [0.805, 0.195, 0.5]],
        cell=[4.594, 4.594, 2.959],
        pbc=True,
    ).repeat(repeated)  # fmt: skip
    rng, frames = np.random.default_rng(seed), []
    for _ in range(count):
        atoms = bare.copy()
        atoms.positions += 0.05 * rng.normal(size=atoms.positions.shape)
        atoms.calc = MorsePotential(epsilon=1.0, r0=1.95, rho0=2.0, rcut1=4.0, rcut2=5.0)
        units = len(atoms) // 3
        frames.append(label(atoms, atoms.get_potential_energy() - 2483.0 * units, atoms.get_forces()))
    return frames


def test_titanium_dioxide_is_learned_from_its_archive(folder):
    frames = rutile(24, (1, 1, 1), 0) + rutile(8, (1, 1, 2), 1)
    write_archive(folder / "tio2.tar.bz2", {f"data/structure{n:04}.xsf": xsf(each) for n, each in enumerate(frames)})
    runs = [{"dataset": "tio2", "loss": "weak"}, {"dataset": "tio2-larger", "loss": "weak-energies"}]
    config = shrunk("tio2", "tio2.tar.bz2", 12, 20, runs, test_frames=6)
    config["models"]["painn"]["cutoff"] = 3.0
    table = run(folder, config)
    assert len(table) == 2
    assert np.isfinite(table[["energy_mae_meV", "force_mae_meV_per_A"]]).all(axis=None)
    assert "compositions leave those of O, Ti open" in (folder / "results/tio2/report.html").read_text()
    assert compositions(folder, "tio2", "tio2-larger") == {TRAINING: {"Ti2O4"}, TEST: {"Ti2O4Ti2O4"}}
