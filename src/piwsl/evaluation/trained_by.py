"""Whether a model file is what the config would train: its errors are reported under the names of that."""

from __future__ import annotations

from pathlib import Path

from piwsl.config import Architecture, Loss, Run, Section, parse_model, parse_section
from piwsl.config.section import dotted
from piwsl.errors import PiwslError
from piwsl.models.storage import read_header

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
    header = read_header(model_path)
    provenance = header["provenance"]
    then: dict[str, Section] = {
        "run": parse_section(Run, provenance.get("run", {}), f"{model_path}: run"),
        f"models.{run.model}": parse_model(header["config"], f"{model_path}: config"),
        f"losses.{run.loss}": parse_section(Loss, provenance.get("loss", {}), f"{model_path}: loss"),
    }
    now: dict[str, Section] = {"run": run, f"models.{run.model}": model, f"losses.{run.loss}": loss}
    for name, section in now.items():
        old, new = dotted(then[name]), dotted(section)
        if changed := [key for key in new | old if old.get(key, ABSENT) != new.get(key, ABSENT)]:
            key = changed[0]
            raise PiwslError(
                f"{model_path}: trained with {name}.{key}: {old.get(key, ABSENT)}, and the config says "
                f"{new.get(key, ABSENT)}; train it again: snakemake --forcerun {model_path}"
            )
