"""Whether a model file is what the config would train: its errors are reported under the names of that.

Reports ask for every model, and are written without torch: its header alone is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from piwsl.config import Architecture, Loss, Run, Section, parse_model, parse_section
from piwsl.config.section import dotted
from piwsl.errors import PiwslError

ABSENT = "nothing"


def check_trained_by(model_path: Path, run: Run, model: Architecture, loss: Loss) -> None:
    """Refuse a model that was trained otherwise than the config says now.

    Args:
        model_path: a model file of the workflow.
        run: the point of the grid that it stands for.
        model: architecture and training of the config.
        loss: of the config.

    Raises:
        PiwslError: no model file, or one of another run, model or loss; the first key that differs is named.
    """
    if (said := trained_otherwise(model_path, run, model, loss)) is not None:
        raise PiwslError(f"{model_path}: {said}; train it again: snakemake --forcerun {model_path}")


def trained_otherwise(model_path: Path, run: Run, model: Architecture, loss: Loss) -> str | None:
    """Say by which setting a model was trained that the config has no more; None where it has them all.

    Arguments are as of `check_trained_by`.

    Raises:
        PiwslError: no model file.
    """
    header = _header(model_path)
    provenance = header.get("provenance") or {}
    then: dict[str, Section] = {
        "run": parse_section(Run, provenance.get("run", {}), f"{model_path}: run"),
        f"models.{run.model}": parse_model(header.get("config"), f"{model_path}: config"),
        f"losses.{run.loss}": parse_section(Loss, provenance.get("loss", {}), f"{model_path}: loss"),
    }
    now: dict[str, Section] = {"run": run, f"models.{run.model}": model, f"losses.{run.loss}": loss}
    found = difference(then, now)
    return None if found is None else f"trained with {found}"


def _header(path: Path) -> dict[str, Any]:
    """Return the header of a model file, as `piwsl.models.storage` writes it and nobody has checked it."""
    try:
        with safe_open(path, framework="np") as file:
            return {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise PiwslError(f"{path}: not a model file of piwsl ({error})") from None


def difference(then: Mapping[str, Section], now: Mapping[str, Section]) -> str | None:
    """Say in which setting sections by the same names differ: the first one, what it was and what it is; None if none.

    Args:
        then: what something was made by.
        now: what the config says.
    """
    for name, section in now.items():
        old, new = dotted(then[name]), dotted(section)
        for key in new | old:
            was, is_now = old.get(key, ABSENT), new.get(key, ABSENT)
            if was != is_now:
                return f"{name}.{key}: {was}, and the config says {is_now}"
    return None
