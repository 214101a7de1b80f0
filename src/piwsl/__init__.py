"""piwsl: interatomic potentials from scarce reference energies, trained with physics-informed weak supervision."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from piwsl.api import evaluate, label, predict, simulate, train
    from piwsl.data.reading import read_frames
    from piwsl.interfaces import PotentialCalculator
    from piwsl.models import load_model
    from piwsl.structures.frames import write_frames

__all__ = [
    "PotentialCalculator",
    "evaluate",
    "label",
    "load_model",
    "predict",
    "read_frames",
    "simulate",
    "train",
    "write_frames",
]

_MODULES = {
    "PotentialCalculator": "piwsl.interfaces",
    "load_model": "piwsl.models",
    "read_frames": "piwsl.data.reading",
    "write_frames": "piwsl.structures.frames",
}


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; what does not need it should not wait for it.
    if name in __all__:
        return getattr(import_module(_MODULES.get(name, "piwsl.api")), name)
    raise AttributeError(f"module 'piwsl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
