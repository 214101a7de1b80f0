"""Signals that would come at a bad moment."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def put_off(*numbers: signal.Signals) -> Iterator[None]:
    """Handle signals at the end.

    Blocking them would not do: another thread, as numerical libraries start them, would take them for this one.

    Args:
        numbers: which; one that no function handles is dropped.
    """
    heard: list[int] = []
    handlers: dict[int, Any] = {
        number: signal.signal(number, lambda number, frame: heard.append(number)) for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in heard:
            if callable(handlers[number]):
                handlers[number](number, None)
