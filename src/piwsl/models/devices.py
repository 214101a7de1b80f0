"""Where a model may compute: found out on its own, so that nothing else is taken for a bad device."""

from __future__ import annotations

import torch

from piwsl.errors import PiwslError


def usable_device(name: str) -> torch.device:
    """Return a device after a first number was computed there.

    Args:
        name: cpu, cuda or cuda:N.

    Raises:
        PiwslError: no such device, or one that does not compute.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise PiwslError(f"device {name!r} is unknown; say cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise PiwslError(f"device {name!r} cannot be used; say cpu, cuda or cuda:N")
    if device.type == "cuda":
        _check_cuda(name, device.index or 0)
    try:
        torch.ones(1, dtype=torch.float64, device=device).sum().item()
    except (RuntimeError, AssertionError) as error:
        raise PiwslError(f"device {name!r} cannot be used: {str(error).strip().splitlines()[0]}") from None
    return device


def _check_cuda(name: str, index: int) -> None:
    if not torch.cuda.is_available():
        why = "sees no GPU" if torch.version.cuda else "was built without CUDA"
        raise PiwslError(f"device {name!r} cannot be used: this torch ({torch.__version__}) {why}; say cpu")
    if index >= torch.cuda.device_count():
        raise PiwslError(f"device {name!r} does not exist: torch counts {torch.cuda.device_count()} GPUs, from cuda:0")
