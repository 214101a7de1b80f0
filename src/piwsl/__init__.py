"""piwsl: interatomic potentials from scarce reference energies, trained with physics-informed weak supervision."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from piwsl.models import load_model

__all__ = ["load_model"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; what does not need it should not wait for it.
    if name == "load_model":
        from piwsl.models import load_model

        return load_model
    raise AttributeError(f"module 'piwsl' has no attribute {name!r}")
