"""Published data sets: which there are, what they are, and their files."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from piwsl.cli.application import app, command

if TYPE_CHECKING:
    from pathlib import Path

    from piwsl.catalogue import Source

SetName = Annotated[str, typer.Argument(metavar="NAME", help="As `piwsl data list` has it, such as rmd17/ethanol.")]
data = typer.Typer(no_args_is_help=True, help="Published data sets that a dataset names as `catalogue`.")
app.add_typer(data, name="data")


@partial(command, group=data, name="list")
def list_sets() -> None:
    """Say which published sets are known, a line each: name, level of theory, whether it was tried, what it is.

    Example: `piwsl data list`
    """
    from piwsl.catalogue import entries

    width = max(map(len, entries()))
    for name, entry in entries().items():
        print(f"{name:{width}}  verified: {entry.verified:6}  {entry.levels[0]}: {entry.about}")


@partial(command, group=data, name="show")
def show_set(name: SetName) -> None:
    """Say what a published set is, whom to cite, where it comes from, and what a config says of it.

    Example: `piwsl data show rmd17/ethanol`
    """
    from piwsl.catalogue import find

    entry = find(name)
    lines = {
        "about": entry.about,
        "levels": "; ".join(entry.levels),
        "brings": ", ".join(entry.keys.get("given_levels", {})) or "one level",
        "units": f"{entry.units} as published; eV, eV/Å, Å here",
        "format": entry.format,
        "files": ", ".join(entry.files),
        "splits": entry.splits,
        "citation": entry.citation,
        "licence": entry.licence,
        "homepage": entry.homepage,
        "download": entry.address or "by hand, from the homepage; then say path",
        "verified": f"{entry.verified} ({entry.tried})",
    }
    for key, text in lines.items():
        print(f"{key + ':':10}{text}")
    for source in entry.sources():
        if source.archive is None:
            print(f"{'sha256:':10}{source.sha256 or 'not known; kept at the first download'}: {source.path}")


@partial(command, group=data, name="download")
def download_set(name: SetName) -> None:
    """Download a published set to where the workflow looks for it, or what is missing of it.

    Example: `piwsl data download rmd17/ethanol`
    """
    from piwsl.catalogue import find
    from piwsl.catalogue.download import download, unpack
    from piwsl.errors import PiwslError

    entry = find(name)
    if entry.address is None:
        raise PiwslError(f"'{name}' is not downloaded here; get it from {entry.homepage}, and say path in the config")
    missing = [source for source in entry.sources() if not source.path.exists()]
    packed: dict[Path, list[Source]] = {}
    for source in missing:
        if source.archive is None:
            download(source)
        else:
            packed.setdefault(source.archive, []).append(source)
    for archive, sources in packed.items():
        unpack(archive, sources)
    for source in entry.sources():
        print(source.path)
