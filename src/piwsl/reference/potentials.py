"""Levels that are trained potentials: a file, known by its content. What reads the file is an engine of its own."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints

from piwsl.config import Level
from piwsl.config.section import LONGEST_VALUE, InputFile, one_line, shortened
from piwsl.errors import PiwslError
from piwsl.files import file_hash

LONGEST_FILE = 30
# Hexadecimal digits that tell files apart for who reads a line.
SHOWN = 8

# Names by SHA-256 files that run code when they are opened: those that may where it is a model that asks for them.
TRUSTED = "PIWSL_TRUSTED"

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]


class PotentialLevel(Level):
    """A level whose energies a file of a trained potential gives; the file is what its SHA-256 says, wherever it lies.

    Charge and multiplicity are nothing that such a file knows of: frames of any are taken, and get the same energy.
    """

    model: InputFile = Field(description="The file of the potential.")
    sha256: Sha256 | None

    @abstractmethod
    def elements(self) -> list[str]:
        """Return the chemical symbols that the potential knows; its file is read for that.

        Raises:
            PiwslError: it is not there, not the one that is meant, or no potential: `key: what is wrong`.
        """

    def content(self) -> bytes:
        """Return the bytes of the file.

        Raises:
            PiwslError: it is not there, or has another SHA-256.
        """
        if not self.model.is_file():
            raise PiwslError(f"model: no file {self.path}; put it there, or beside the model that corrects it")
        try:
            content = self.model.read_bytes()
        except OSError as error:
            raise PiwslError(f"model: {self.path} cannot be read: {error.strerror}") from None
        if self.sha256 is None:
            raise PiwslError(f"model: {self.path} was not there when the level was read; start again")
        if (found := hashlib.sha256(content).hexdigest()) != self.sha256:
            raise PiwslError(
                f"sha256: {self.file} has {found}, not {self.sha256[:SHOWN]}...; check where it comes from"
            )
        return content

    @property
    def path(self) -> str:
        """Where the file is, for a line."""
        return shortened(str(self.model), LONGEST_VALUE)

    @property
    def file(self) -> str:
        """The name of the file, for lines that say more."""
        return shortened(self.model.name, LONGEST_FILE)

    def beside(self, folder: Path) -> Self:
        """Return the level with the file that is the one: at the path that was said, or of its name in the folder."""
        places = [path for path in (self.model, folder / self.model.name) if path.is_file()]
        of_content = [path for path in places if file_hash(path) == self.sha256]
        return self.model_copy(update={"model": [*of_content, *places, self.model][0]})

    def analytic_problem(self, multiplicity: int) -> None:
        """Say that there are analytic forces, always."""

    def problem(self, symbols: set[str]) -> str | None:
        """Say why the file cannot be used, or which elements it does not know."""
        try:
            known = self.elements()
        except PiwslError as error:
            return one_line(str(error))
        unknown = sorted(symbols - set(known))
        if not unknown:
            return None
        return one_line(f"model: {self.file} was not trained on {', '.join(unknown)}; it knows {', '.join(known)}")

    def recipe(self) -> dict[str, Any]:
        """Return the content of the file, by its hash, and no path."""
        return {key: value for key, value in self.plain().items() if key not in ("engine", "model")}

    def words(self, kind: str) -> str:
        """Return what kind of potential it is, of which file."""
        return f"{kind} of {self.file}" + (f" ({self.sha256[:SHOWN]})" if self.sha256 else "")


def trusted() -> set[str]:
    """Return what the environment says may be opened."""
    return {found.lower() for found in os.environ.get(TRUSTED, "").split()}


def trusted_with(levels: Iterable[Level]) -> str:
    """Return what the environment shall say in jobs of an experiment, whose config vouches for the files of its levels.

    Args:
        levels: of the experiment.
    """
    said = {level.sha256 for level in levels if isinstance(level, PotentialLevel) and level.sha256 is not None}
    return " ".join(sorted(trusted() | said))
