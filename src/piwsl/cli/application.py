"""The application: how commands are registered, how they end, and what options several of them have."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from piwsl.errors import PiwslError
from piwsl.extras import naming_extras
from piwsl.files import refusal

Format = Annotated[
    str | None, typer.Option("--format", help="What reads the frames: extxyz, ase, ...; default: by the file's name.")
]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]

app = typer.Typer(
    name="piwsl",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Reference energies, potentials and simulations without Snakemake. Energies are in eV, lengths in Å.",
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"piwsl {metadata.version('piwsl')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options without a command."""


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        with naming_extras():
            yield
    except PiwslError as error:
        _end(str(error))
    except (OSError, RuntimeError) as error:  # h5py and torch write by themselves
        reason = refusal(error)
        if reason is None:
            raise
        _end(reason)


def _end(reason: str) -> NoReturn:
    print(f"error: {reason}", file=sys.stderr)
    raise typer.Exit(1) from None


def command(function: Callable[..., None], group: typer.Typer = app, name: str | None = None) -> Callable[..., None]:
    """Register a command whose PiwslError ends it with one line and exit code 1."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        with _errors_in_one_line():
            function(*args, **kwargs)

    return group.command(name)(wrapped)


def warn(config: Path, lines: Iterable[str]) -> None:
    """Print lines about an experiment as warnings, beside what a command prints."""
    for line in lines:
        print(f"warning: {config}: {line}", file=sys.stderr)
