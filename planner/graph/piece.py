"""One operator of a file as the passes over large graphs want it: read from protobuf once."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from onnx import NodeProto

from planner.graph import proto


@dataclass(frozen=True, slots=True)
class Piece:
    """A node and what is asked of it again and again."""

    node: NodeProto
    look: Hashable
    """What it is apart from names and operands: equal operators share one object."""
    inputs: tuple[str, ...]
    """Operands in place; an empty string is an omitted one."""
    captured: tuple[str, ...]
    """What its bodies read from outside."""
    outputs: tuple[str, ...]
    has_body: bool

    @property
    def reads(self) -> tuple[str, ...]:
        """Every tensor it needs."""
        return (*(name for name in self.inputs if name), *self.captured)

    @property
    def makes(self) -> tuple[str, ...]:
        """Every tensor it makes."""
        return tuple(name for name in self.outputs if name)


def pieces_of(nodes: Iterable[NodeProto]) -> tuple[Piece, ...]:
    """The operators in the same order."""
    looks: dict[Hashable, Hashable] = {}
    return tuple(_piece(node, looks) for node in nodes)


def _piece(node: NodeProto, looks: dict[Hashable, Hashable]) -> Piece:
    has_body = next(proto.subgraphs(node), None) is not None
    outputs = tuple(node.output)
    encoded = sorted(item.SerializeToString(deterministic=True) for item in node.attribute)
    present = tuple(map(bool, outputs))
    look = (node.op_type, proto.domain_of(node.domain), tuple(encoded), present)
    captured = proto.captured(node) if has_body else ()
    return Piece(node, looks.setdefault(look, look), tuple(node.input), captured, outputs, has_body)
