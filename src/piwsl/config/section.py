"""What every section of the config has: immutability, no unknown keys. And how a file becomes one."""

from __future__ import annotations

import difflib
import re
import reprlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticKnownError, core_schema

from piwsl.errors import PiwslError
from piwsl.registry import Registry

LONGEST_MESSAGE = 200
LONGEST_VALUE = 60
LONGEST_PATH = 30
# A path of three folders or more.
LONG_PATH = re.compile(r"(?<![^\s'\"])[^\s'\":/]*((?:/[^\s'\":/]+){3,})")


def shortened(text: str, length: int) -> str:
    """Return a text with its middle left out where it is longer than `length`."""
    if len(text) <= length:
        return text
    kept = length - len(" ... ")
    return f"{text[: kept - kept // 2]} ... {text[-(kept // 2) :]}"


def one_line(text: str, length: int = LONGEST_MESSAGE) -> str:
    """Return a text as one line that a terminal shows as it is: control characters escaped, the middle shortened."""
    plain = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:100_000])
    if len(plain) > length:  # the ends of paths tell them apart, and what is said of them must stay
        plain = LONG_PATH.sub(lambda path: f"...{path[1][-LONGEST_PATH:]}", plain)
    return shortened(plain, length)


class ConfigError(PiwslError):
    """A configuration that cannot be run; the text is one line naming the key and what would be right."""

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text))


def config_error(source: str, problem: object) -> ConfigError:
    """Return the error of a file: its name, by the end that tells it from others, and the problem."""
    name = source if len(source) <= LONGEST_VALUE else f"...{source[3 - LONGEST_VALUE :]}"
    return ConfigError(f"{name}: {problem}")


# Snakemake takes what ends in twenty repetitions for a wildcard that grows without end.
REPETITION = re.compile(r"(.+?)\1{19,}$")


def _not_repeated(name: str) -> str:
    if match := REPETITION.search(name):
        raise ValueError(
            f"ends in '{match[1]}' twenty times, which Snakemake takes for an endless loop; choose another"
        )
    return name


# Three names with keys and numbers between them make one file name of a log, which may have 255 bytes.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=60), AfterValidator(_not_repeated)]

# Snakemake reads {} as wildcards and <> as path variables, ASE @ as an index and *?[] as many files.
MEANINGFUL = "{}<>@*?[]"


def _plain_path(path: Path) -> Path:
    text = str(path)
    if found := next((char for char in text if char in MEANINGFUL or not char.isprintable()), None):
        raise ValueError(f"a path with {found!r} means something else to Snakemake or ASE; rename it, found {text!r}")
    if text != text.strip() or text in (".", "-") or len(text.encode()) > 1000 or _long(path):
        raise ValueError(f"no path of a file, found {one_line(repr(text), LONGEST_VALUE)}")
    return path


def _long(path: Path) -> bool:
    return any(len(part.encode()) > 255 for part in path.parts)


InputFile = Annotated[Path, Field(strict=False), AfterValidator(_plain_path)]

# What every generator of random numbers takes.
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
# A training of 10^8 steps takes a month where a step takes 30 ms.
Steps = Annotated[int, Field(ge=1, le=100_000_000)]
StepsOrNone = Annotated[int, Field(ge=0, le=100_000_000)]
# Colder no molecule was ever made to move classically; hotter there is no molecule.
Kelvin = Annotated[float, Field(ge=0.01, le=10_000)]
# The fastest vibration, H2, takes 8 fs.
Femtoseconds = Annotated[float, Field(ge=0.001, le=20)]
# 1/fs: from hardly any friction to none but friction.
Friction = Annotated[float, Field(ge=1e-6, le=1)]
# Of a term of the loss, beside others of order 1.
Weight = Annotated[float, Field(ge=1e-9, le=1e9)]
# One node: 10 TB.
Megabytes = Annotated[int, Field(ge=1, le=10_000_000)]
# A year.
Minutes = Annotated[int, Field(ge=1, le=527_040)]
Charge = Annotated[int, Field(ge=-100, le=100)]
Multiplicity = Annotated[int, Field(ge=1, le=100)]


def nearest(word: object, choices: Mapping[str, Any] | list[str]) -> str:
    """Say which of the choices is meant, or list them all.

    Args:
        word: what was found.
        choices: what would be right.

    Returns:
        "did you mean 'x'?" or "known are a, b, c".
    """
    known = [str(choice) for choice in choices]
    close = difflib.get_close_matches(one_line(str(word), LONGEST_VALUE), known, n=1)
    every = shortened(", ".join(sorted(known)), 2 * LONGEST_VALUE)
    return f"did you mean '{close[0]}'?" if close else f"known are {every or 'none'}"


def renamed(names: Mapping[str, str]) -> BeforeValidator:
    """Take values by their old names, old to new, with a warning that says the new one."""

    def take(value: Any) -> Any:
        if isinstance(value, str) and value in names:
            warnings.warn(f"'{value}' is '{names[value]}' now; the old name still works", FutureWarning, stacklevel=2)
            return names[value]
        return value

    return BeforeValidator(take)


class Section(BaseModel):
    """A mapping of the config: immutable, without unknown keys, and strict: no text or truth value is a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    OLD_KEYS: ClassVar[Mapping[str, str]] = {}
    """What keys were called, old to new; taken with a warning that says the new name."""

    @classmethod
    def keys(cls) -> list[str]:
        """Return the keys that the section may have."""
        return list(cls.model_fields)

    @model_validator(mode="before")
    @classmethod
    def _unknown_keys_name_the_nearest(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        known, taken = cls.keys(), {}
        for key, item in value.items():
            name = cls.OLD_KEYS.get(key, key) if isinstance(key, str) else key
            if name not in known or (name != key and name in value):
                found = one_line(str(key), LONGEST_VALUE)
                raise ValueError(f"unknown key '{found}'; {nearest(name, known)}")
            if name != key:
                warnings.warn(f"key '{key}' is '{name}' now; the old one still works", FutureWarning, stacklevel=2)
            taken[name] = item
        return taken

    def plain(self) -> dict[str, Any]:
        """Return the section, defaults included, as plain values (for headers and reports). Resources are left out."""
        return self.model_dump(mode="json")

    def beyond_defaults(self) -> dict[str, Any]:
        """Return what the section says that its defaults do not, as plain values (for Snakemake's params).

        A key that a later version adds with a default redoes no job. Resources are left out.
        """
        return self.model_dump(mode="json", exclude_defaults=True)


def dotted(section: Section) -> dict[str, str]:
    """Return the values of a section and of those within it as text, by keys joined by points."""
    return dict(_dotted(section.plain(), ""))


def _dotted(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from _dotted(below, f"{key}.{name}" if key else str(name))
    else:
        yield key, str(value)


SectionType = TypeVar("SectionType", bound=Section)


@dataclass(frozen=True)
class OneOf(Generic[SectionType]):
    """Makes a key hold a section of one of several kinds, which a key within it names.

    Used as `Annotated[Base, OneOf(REGISTRY, "engine", "pyscf")]`, where all kinds are derived from `Base`, a section
    with a field `engine` without a default; the default kind may give it its name as one. What is dumped is all that
    the kind has, and is read as that kind again.
    """

    registry: Registry[SectionType]
    key: str
    """Whose value is a name in the registry."""
    default: str | None = None
    """The kind of a section that does not say its own; without one it must."""

    def section(self, value: Any) -> SectionType:
        """Return the section that a mapping is; one that is made already stays as it is.

        Raises:
            ValidationError: the kind is unknown or cannot be used, or one of its keys is not right; located below the
                mapping.
        """
        if isinstance(value, self.registry.base):
            return value
        if not isinstance(value, Mapping):
            raise _located((), PydanticKnownError("dict_type"), value)
        name = value.get(self.key, self.default)
        if name is None:
            raise self._refused(f"this key is missing; {nearest('', list(self.registry))}", value)
        if not isinstance(name, str) or name not in self.registry:
            found = one_line(str(name), LONGEST_VALUE)
            raise self._refused(f"no {self.key} '{found}'; {nearest(name, list(self.registry))}", name)
        try:
            kind = self.registry[name]
        except PiwslError as error:
            raise self._refused(str(error), name) from None
        if name != self.default and not kind.model_fields[self.key].is_required():
            raise self._refused(f"{kind.__name__} gives '{self.key}' a default, which is not for it to say", name)
        return kind.model_validate({self.key: name, **value})

    def _refused(self, problem: str, name: Any) -> ValidationError:
        return _located((self.key,), ValueError(problem), name)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.section, serialization=core_schema.simple_ser_schema("any")
        )

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Admit the sections of all kinds that are installed."""
        kinds = {name: self.registry[name].__pydantic_core_schema__ for name in self.registry}
        schema = handler(core_schema.tagged_union_schema(kinds, self.key))
        for name, reference in schema["discriminator"]["mapping"].items():
            section = handler.resolve_ref_schema({"$ref": reference})
            section["properties"][self.key] |= {"const": name}
            if name != self.default:
                section["required"] = list(dict.fromkeys([*section.get("required", []), self.key]))
        return schema


def _located(where: tuple[str, ...], problem: ValueError | PydanticKnownError, found: Any) -> ValidationError:
    if isinstance(problem, PydanticKnownError):
        details = InitErrorDetails(type=problem.type, loc=where, input=found)
    else:
        details = InitErrorDetails(type="value_error", loc=where, input=found, ctx={"error": problem})
    return ValidationError.from_exception_data("section", [details])


# What pydantic says in its own words where a section was expected.
NO_SECTION = ("model_type", "model_attributes_type", "dict_type")
_values = reprlib.Repr()
_values.maxstring = _values.maxother = _values.maxlong = LONGEST_VALUE


def _problem(error: ValidationError, mapping: Mapping[Any, Any]) -> str:
    """Turn the first problem that pydantic found into `key: what was found; what would be right`."""
    first, *others = error.errors(include_url=False)
    path = _keys(first["loc"], mapping)
    where = one_line(".".join(str(part) for part in path if part != "[key]"), 2 * LONGEST_VALUE)
    if first["type"] == "missing":
        return f"{where}: this key is missing"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in NO_SECTION:
        message = "Expected keys and values"
    if first["type"] != "value_error":
        # Of a value that may be of several kinds there is a problem for each.
        kinds = [each for each in others if each["type"] != "value_error" and _keys(each["loc"], mapping) == path]
        wanted = ", or ".join(
            dict.fromkeys(_uncapitalized(each) for each in [message, *(kind["msg"] for kind in kinds)])
        )
        message = f"{wanted}, found {one_line(_values.repr(first['input']), LONGEST_VALUE)}"
    return f"{where}: {message}" if where else message


def _keys(location: tuple[int | str, ...], mapping: Mapping[Any, Any]) -> list[int | str]:
    """Return the keys that lead to a problem, without what pydantic took the value for."""
    path = list(location)
    if path[:1] == ["datasets"]:
        del path[2:3]
    value: Any = mapping
    for depth, part in enumerate(path):
        within = value if isinstance(value, Mapping) else {}
        if part not in within and isinstance(part, str) and _is_kind(part):
            return path[:depth]
        value = value[part] if isinstance(value, list) and isinstance(part, int) else within.get(part)
    return path


def _is_kind(part: str) -> bool:
    """Whether it is pydantic's name of a kind: "bool", "constrained-float", "literal['fitted']"."""
    return part in ("bool", "int", "float", "str") or (part != "[key]" and not part.isidentifier())


def _uncapitalized(text: str) -> str:
    return text[:1].lower() + text[1:]


def parse_section(section: type[SectionType], mapping: Any, source: str) -> SectionType:
    """Validate a mapping as a section.

    Args:
        section: the class to validate as.
        mapping: what YAML gave.
        source: the file it comes from, for messages.

    Raises:
        ConfigError: one line with the file, the key, what was found and what would be right.
    """
    return _parsed(section.model_validate, mapping, source)


def parse_kind(kinds: OneOf[SectionType], mapping: Any, source: str) -> SectionType:
    """Validate a mapping as the section of its kind; otherwise as `parse_section`."""
    return _parsed(kinds.section, mapping, source)


def _parsed(parse: Callable[[Any], SectionType], mapping: Any, source: str) -> SectionType:
    if not isinstance(mapping, Mapping):
        raise config_error(source, f"found {type(mapping).__name__}, expected keys and values")
    try:
        return parse(mapping)
    except ValidationError as error:
        raise config_error(source, _problem(error, mapping)) from None
