"""The config files that Snakemake planned with: a job reads its config when it starts, and is given copies of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake.common.configfile import load_configfile
from snakemake.utils import update_config
from snakemake_interface_common.exceptions import WorkflowError

PREFIX = "config-"


@dataclass(frozen=True)
class FrozenConfig:
    """The content of config files, byte by byte: a reader of its own may see in them what Snakemake's does not."""

    files: tuple[tuple[str, bytes], ...]
    """Names and contents; a later file overrides the ones before."""

    def arguments(self, folder: Path) -> list[str]:
        """Return what the inner Snakemake is told, as its last arguments: these files stand for all that were named.

        Args:
            folder: where the files are, or are written to.
        """
        if not self.files:
            return []
        for name, content in self.files:
            if not (folder / name).exists():
                folder.mkdir(parents=True, exist_ok=True)
                # A disk that fills up leaves half a file, which must not be handed to later jobs.
                temporary = folder / f"{name}.part"
                temporary.write_bytes(content)
                temporary.replace(folder / name)
        return ["--configfiles", *(str(folder / name) for name, _ in self.files), "--replace-workflow-config"]


def frozen_config(workflow: Any) -> FrozenConfig:
    """Return the config files that a workflow was planned with.

    Args:
        workflow: Snakemake's.

    Raises:
        WorkflowError: a file of the command line was edited since Snakemake read it. (What the workflow itself names
            cannot be told so.)
    """
    settings = workflow.config_settings
    given = [Path(path) for path in settings.configfiles]
    named = () if settings.replace_workflow_config else workflow.configfiles[len(given) :]
    # The workflow may have changed its folder since it named them.
    own = [_first_there((Path(name), Path(workflow.workdir_init) / name)) for name in named]
    paths = [path for path in own if path is not None] + given
    contents = [path.read_bytes() for path in paths]
    read: dict[str, Any] = {}
    for path in given:
        update_config(read, load_configfile(path))
    update_config(read, settings.config)
    if read != settings.overwrite_config:
        raise WorkflowError(f"{', '.join(map(str, given))}: edited while Snakemake planned with it; start again")
    names = (f"{PREFIX}{number}{path.suffix}" for number, path in enumerate(paths))
    return FrozenConfig(tuple(zip(names, contents, strict=True)))


def _first_there(places: Iterable[Path]) -> Path | None:
    return next(filter(Path.exists, places), None)
