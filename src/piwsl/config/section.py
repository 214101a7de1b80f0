"""What every section of the config has: immutability, no unknown keys, a hash. And how a file becomes one."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from piwsl.errors import PiwslError

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class ConfigError(PiwslError):
    """A configuration that cannot be run; the text is one line naming the key and what would be right."""


def nearest(word: object, choices: Mapping[str, Any] | list[str]) -> str:
    """Say which of the choices is meant, or list them all.

    Args:
        word: what was found.
        choices: what would be right.

    Returns:
        "did you mean 'x'?" or "known are a, b, c".
    """
    known = [str(choice) for choice in choices]
    close = difflib.get_close_matches(str(word), known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known are {', '.join(sorted(known)) or 'none'}"


class Section(BaseModel):
    """A mapping of the config: immutable, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _unknown_keys_name_the_nearest(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            for key in value:
                if key not in cls.model_fields:
                    raise ValueError(f"unknown key '{key}'; {nearest(key, cls.model_fields)}")
        return value

    def plain(self) -> dict[str, Any]:
        """Return the section, defaults included, as plain values (for headers and reports). Resources are left out."""
        return self.model_dump(mode="json")

    def beyond_defaults(self) -> dict[str, Any]:
        """Return what the section says that its defaults do not, as plain values (for hashes and Snakemake's params).

        A key that a later version adds with a default changes no hash and redoes no job. Resources are left out.
        """
        return self.model_dump(mode="json", exclude_defaults=True)

    def digest(self) -> str:
        """Return a short hash that changes when, and only when, a value of the section changes."""
        text = json.dumps(self.beyond_defaults(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


SectionType = TypeVar("SectionType", bound=Section)


def _one_line(error: ValidationError) -> str:
    """Turn the first problem that pydantic found into `key: what was found; what would be right`."""
    first = error.errors()[0]
    path = list(first["loc"])
    if path[:1] in (["datasets"], ["models"]):
        del path[2:3]  # which kind of section pydantic took it for
    where = ".".join(str(part) for part in path)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] not in ("value_error", "missing"):
        message = f"{message[0].lower()}{message[1:]}, found {first['input']!r}"
    if first["type"] == "missing":
        message = "this key is missing"
    return f"{where}: {message}" if where else message


def parse_section(section: type[SectionType], mapping: Any, source: str) -> SectionType:
    """Validate a mapping as a section.

    Args:
        section: the class to validate as.
        mapping: what YAML gave.
        source: the file it comes from, for messages.

    Raises:
        ConfigError: one line with the file, the key, what was found and what would be right.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{source}: found {type(mapping).__name__}, expected keys and values")
    try:
        return section.model_validate(mapping)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_one_line(error)}") from None


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        ConfigError: the file is missing or is not YAML; one line that says where.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}:{line} is not YAML: {getattr(error, 'problem', error)}") from None
