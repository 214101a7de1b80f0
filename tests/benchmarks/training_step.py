"""What a training step costs: weak losses over the baseline, our step over other packages', and what the loop adds.

Aspirin with random displacements, 5 Å, 64 features, 3 layers (MACE: 2, 64x0e+64x1o), float32, AdamW. All variants of
a row take turns in one process; a ratio is that of medians. `--others` needs the packages of tests/others.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from ase import Atoms
from lightning.pytorch.profilers import SimpleProfiler
from torch import Tensor, nn

from piwsl.architectures.mace import MACE
from piwsl.architectures.painn import PaiNN
from piwsl.architectures.schnet import SchNet
from piwsl.config import Architecture, Loss, Training
from piwsl.data.batch import Batch, collate, graph
from piwsl.loss_terms.pisc import PISC
from piwsl.loss_terms.pitc import PITC
from piwsl.losses import (
    StepPlaces,
    displacements_of_step,
    factors_of_rank,
    largest_displacement,
    residual_counts,
    training_loss,
)
from piwsl.models import build_potential
from piwsl.reference.smiles import from_smiles
from piwsl.structures.structure import Structure, from_atoms
from piwsl.training.checkpoints import Checkpoints
from piwsl.training.compiled import CompiledLoss
from piwsl.training.module import PotentialModule, Task

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
CUTOFF = 5.0
BASELINE = Loss()
PITC_ONLY = Loss(pitc=PITC(weight=0.1), displacement=0.01)
CENTRAL = Loss(pitc=PITC(weight=0.1, order="central"), displacement=0.01)
QUADRATIC = Loss(pitc=PITC(weight=1.0, order="quadratic"), displacement=0.02)
HALF = Loss(pitc=PITC(weight=1.0, order="quadratic", share=0.5), displacement=0.02)
ORDER_2 = Loss(pitc=PITC(weight=1.0, order=2), displacement=0.02)
WEAK = Loss(pitc=PITC(weight=0.1), pisc=PISC(weight=0.001, every=1), displacement=0.01)

Step = Callable[[], object]


def aspirin(count: int, forces: bool) -> list[Structure]:
    """Return displaced aspirin molecules with random labels: what they are changes no time."""
    rng = np.random.default_rng(0)
    molecule = from_smiles(ASPIRIN, charge=0)
    frames = []
    for _ in range(count):
        atoms = Atoms(molecule.numbers, molecule.positions + 0.05 * rng.normal(size=molecule.positions.shape))
        atoms.info["REF_energy"] = float(rng.normal())
        if forces:
            atoms.arrays["REF_forces"] = rng.normal(size=atoms.positions.shape)
        frames.append(from_atoms(atoms))
    return frames


def config(architecture: str, direct: bool = False) -> Architecture:
    """Return the model of a row."""
    if architecture == "mace":
        return MACE(architecture="mace", cutoff=CUTOFF)
    if architecture == "schnet":
        return SchNet(architecture="schnet", cutoff=CUTOFF)
    return PaiNN(architecture="painn", cutoff=CUTOFF, forces="direct" if direct else "conservative")


def graphs(structures: list[Structure], loss: Loss, device: str) -> list[Batch]:
    """Return the frames with the neighbour lists that a loss needs."""
    skin = 2 * largest_displacement(loss.displacement) if loss.displaced else 0.0
    return [graph(structure, CUTOFF + skin, torch.float32).to(torch.device(device)) for structure in structures]


def optimised(model: nn.Module, loss: Callable[[], Tensor], device: str) -> Step:
    """Return a whole step: loss, backward, clipping, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, amsgrad=True)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        if device != "cpu":
            torch.cuda.synchronize()

    return step


def ours(model: Architecture, loss: Loss, structures: list[Structure], device: str, compiled: bool = False) -> Step:
    """Return our step with a loss, neighbour list made, displacements drawn anew each time."""
    torch.manual_seed(0)
    potential = build_potential(model, structures).to(device)
    frames = graphs(structures, loss, device)
    batch = collate(frames)
    objective = CompiledLoss(potential, loss, frames) if compiled else None
    places = StepPlaces.alone(len(frames))
    factors = loss.factors(0)
    counts = residual_counts(batch, loss, factors, places)
    factors = factors_of_rank(factors, counts, counts, ranks=1)

    def total() -> Tensor:
        draws = displacements_of_step(potential, batch, loss, seed=0, step=0) if loss.displaced else []
        if objective is not None:
            return objective(batch, draws, factors, places)[0]
        return training_loss(potential, batch, loss, draws, factors)[0]

    return optimised(potential, total, device)


def naive(model: Architecture, structures: list[Structure], device: str, weak: bool) -> Step:
    """Return the obvious step with PITC and PISC: energies and forces at r, r + δ and r + δ', one after the other."""
    torch.manual_seed(0)
    potential = build_potential(model, structures).to(device)
    batch = collate(graphs(structures, WEAK, device))

    def works(forces: Tensor, path: Tensor) -> Tensor:
        return torch.zeros_like(batch.energy).index_add(0, batch.structure_index, (forces * path).sum(dim=1).double())

    def total() -> Tensor:
        across = displacements_of_step(potential, batch, WEAK, seed=0, step=0) if weak else []
        energy, forces = potential.energy_and_forces(batch, create_graph=True)
        error = ((energy - batch.energy) / batch.n_atoms).square().mean()
        if not batch.forces.isnan().any():
            error = error + 100.0 * (forces - batch.forces).square().mean()
        there, there_forces = potential.energy_and_forces(batch.at(batch.positions + across[0]), create_graph=True)
        pitc = there - energy + works(forces, across[0])
        error = error + 0.1 * (pitc / batch.n_atoms).square().mean()
        aside, aside_forces = potential.energy_and_forces(batch.at(batch.positions + across[1]), create_graph=True)
        pisc = there - aside + works(aside_forces, across[0] - across[1])
        return error + 0.001 * (pisc / batch.n_atoms).square().mean() + 0.0 * there_forces.sum()

    return optimised(potential, total, device)


def theirs(package: str, model: Architecture, structures: list[Structure]) -> Step:
    """Return another package's baseline step with the same loss on the same neighbour list."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "others"))
    import packages

    sizes = {"features": model.features, "layers": model.layers, "radial": model.radial, "cutoff": CUTOFF}
    network: nn.Module
    if package == "mace-torch":
        neighbours = build_potential(model, structures).neighbours
        network = packages.MaceTorch(sorted(set(structures[0].numbers.tolist())), neighbours, **sizes)
    else:
        kind = packages.SchNetPack if package == "schnetpack" else packages.GraphPES
        network = kind(model.architecture, **sizes)
    batch = collate(graphs(structures, BASELINE, "cpu"))

    def total() -> Tensor:
        energy, forces = network(batch)
        errors = (energy - batch.energy.to(energy.dtype)) / batch.n_atoms
        return errors.square().mean() + 100.0 * (forces - batch.forces).square().mean()

    return optimised(network, total, "cpu")


def in_turn(steps: dict[str, Step], seconds: float) -> dict[str, float]:
    """Return the median time of each step, s; they take turns until the time is over, five rounds at least."""
    for step in steps.values():
        step()
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    started = time.perf_counter()
    while time.perf_counter() - started < seconds or len(next(iter(times.values()))) < 5:
        for name, step in steps.items():
            before = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - before)
    return {name: statistics.median(values) for name, values in times.items()}


def variants(architecture: str, batch: int, device: str, others: bool, compiled: bool) -> dict[str, Step]:
    """Return the steps of a row by name."""
    labelled, energies = aspirin(batch, forces=True), aspirin(batch, forces=False)
    model = config(architecture)
    steps: dict[str, Step] = {
        "baseline": ours(model, BASELINE, labelled, device),
        "weak": ours(model, WEAK, labelled, device),
        "naive": naive(model, labelled, device, weak=True),
        "energies": ours(model, BASELINE, energies, device),
        "energies, PITC": ours(model, PITC_ONLY, energies, device),
        "energies, central": ours(model, CENTRAL, energies, device),
        "energies, quadratic": ours(model, QUADRATIC, energies, device),
        "energies, quadratic on half": ours(model, HALF, energies, device),
        "order 2": ours(model, ORDER_2, labelled, device),
    }
    if architecture == "painn":
        direct = config("painn", direct=True)
        steps["direct"] = ours(direct, BASELINE, labelled, device)
        steps["direct, weak"] = ours(direct, WEAK, labelled, device)
    if compiled:
        steps["compiled"] = ours(model, BASELINE, labelled, device, compiled=True)
        steps["compiled, weak"] = ours(model, WEAK, labelled, device, compiled=True)
        steps["compiled, energies"] = ours(model, BASELINE, energies, device, compiled=True)
        steps["compiled, energies, PITC"] = ours(model, PITC_ONLY, energies, device, compiled=True)
        if architecture == "painn":
            steps["compiled, direct"] = ours(direct, BASELINE, labelled, device, compiled=True)
            steps["compiled, direct, weak"] = ours(direct, WEAK, labelled, device, compiled=True)
    if others:
        for package in ("mace-torch",) if architecture == "mace" else ("schnetpack", "graph-pes"):
            steps[package] = theirs(package, model, labelled)
    return steps


RATIOS = [
    ("weak / baseline", "weak", "baseline"),
    ("naive / baseline", "naive", "baseline"),
    ("direct: weak / baseline", "direct, weak", "direct"),
    ("energies alone: PITC / baseline", "energies, PITC", "energies"),
    ("energies alone: central / baseline", "energies, central", "energies"),
    ("energies alone: quadratic / baseline", "energies, quadratic", "energies"),
    ("energies alone: quadratic on half / baseline", "energies, quadratic on half", "energies"),
    ("PITC of order 2 / baseline", "order 2", "baseline"),
    ("compiled: weak / baseline", "compiled, weak", "compiled"),
    ("compiled: direct: weak / baseline", "compiled, direct, weak", "compiled, direct"),
    ("compiled: energies alone: PITC / baseline", "compiled, energies, PITC", "compiled, energies"),
    ("eager / compiled, baseline", "baseline", "compiled"),
    ("eager / compiled, weak", "weak", "compiled, weak"),
    ("schnetpack / ours", "schnetpack", "baseline"),
    ("schnetpack / ours compiled", "schnetpack", "compiled"),
    ("graph-pes / ours", "graph-pes", "baseline"),
    ("graph-pes / ours compiled", "graph-pes", "compiled"),
    ("ours / mace-torch", "baseline", "mace-torch"),
]


def loop_share(architecture: str, batch: int, steps: int) -> float:
    """Return the share of the loop's time outside loss, backward and optimiser, by Lightning's profiler."""
    structures = aspirin(4 * batch, forces=True)
    model = config(architecture)
    training = Training(steps=steps, batch_size=batch, validate_every=steps)
    frames = graphs(structures, WEAK, "cpu")
    module = PotentialModule(
        build_potential(model, structures),
        Task(training, WEAK, 0, frames, [collate(frames[:batch])], np.arange(len(frames))),
    )
    profiler = SimpleProfiler()
    profiler.describe = lambda: None  # type: ignore[method-assign]  # it would print a long table
    inside: list[float] = []

    def timed(function: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object, **keywords: object) -> object:
            before = time.perf_counter()
            result = function(*arguments, **keywords)
            inside.append(time.perf_counter() - before)
            return result

        return wrapped

    # The loss by itself, the backward pass, and AdamW's own step; drawing, logging and averaging are the loop's.
    # setattr: a clock around the loss is no kind of loss to a type checker.
    setattr(module, "_objective", timed(module._objective))  # noqa: B010
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, max_epochs=1, reload_dataloaders_every_n_epochs=1, num_sanity_val_steps=0,
            gradient_clip_val=10.0, inference_mode=False, logger=False, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False, callbacks=[Checkpoints(Path(folder))],
            limit_val_batches=0, profiler=profiler,
        )  # fmt: skip
        original = torch.optim.AdamW.step
        stepping: list[float] = []

        def own_step(self: torch.optim.AdamW, closure: Callable[[], object] | None = None) -> object:
            if closure is not None:
                with torch.enable_grad():
                    closure()
            before = time.perf_counter()
            result = original(self)
            stepping.append(time.perf_counter() - before)
            return result

        # In the class, for Lightning makes the optimiser; and it alone, since its closure holds loss and backward pass.
        setattr(torch.optim.AdamW, "step", own_step)  # noqa: B010
        try:
            trainer.fit(module)
        finally:
            setattr(torch.optim.AdamW, "step", original)  # noqa: B010
    recorded = profiler.recorded_durations
    backward = sum(sum(values) for name, values in recorded.items() if name.endswith(".backward"))
    whole = sum(recorded["run_training_epoch"])
    return 1.0 - (sum(inside) + sum(stepping) + backward) / whole


def table(arguments: argparse.Namespace) -> Iterable[str]:
    """Yield the lines of the table."""
    for architecture in arguments.architectures:
        for batch in arguments.batches:
            for threads in arguments.threads:
                torch.set_num_threads(threads)
                compiled = arguments.compiled and threads == min(arguments.threads)
                steps = variants(architecture, batch, arguments.device, arguments.others, compiled)
                times = in_turn(steps, arguments.seconds)
                yield f"{architecture}, batch {batch}, {threads} thread(s), {arguments.device}"
                yield "  ms: " + ", ".join(f"{name} {1000 * value:.1f}" for name, value in times.items())
                for name, above, below in RATIOS:
                    if above in times and below in times:
                        yield f"  {name}: {times[above] / times[below]:.2f}"
    for architecture in arguments.architectures:
        if arguments.device == "cpu" and architecture != "mace":
            torch.set_num_threads(1)
            for batch in arguments.batches:
                share = loop_share(architecture, batch, steps=max(20, 400 // batch))
                yield f"{architecture}, batch {batch}: {100 * share:.1f} % outside loss, backward and optimiser"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architectures", nargs="+", default=["schnet", "painn", "mace"])
    parser.add_argument("--batches", nargs="+", type=int, default=[8, 64])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=20.0, help="at least, for the steps of a row together")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--others", action="store_true", help="other packages, too")
    parser.add_argument("--compiled", action="store_true", help="compiled steps, too: minutes of compilation a row")
    warnings.simplefilter("ignore")
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    show = partial(print, flush=True)
    for line in table(parser.parse_args()):
        show(line)


if __name__ == "__main__":
    main()
