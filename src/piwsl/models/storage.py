"""Model files: safetensors, with all that a reader needs to rebuild the potential as JSON in the header."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from ase.data import atomic_numbers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from piwsl.config import parse_model
from piwsl.errors import PiwslError
from piwsl.files import write_atomically
from piwsl.models.potential import Potential

FORMAT = "piwsl-potential-2"


def save_model(path: Path, potential: Potential, provenance: dict[str, Any]) -> None:
    """Write a potential as safetensors, atomically.

    Args:
        path: the file to write.
        potential: the potential.
        provenance: what it was trained on and how (run, hash of the data, ...), plain values.
    """
    header = {
        "format": FORMAT,
        "config": potential.config.plain(),
        "elements": potential.elements(),
        "neighbours": potential.neighbours,
        "units": {"energy": "eV", "length": "Å", "forces": "eV/Å"},
        "conservative": potential.conservative,
        "provenance": provenance,
        "versions": {"piwsl": version("piwsl"), "torch": version("torch")},
    }
    metadata = {key: json.dumps(value, ensure_ascii=False) for key, value in header.items()}
    tensors = {key: value.contiguous().cpu() for key, value in potential.state_dict().items()}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of a model file.

    Raises:
        PiwslError: no such file, or not a model of this project.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        header = {key: json.loads(value) for key, value in metadata.items()}
    except FileNotFoundError:
        raise PiwslError(f"{path}: no such file") from None
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise PiwslError(f"{path}: not a model file of piwsl ({error})") from None
    if header.get("format") != FORMAT:
        raise PiwslError(f"{path}: found format {header.get('format')!r}, expected {FORMAT!r}")
    return header


def load_model(path: Path | str, device: str = "cpu") -> Potential:
    """Load a potential for use, its weights fixed; nothing is unpickled.

    Args:
        path: a file that `save_model` wrote.
        device: where torch shall put it.

    Raises:
        PiwslError: no such file, or not a model of this project.
    """
    path = Path(path)
    header = read_header(path)
    config = parse_model(header["config"], str(path))
    references = {atomic_numbers[symbol]: 0.0 for symbol in header["elements"]}
    potential = Potential(config, scale=1.0, references=references, neighbours=header["neighbours"])
    with safe_open(path, framework="pt") as file:
        potential.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118 (not a dict)
    return potential.to(torch.device(device)).eval().requires_grad_(False)
