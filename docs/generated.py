"""What of the documentation is made from the code: the tables of keys and the command line. A hook of MkDocs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

KEYS = "[[keys]]"
COMMANDS = "[[commands]]"
Schema = dict[str, Any]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put what is made from the code in the place of its mark (called by MkDocs for every page)."""
    for mark, make in ((KEYS, keys), (COMMANDS, commands)):
        if mark in markdown:
            markdown = markdown.replace(mark, make())
    return markdown


def commands() -> str:
    """Return the command line as Markdown, as typer itself writes it."""
    import typer.cli
    import typer.main
    from click import Context

    from piwsl.cli import app

    command = typer.main.get_command(app)
    return typer.cli.get_docs_for_click(obj=command, ctx=Context(command), name="piwsl", title="Command line")


def keys() -> str:
    """Return every key of an experiment as Markdown, a table a section, from the schema of the config classes."""
    from piwsl.config import json_schema

    schema = json.loads(json_schema())
    return "\n\n".join(_tables(Place("", {"": Kind(schema)}), schema["$defs"]))


class Kind(NamedTuple):
    """What may stand in a place."""

    schema: Schema
    default: Schema | None = None
    """What the section above says in the place of this one's own defaults."""


class Place(NamedTuple):
    """A place in the file that holds keys."""

    path: str
    """Such as models.<name>.training; empty at the top."""
    kinds: dict[str, Kind]
    """By name; those of one place share a table."""

    def holders(self, key: str) -> dict[str, Schema]:
        """Return the schema of a key in the kinds that have it."""
        return {
            name: kind.schema["properties"][key]
            for name, kind in self.kinds.items()
            if key in kind.schema["properties"]
        }


def _tables(place: Place, definitions: Schema) -> Iterator[str]:
    """Yield the table of a place, then those of the places below it."""
    names = list(dict.fromkeys(key for kind in place.kinds.values() for key in kind.schema["properties"]))
    names.sort(key=lambda key: not _tells_kinds(place, key))
    named = [kind.schema for name, kind in place.kinds.items() if name == kind.schema["title"]]
    said = [_one_line(schema["description"]) for schema in named or [next(iter(place.kinds.values())).schema]]
    rows = [_row(place, key, definitions) for key in names]
    yield "\n".join(
        [_heading(place), "", " ".join(said), "", "| key | value | default | meaning |", "|---|---|---|---|", *rows]
    )
    for key in names:
        for below in _below(place, key, definitions):
            yield from _tables(below, definitions)


def _heading(place: Place) -> str:
    (name, *others) = place.kinds
    kind = "" if others else re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    return f"## `{place.path}`{', ' * bool(kind)}{kind}" if place.path else "## The whole file"


def _tells_kinds(place: Place, key: str) -> bool:
    """Whether a key says of which kind a section is."""
    return len(place.kinds) > 1 and all("const" in schema for schema in place.holders(key).values())


def _below(place: Place, key: str, definitions: Schema) -> Iterator[Place]:
    """Yield the places that a key opens: one, or one a kind where the file does not name the kind."""
    kinds: dict[str, Kind] = {}
    for holder, schema in place.holders(key).items():
        step, found, together = _sections(schema, definitions)
        default = _default(place.kinds[holder], key)
        for section in found:
            name = section["title"] if len(found) > 1 or len(place.kinds) == 1 else holder
            kinds[name] = Kind(section, default if isinstance(default, dict) else None)
    if not kinds:
        return
    path = f"{place.path}.{key}{step}".removeprefix(".")
    first = next(iter(kinds.values()))
    if all(kind == first for kind in kinds.values()):
        yield Place(path, {"": first})
    elif together:
        yield Place(path, kinds)
    else:
        yield from (Place(path, {name: kind}) for name, kind in kinds.items())


def _sections(schema: Schema, definitions: Schema) -> tuple[str, list[Schema], bool]:
    """Return how a value leads to sections (.<name>, []), their schemas, and whether these share a table."""
    if "$ref" in schema:
        return _sections(_resolved(schema, definitions), definitions)
    if "properties" in schema:
        return "", [schema], True
    by_name = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
    for step, inner in [*((".<name>", inner) for inner in by_name), ("[]", schema.get("items"))]:
        if isinstance(inner, dict):
            rest, found, together = _sections(inner, definitions)
            return step + rest, found, together
    choices = [_sections(choice, definitions) for choice in [*schema.get("oneOf", []), *schema.get("anyOf", [])]]
    found = [section for _, sections, _ in choices for section in sections]
    return "", found, len(found) < 2 or "discriminator" in schema


def _row(place: Place, key: str, definitions: Schema) -> str:
    """Return a key's line: what it may be, its default (by kind, where kinds differ), what it means."""
    holders = place.holders(key)
    first = next(iter(holders.values()))
    values = dict.fromkeys(part for schema in holders.values() for part in _parts(_value(schema, definitions)))
    defaults = {name: _shown_default(place.kinds[name], key) for name in holders}
    usual = next(iter(defaults.values()))
    others = [f"{name} {default}" for name, default in defaults.items() if default != usual]
    meaning = _one_line(first.get("description") or _resolved(first, definitions).get("description", ""))
    only = f"Of {', '.join(holders)}. " if len(holders) < len(place.kinds) else ""
    cells = [f"`{key}`", ", ".join(values), "; ".join([usual, *others]), only + meaning]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _parts(value: str) -> list[str]:
    """Return the choices of a value, of which kinds may share some; other values are one."""
    choices = value.split(", ")
    return choices if all(choice.startswith("`") for choice in choices) else [value]


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;").replace("[", "&#91;")


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    """Follow a reference, also that of a value or null."""
    if "$ref" in schema:
        resolved: Schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
        return resolved
    choices = _choices(schema)
    return _resolved(choices[0], definitions) if len(choices) == 1 else schema


def _choices(schema: Schema) -> list[Schema]:
    return [choice for choice in [*schema.get("anyOf", []), *schema.get("oneOf", [])] if choice.get("type") != "null"]


def _default(kind: Kind, key: str) -> Any:
    """Return a key's default; what the section above says comes first."""
    return (kind.default or {}).get(key, kind.schema["properties"][key].get("default"))


def _shown_default(kind: Kind, key: str) -> str:
    default = _default(kind, key)
    if key in kind.schema.get("required", []):
        return "to be given"
    if isinstance(default, dict) and default:
        return "as below"
    return "–" if default in (None, [], {}) else f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _value(schema: Schema, definitions: Schema) -> str:
    """Return what a key may be, in words."""
    schema = _resolved(schema, definitions)
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{choice}`" for choice in schema.get("enum", [schema.get("const")]))
    if choices := _choices(schema):
        return " or ".join(dict.fromkeys(_value(choice, definitions) for choice in choices))
    match schema.get("type"):
        case "boolean":
            return "`true`, `false`"
        case "integer" | "number" as kind:
            return f"{'whole number' if kind == 'integer' else 'number'}{_bounds(schema)}"
        case "array":
            return f"list of: {_value(schema['items'], definitions)}"
        case [*_]:
            return "a name or keys"
        case "object":
            return "keys, see below" if _sections(schema, definitions)[1] else "keys and values"
    return "path" if schema.get("format") == "path" else "text"


def _bounds(schema: Schema) -> str:
    words = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "to"}
    bounds = [f"{word} {_number(schema[key])}" for key, word in words.items() if key in schema]
    return f", {' '.join(bounds)}" if bounds else ""


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"
