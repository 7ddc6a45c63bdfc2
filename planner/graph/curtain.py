"""Hides operators from a simplifier that would mistreat them, and brings them back afterwards.

    RandomNormal -> y        hidden(#0) -> y
    If(c){captures w} -> z   hidden(#1: c, w) -> z

A hidden operator is of a type nobody knows, so it is neither folded nor rewritten; its number makes
it unlike every other, so two random draws are never merged; and what a body captures is an ordinary
input, so that a rename outside can be repeated inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx
from onnx import GraphProto, NodeProto

from planner.errors import ModelError
from planner.graph import proto
from planner.graph.draws import DRAWING

DOMAIN = "infopt.hidden"
_OP_TYPE = "Hidden"


@dataclass(frozen=True, slots=True)
class Secret:
    """An operator behind the curtain."""

    node: NodeProto
    captured: tuple[str, ...]


def must_hide(node: NodeProto) -> bool:
    """Random draws, control flow, training-mode dropout, and what is not ONNX's own."""
    if proto.domain_of(node.domain) or next(proto.subgraphs(node), None) is not None:
        return True
    return node.op_type in DRAWING or (node.op_type == "Dropout" and len(node.input) > 2)


def hide(graph: GraphProto, also: Callable[[NodeProto], bool]) -> list[Secret]:
    """Puts operators behind the curtain, in place; pass the result to `reveal`."""
    secrets: list[Secret] = []
    for node in graph.node:
        if not (must_hide(node) or also(node)):
            continue
        original = NodeProto()
        original.CopyFrom(node)
        secret = Secret(original, proto.captured(node))
        node.op_type, node.domain = _OP_TYPE, DOMAIN
        del node.attribute[:]
        node.attribute.append(onnx.helper.make_attribute("number", len(secrets)))
        node.input.extend(secret.captured)
        secrets.append(secret)
    return secrets


def reveal(graph: GraphProto, secrets: list[Secret]) -> None:
    """Brings hidden operators back, in place, under the names their tensors now have.

    Raises:
        ModelError: the simplifier changed how many tensors one reads or makes.
    """
    for node in graph.node:
        if node.domain != DOMAIN:
            continue
        secret = secrets[node.attribute[0].i]
        own = len(secret.node.input)
        inputs, outputs = list(node.input), list(node.output)
        if len(inputs) != own + len(secret.captured) or len(outputs) != len(secret.node.output):
            raise ModelError(f"simplifying broke operator {proto.label(secret.node)}")
        node.CopyFrom(secret.node)
        node.input[:] = inputs[:own]
        node.output[:] = outputs
        renamed = dict(zip(secret.captured, inputs[own:], strict=True))
        moved = {old: new for old, new in renamed.items() if old != new}
        for body in proto.subgraphs(node):
            proto.rename_captured(body, moved)
