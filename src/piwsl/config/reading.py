"""YAML as a config has it: each key once, each value as it looks, nothing that runs or grows."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml

from piwsl.config.section import ConfigError, config_error, one_line

# A config has a few kilobytes and six levels; a section that is named again by an alias counts again.
LARGEST_FILE = 200_000
DEEPEST = 20
MOST_VALUES = 100_000
LONGEST_NUMBER = 40


class _Loader(yaml.CSafeLoader):
    """The core schema of YAML 1.2: `1e-3` is a number; `no`, `010`, `4:00` and `2026-01-01` are text."""


_Loader.yaml_implicit_resolvers = {}
for tag, pattern, first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds what no config needs: a key twice, a tag, what YTE would
            run; one line that says where.
    """
    try:
        return _parse(_text(path))
    except OSError as error:
        raise config_error(str(path), error.strerror) from None
    except UnicodeDecodeError:
        raise config_error(str(path), "is not UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1} " if mark else ""
        problem = one_line(str(getattr(error, "problem", None) or error).partition("\n")[0])
        raise config_error(str(path), f"{line}is not YAML: {problem}") from None
    except ConfigError as error:
        raise config_error(str(path), error) from None


def _text(path: Path) -> str:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError("is no file")
    if status.st_size > LARGEST_FILE:
        raise ConfigError(f"has {status.st_size} bytes; a config has at most {LARGEST_FILE}")
    return path.read_text(encoding="utf-8")


def _parse(text: str) -> Any:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            _refuse(event, f"more than {DEEPEST} levels deep")
        if (tag := getattr(event, "tag", None)) is not None:
            _refuse(event, f"the tag '{tag}' is not for configs; leave it out")
    loader = _Loader(text)
    node = loader.get_single_node()
    if node is None:
        return None
    _check(node)
    return loader.construct_document(node)


def _check(root: yaml.Node) -> None:
    for values, node in enumerate(_walk(root)):
        if values > MOST_VALUES:
            _refuse(node, f"more than {MOST_VALUES} values, aliases counted as often as they stand")
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
        if (
            isinstance(node, yaml.ScalarNode)
            and node.tag.endswith((":int", ":float"))
            and len(node.value) > LONGEST_NUMBER
        ):
            _refuse(node, f"a number of {len(node.value)} digits")


def _check_keys(node: yaml.MappingNode) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            _refuse(key, "a key is a word, found a list or a mapping")
        line = key.start_mark.line + 1
        if key.value in seen:
            _refuse(key, f"key '{key.value}' stands twice, first in line {seen[key.value]}; the last would win")
        if key.value == "__use_yte__":
            _refuse(key, "__use_yte__ would make Snakemake run what stands in this file; take it out")
        seen[key.value] = line


def _walk(root: yaml.Node) -> Iterator[yaml.Node]:
    """Go through all nodes, those behind aliases as often as they are named."""
    pending = [(root, 0)]
    while pending:
        node, depth = pending.pop()
        if depth > DEEPEST:
            _refuse(node, f"an alias leads more than {DEEPEST} levels deep")
        yield node
        if isinstance(node, yaml.MappingNode):
            pending += [(child, depth + 1) for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            pending += [(child, depth + 1) for child in node.value]


def _refuse(where: yaml.Node | yaml.Event, problem: str) -> NoReturn:
    line = where.start_mark.line + 1 if where.start_mark else 0
    raise ConfigError(f"line {line}: {problem}")
