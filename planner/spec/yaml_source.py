"""Reads YAML that people wrote: plain data, and the line of every key.

The YAML 1.2 core schema, so that `2:4` and `on` are text and `1e-3` is a number. Whatever makes
YAML dangerous or surprising is refused by name: aliases (bombs), tags (object construction),
duplicate keys, several documents, deep nesting, large files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from planner.errors import SpecError
from planner.spec.io import read_bytes

MAX_SIZE_BYTES = 256 * 1024
MAX_DEPTH = 24
MAX_EVENTS = 20_000
"""Keys, values and brackets; about a second of reading."""

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class YamlSource:
    """A YAML mapping as plain data, with the 1-based line of every key and list entry."""

    path: Path
    data: dict[str, Any]
    lines: Mapping[KeyPath, int]


class _CoreLoader(yaml.SafeLoader):
    """YAML 1.2's core schema instead of 1.1's surprises."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - base class's shape


_TAG = "tag:yaml.org,2002:"
for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?",
        list("-+.0123456789"),
    ),
):
    _CoreLoader.add_implicit_resolver(_TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), _first)


class _FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same by libyaml, where PyYAML was built with it: five times as fast."""

    yaml_implicit_resolvers = _CoreLoader.yaml_implicit_resolvers


def load(path: Path) -> YamlSource:
    """Reads a YAML mapping.

    Raises:
        SpecError: unreadable, too large, not YAML, or YAML that infopt refuses; with file and line.
    """
    raw = read_bytes(path, what="YAML file", limit_bytes=MAX_SIZE_BYTES)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError("not UTF-8 text", where=str(path), fix="save it as UTF-8") from error
    return loads(text, path)


def loads(text: str, path: Path) -> YamlSource:
    """Reads a YAML mapping from `text`; `path` names it in messages.

    Raises:
        SpecError: not YAML, or YAML that infopt refuses.
    """
    try:
        root = _composed(text, path)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError(f"not valid YAML: {error.problem}", where=f"{path}:{line}") from error
    except yaml.YAMLError as error:
        raise SpecError(f"not valid YAML: {str(error).splitlines()[0]}", where=str(path)) from error
    if root is None:
        return YamlSource(path, {}, {})
    if not isinstance(root, yaml.MappingNode):
        raise SpecError("not a mapping", where=f"{path}:1", fix="write `key: value` lines")
    lines: dict[KeyPath, int] = {}
    return YamlSource(path, _mapping(root, (), path, lines), lines)


def _composed(text: str, path: Path) -> yaml.Node | None:
    """The document; mistakes are told by the loader that names the line they begin in."""
    try:
        _refuse_dangerous(text, path, _FastLoader)
        return yaml.compose(text, Loader=_FastLoader)
    except yaml.YAMLError:
        _refuse_dangerous(text, path, _CoreLoader)
        return yaml.compose(text, Loader=_CoreLoader)


def _refuse_dangerous(text: str, path: Path, loader: type[yaml.SafeLoader]) -> None:
    """One pass over the events, which costs no more than the text is long."""
    depth = documents = 0
    for count, event in enumerate(yaml.parse(text, Loader=loader)):
        where = f"{path}:{event.start_mark.line + 1 if event.start_mark else 1}"
        if count > MAX_EVENTS:
            raise SpecError(f"more than {MAX_EVENTS} keys and values", where=where)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise SpecError("anchors and aliases are refused", where=where, fix="repeat the value")
        tag = getattr(event, "tag", None)
        if tag is not None and tag != "!":
            raise SpecError(f"the tag {tag!r} is refused", where=where, fix="write a plain value")
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            raise SpecError("more than one document", where=where, fix="one file, one document")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise SpecError(f"nested deeper than {MAX_DEPTH} levels", where=where)


def _value(node: yaml.Node, at: KeyPath, path: Path, lines: dict[KeyPath, int]) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, at, path, lines)
    if isinstance(node, yaml.SequenceNode):
        for index, entry in enumerate(node.value):
            lines[(*at, index)] = entry.start_mark.line + 1
        return [_value(entry, (*at, index), path, lines) for index, entry in enumerate(node.value)]
    return _scalar(node, f"{path}:{node.start_mark.line + 1}")


def _mapping(
    node: yaml.MappingNode, at: KeyPath, path: Path, lines: dict[KeyPath, int]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise SpecError("a key must be plain text", where=f"{path}:{line}")
        key = str(key_node.value)
        if key in found:
            first = lines[(*at, key)]
            raise SpecError(
                f"{key!r} is given twice, first in line {first}",
                where=f"{path}:{line}",
                fix="keep one of them",
            )
        lines[(*at, key)] = line
        found[key] = _value(value_node, (*at, key), path, lines)
    return found


def _scalar(node: yaml.Node, where: str) -> Any:
    text = str(node.value)
    kind = node.tag.removeprefix(_TAG)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "float":
        return float(text)
    if kind != "int":
        return text
    if len(text) > 40:
        raise SpecError(f"the number {text[:20]}... has {len(text)} digits", where=where)
    return int(text, 16) if text.startswith("0x") else int(text)
