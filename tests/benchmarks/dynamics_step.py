"""What a step of dynamics costs: our calculator as it stands and compiled, replicas moved together, other packages'.

Langevin steps of ASE's loop with 5 Å, 64 features, 3 layers (MACE: 2, 64x0e+64x1o), float32, one thread; networks are
untrained, and atoms so heavy that they stay where they are. All variants of a row take turns in one process; a ratio is
that of medians of the CPU's time. A simulation is of STEPS steps, its start included. `--others` needs the packages of
tests/others.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.md.langevin import Langevin
from numpy.typing import NDArray
from torch import nn
from training_step import CUTOFF, config

from piwsl.config import ReplicaSimulation, parse_section
from piwsl.data.batch import collate, graph
from piwsl.interfaces import PotentialCalculator
from piwsl.models import Predictor, build_potential, fit_pair_potential
from piwsl.models.compiled import CompiledPredictor, compiled_predictor
from piwsl.reference.smiles import from_smiles
from piwsl.simulation.criteria import judged_bonds
from piwsl.simulation.engine import run_replicas
from piwsl.simulation.group import Replica
from piwsl.structures.structure import Structure, from_atoms

MOLECULES = {"ammonia": "N", "aspirin": "CC(=O)Oc1ccccc1C(=O)O"}
REPLICAS = 16
# Of a simulation, whose start is part of what it takes.
STEPS = 50
TIMESTEP = 0.5  # fs
# amu; of each atom.
HEAVY = 1e6

Step = Callable[[], object]


def geometry(molecule: str) -> Atoms:
    """Return a molecule of which no atom gets far."""
    found = from_smiles(MOLECULES[molecule], charge=0)
    return Atoms(found.numbers, found.positions, masses=np.full(len(found.numbers), HEAVY))


def frames(atoms: Atoms) -> list[Structure]:
    """Return displaced frames with random labels: what they are changes no time."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(8):
        frame = Atoms(atoms.numbers, atoms.positions + 0.05 * rng.normal(size=atoms.positions.shape))
        frame.info["REF_energy"] = float(rng.normal())
        frame.arrays["REF_forces"] = rng.normal(size=frame.positions.shape)
        made.append(from_atoms(frame))
    return made


def potential(architecture: str, atoms: Atoms) -> Predictor:
    """Return our potential as training leaves it: a network and a pair potential."""
    torch.manual_seed(0)
    structures = frames(atoms)
    found = build_potential(config(architecture), structures)
    found.pair = fit_pair_potential(structures, CUTOFF).potential
    return found


def loop(atoms: Atoms, calculator: Calculator) -> Step:
    """Return a step of ASE's Langevin dynamics."""
    own = atoms.copy()
    own.calc = calculator
    dynamics = Langevin(own, TIMESTEP * units.fs, temperature_K=300, friction=0.01 / units.fs, fixcm=False)
    return lambda: dynamics.run(1)


def together(atoms: Atoms, model: Predictor) -> Step:
    """Return the energies and forces of all replicas at once, their neighbours known."""
    batch = collate([graph(from_atoms(atoms), CUTOFF, model.dtype)] * REPLICAS)
    return lambda: model.predict(batch)


class HeavyReplica(Replica):
    """A molecule that stays where it is."""

    @property
    def masses(self) -> NDArray[np.float64]:
        """(N,), u."""
        return np.full(self.atoms, HEAVY)


def simulation(atoms: Atoms, model: Predictor) -> Step:
    """Return STEPS steps of all replicas as the pipeline takes them: moved, judged and noted."""
    settings = parse_section(ReplicaSimulation, {"time": STEPS * TIMESTEP / 1000, "timestep": TIMESTEP}, "settings")
    judged = judged_bonds(atoms, [atoms.positions], settings.bond_tolerance)
    replicas = [HeavyReplica(0, from_atoms(atoms), 300.0, number, judged) for number in range(REPLICAS)]
    return lambda: run_replicas(model, replicas, settings, progress=lambda line: None)


def schnetpack(architecture: str) -> Calculator:
    """Return schnetpack's calculator of an untrained model, with its fastest neighbour list."""
    import packages
    from schnetpack.interfaces import SpkCalculator
    from schnetpack.model import NeuralNetworkPotential
    from schnetpack.transform import MatScipyNeighborList

    class OfModel(SpkCalculator):
        """Takes a model, for schnetpack 2.1.1 cannot read its files with newer torch."""

        def _load_model(self, model: nn.Module) -> nn.Module:
            return model.eval()

    sizes = config(architecture)
    parts = packages.SchNetPack(architecture, sizes.features, sizes.layers, sizes.radial, CUTOFF)
    outputs = [parts.readout, parts.forces]
    model = NeuralNetworkPotential(parts.representation, input_modules=[parts.distances], output_modules=outputs)
    return OfModel(model, MatScipyNeighborList(CUTOFF), energy_unit="eV")


def mace_torch(atoms: Atoms, neighbours: float) -> Calculator:
    """Return mace-torch's calculator of an untrained model."""
    import packages
    from mace.calculators import MACECalculator

    sizes = config("mace")
    elements = sorted(set(atoms.numbers.tolist()))
    network: nn.Module = packages.MaceTorch(
        elements, neighbours, sizes.features, sizes.layers, sizes.radial, CUTOFF
    ).model
    return MACECalculator(models=[network], device="cpu", default_dtype="float32")


def variants(architecture: str, molecule: str, others: bool) -> dict[str, Step]:
    """Return the steps of a row by name."""
    atoms = geometry(molecule)
    model = potential(architecture, atoms)
    steps = {
        "calculator": loop(atoms, PotentialCalculator(model)),
        "batch": together(atoms, model),
        "simulation": simulation(atoms, model),
    }
    code = compiled_predictor(model)
    if isinstance(code, CompiledPredictor):
        steps |= {
            "compiled": loop(atoms, PotentialCalculator(code)),
            "compiled, batch": together(atoms, code),
            "compiled, simulation": simulation(atoms, code),
        }
    if others and architecture == "mace":
        steps["mace-torch"] = loop(atoms, mace_torch(atoms, model.neighbours))
    elif others:
        steps["schnetpack"] = loop(atoms, schnetpack(architecture))
    return steps


# What of, over what, and how many steps of the first are one of the second.
RATIOS = [
    ("calculator / compiled", "calculator", "compiled", 1),
    (f"{REPLICAS} steps / a batch of {REPLICAS}", "calculator", "batch", REPLICAS),
    (f"{REPLICAS} steps / a compiled batch of {REPLICAS}", "calculator", "compiled, batch", REPLICAS),
    (f"{REPLICAS} compiled steps / a compiled batch of {REPLICAS}", "compiled", "compiled, batch", REPLICAS),
    (f"{REPLICAS} steps / one of a simulation", "calculator", "simulation", REPLICAS * STEPS),
    (f"{REPLICAS} compiled steps / one of a compiled simulation", "compiled", "compiled, simulation", REPLICAS * STEPS),
    (f"{REPLICAS} steps / one of a compiled simulation", "calculator", "compiled, simulation", REPLICAS * STEPS),
    ("schnetpack / calculator", "schnetpack", "calculator", 1),
    ("schnetpack / compiled", "schnetpack", "compiled", 1),
    ("mace-torch / calculator", "mace-torch", "calculator", 1),
]


def in_turn(steps: dict[str, Step], seconds: float) -> dict[str, float]:
    """Return the median of each step's time of the CPU, s; they take turns until the time is over, ten rounds at least.

    Of the CPU: steps are so short that what else a machine does would be seen.
    """
    for step in steps.values():
        step()
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    started = time.perf_counter()
    while time.perf_counter() - started < seconds or len(next(iter(times.values()))) < 10:
        for name, step in steps.items():
            before = time.process_time()
            step()
            times[name].append(time.process_time() - before)
    return {name: statistics.median(values) for name, values in times.items()}


def table(arguments: argparse.Namespace) -> Iterable[str]:
    """Yield the lines of the table."""
    for architecture in arguments.architectures:
        for molecule in arguments.molecules:
            steps = variants(architecture, molecule, arguments.others)
            times = in_turn(steps, arguments.seconds)
            yield f"{architecture}, {molecule}"
            yield "  ms: " + ", ".join(f"{name} {1000 * value:.2f}" for name, value in times.items())
            for name, above, below, count in RATIOS:
                if above in times and below in times:
                    yield f"  {name}: {count * times[above] / times[below]:.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architectures", nargs="+", default=["schnet", "painn", "mace"])
    parser.add_argument("--molecules", nargs="+", choices=list(MOLECULES), default=list(MOLECULES))
    parser.add_argument("--seconds", type=float, default=20.0, help="at least, for the steps of a row together")
    parser.add_argument("--others", action="store_true", help="other packages, too")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sys.path.insert(0, str(Path(__file__).parent.parent / "others"))
    show = partial(print, flush=True)
    for line in table(parser.parse_args()):
        show(line)


if __name__ == "__main__":
    main()
