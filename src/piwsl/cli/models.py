"""Models: trained, tested, asked about frames, and what their files hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from piwsl.cli.application import Device, Format, command
from piwsl.errors import PiwslError

if TYPE_CHECKING:
    from ase import Atoms


@command
def train(
    frames: Annotated[Path, typer.Argument(metavar="FRAMES.xyz", help="Labelled frames.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where model and history go.")],
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="`model` and `loss`, as sections of an experiment.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="painn, schnet, mace or an installed one; painn where nothing says.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    pool: Annotated[
        Path | None, typer.Option(help="Frames without labels, for a loss with a pool, or for a teacher to label.")
    ] = None,
    teacher: Annotated[Path | None, typer.Option(metavar="MODEL", help="A model file; it labels the pool.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and order.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs; 0 trains on the CPU.")] = 0,
    level: Annotated[str | None, typer.Option(help="Of theory, in words: what `piwsl info` says of the model.")] = None,
    form: Format = None,
) -> None:
    """Train a potential on the labelled frames of a file, without an experiment.

    Each frame has `REF_energy` (eV), `REF_forces` (eV/Å) or both; some have an energy. Of .traj, .db and what else ASE
    reads the results of calculations are taken. Writes FOLDER/model.safetensors and FOLDER/history.csv. Interrupted and
    started again, it goes on.

    Example: `piwsl train frames.xyz my-model --architecture painn`
    """
    from piwsl import api
    from piwsl.config import parse_training
    from piwsl.data.reading import read_frames
    from piwsl.models import load_model
    from piwsl.readers import READERS, format_of

    if teacher is not None and pool is None:
        raise PiwslError("--teacher: there is nothing to label; name frames with --pool")
    model, loss = parse_training(config, architecture, steps)
    labelled, unlabelled = read_frames(frames, form), [] if pool is None else read_frames(pool, form)
    labelling = None if teacher is None else load_model(teacher)
    readers = {form or format_of(path) for path in (frames, pool) if path is not None}
    brought = {kind: source for name in sorted(readers) for kind, source in READERS.named_source(name).items()}
    api.train(labelled, folder, model, loss, seed, unlabelled, threads, gpus, labelling, brought, level)
    print(f"trained: {folder / 'model.safetensors'}")


@command
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file.")],
    frames: Annotated[Path, typer.Argument(metavar="FRAMES.xyz", help="Labelled frames that it has not seen.")],
    errors: Annotated[Path | None, typer.Option(metavar="OUT.json", help="Also write the errors there.")] = None,
    device: Device = "cpu",
    form: Format = None,
) -> None:
    """Say how far a model is from the labels of frames: energies, their constant part, forces, stress, slopes.

    Frames that the model's baseline gives up on are left out, with a line each that says why.

    Example: `piwsl evaluate my-model/model.safetensors test.xyz`
    """
    from piwsl import api
    from piwsl.data.reading import each_frame
    from piwsl.files import check_outputs, write_json
    from piwsl.models import load_model

    check_outputs([] if errors is None else [errors], inputs=[model, frames])
    number = 0

    def labelled() -> Iterator[Atoms]:
        nonlocal number
        for atoms in each_frame(frames, form):
            number += 1
            yield atoms

    found = api.evaluate(load_model(model, device), labelled())
    print(f"{found['test_frames']} of {number} frames")
    for name, value in found.items():
        print(f"{name}: {'not labelled' if value is None else f'{value:.4g}'}")
    if errors is not None:
        write_json(errors, found)


@command
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file.")],
    frames: Annotated[Path, typer.Argument(metavar="IN.xyz", help="Geometries, periodic or not.")],
    predicted: Annotated[Path, typer.Argument(metavar="OUT.xyz", help="Frames to write.")],
    device: Device = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; small systems want one.")] = 1,
    form: Format = None,
) -> None:
    """Predict energies and forces of geometries.

    Writes `energy` (eV) and `forces` (eV/Å). Where the frames have labels (`REF_energy`, `REF_forces`), the errors
    are printed. Frames that the model's baseline gives up on are left out with a line each, and the exit code is 1.

    Example: `piwsl predict model.safetensors test.xyz predicted.xyz`
    """
    import torch

    from piwsl.evaluation.files import predict_file

    torch.set_num_threads(threads)
    predict_file(model, frames, predicted, device, form)


@command
def info(path: Annotated[Path, typer.Argument(metavar="FILE", help="A model file, or a dataset file (.h5).")]) -> None:
    """Show what a model file holds: architecture, elements, units, versions; level of theory, charges, multiplicities.

    With the errors on test frames, where the evaluation of its experiment lies beside it. Of a dataset file: frames,
    elements, how many labels of which level, and where they come from.

    Example: `piwsl info results/ammonia/ammonia/painn/weak/n60/seed0/model.safetensors`
    """
    import yaml

    told = _told_of_dataset(path) if path.suffix == ".h5" else _told_of_model(path)
    print(yaml.safe_dump(told, sort_keys=False, allow_unicode=True), end="")


def _told_of_dataset(path: Path) -> dict[str, Any]:
    from piwsl.data.dataset import Dataset

    with Dataset(path) as dataset:
        return dataset.about()


def _told_of_model(path: Path) -> dict[str, Any]:
    from piwsl.evaluation.files import errors_of
    from piwsl.models.storage import read_header
    from piwsl.workflow.layout import RunFiles

    header = read_header(path)
    errors = errors_of(path, header, Path(RunFiles(str(path.parent)).errors))
    return header if errors is None else {**header, "test_errors": errors}
