"""Operator names that plans, YAML patterns and messages can rely on: unique, short, printable."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from onnx import GraphProto

from planner.graph import proto

MAX_LENGTH = 120
_UNSAFE = re.compile(r"[^\w/.:+\-()\[\]]|\.\.+")


def clean(name: str) -> str:
    """A name without spaces, quotes, control characters or parent folders; at most `MAX_LENGTH`.

    `/` stays: exporters write module paths, and users pin layers with patterns over them.
    """
    safe = _UNSAFE.sub("_", name)
    if len(safe) <= MAX_LENGTH:
        return safe
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{safe[: MAX_LENGTH - 9]}~{digest}"


def make_unique(names: list[str]) -> list[str]:
    """The same names with `_1`, `_2`, ... where one occurs again; first come, first kept."""
    taken = set(names)
    counts: dict[str, int] = {}
    result: list[str] = []
    for name in names:
        if name not in counts:
            counts[name] = 0
            result.append(name)
            continue
        candidate = name
        while candidate in taken:
            counts[name] += 1
            candidate = f"{name}_{counts[name]}"
        taken.add(candidate)
        result.append(candidate)
    return result


def rename(graph: GraphProto) -> None:
    """Names every operator `<name or type>`, made unique within its graph; bodies likewise."""
    for part in proto.graphs(graph):
        names = make_unique([clean(node.name) or clean(node.op_type) for node in part.node])
        for node, name in zip(part.node, names, strict=True):
            node.name = name


def ensure_unique(graph: GraphProto) -> None:
    """`rename`, unless the names are already as it leaves them: renaming twice may change them."""
    names = [node.name for node in graph.node]
    if not all(names) or len(set(names)) < len(names):
        rename(graph)


def tensor_names(graph: GraphProto) -> Iterator[str]:
    """Tensors that a graph and its bodies name."""
    for part in proto.graphs(graph):
        yield from (value.name for value in part.input)
        yield from (tensor.name for tensor in part.initializer)
        yield from (name for node in part.node for name in node.output)


def fresh(wanted: str, taken: set[str]) -> str:
    """The wanted tensor name, longer where it is taken; taken from now on."""
    name = wanted
    while name in taken:
        name += "_"
    taken.add(name)
    return name
