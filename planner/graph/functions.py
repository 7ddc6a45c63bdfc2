"""Model-local functions: checked for endless or explosive expansion, then inlined by onnx."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx.inliner
from onnx import ModelProto, NodeProto

from planner.errors import ModelError
from planner.graph import proto

MAX_INLINED_OPS = 1_000_000
"""Operators after inlining; functions that each call the next one twice pass this at depth 20."""

Key = tuple[str, str, str]
"""Domain, name and overload: what tells two functions apart."""


def inline(model: ModelProto) -> ModelProto:
    """The model without local functions; itself where it has none.

    Raises:
        ModelError: a function calls itself, or the expansion is unreasonably large.
    """
    if not model.functions:
        return model
    check(model)
    return onnx.inliner.inline_local_functions(model, convert_version=True)


def check(model: ModelProto) -> None:
    """Refuses recursion and expansions over `MAX_INLINED_OPS`, without expanding anything."""
    bodies = {
        (proto.domain_of(f.domain), f.name, f.overload): tuple(_walk(f.node))
        for f in model.functions
    }
    sizes: dict[Key, int] = {}
    for key in bodies:
        _measure(key, bodies, sizes)
    total = sum(sizes.get(_key(node), 1) for node in _walk(model.graph.node))
    if total > MAX_INLINED_OPS:
        raise ModelError(
            f"inlining the model's functions would make {total} operators",
            fix="export the model without nested functions",
        )


def _key(node: NodeProto) -> Key:
    return proto.domain_of(node.domain), node.op_type, node.overload


def _walk(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for body in proto.subgraphs(node):
            yield from _walk(body.node)


def _measure(start: Key, bodies: dict[Key, tuple[NodeProto, ...]], sizes: dict[Key, int]) -> None:
    """Fills in the expanded size of `start` and of all it calls; depth-first without recursion."""
    stack = [start]
    open_: dict[Key, None] = {}
    while stack:
        key = stack[-1]
        calls = {_key(node) for node in bodies[key]} & bodies.keys()
        waiting = sorted(calls - sizes.keys())
        if key in sizes or not waiting:
            sizes[key] = sum(sizes.get(_key(node), 1) for node in bodies[key])
            open_.pop(key, None)
            stack.pop()
            continue
        open_[key] = None
        looping = next((call for call in waiting if call in open_), None)
        if looping is not None:
            raise _recursive(looping)
        stack.extend(waiting)


def _recursive(key: Key) -> ModelError:
    domain, name, overload = key
    shown = proto.short(f"{domain}::{name}" if domain else name)
    shown += f":{proto.short(overload)}" if overload else ""
    return ModelError(
        f"the model's function {shown!r} calls itself, directly or through others",
        fix="ONNX has no recursion; use Loop",
    )
