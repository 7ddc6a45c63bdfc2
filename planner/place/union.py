"""Disjoint sets of axes of tensors: what operators' indices tie together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.ir.graph import Op
from planner.ops.sharding import Index

Node = tuple[str, int]
"""(tensor, axis)."""


@dataclass
class Union:
    """Disjoint sets of nodes; a set is told by a number, which changes when sets are joined."""

    ids: dict[Node, int] = field(default_factory=dict)
    parents: list[int] = field(default_factory=list)

    def find(self, node: Node) -> int:
        """The set of a node; a new one where it was in none."""
        number = self.ids.get(node)
        if number is None:
            number = self.ids[node] = len(self.parents)
            self.parents.append(number)
            return number
        return self.root(number)

    def root(self, number: int) -> int:
        """The set that a number stands for by now."""
        parents = self.parents
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    def join(self, nodes: Sequence[Node]) -> int:
        """Makes one set of all of theirs."""
        first = self.find(nodes[0])
        for node in nodes[1:]:
            other = self.find(node)
            if other != first:
                low, high = min(first, other), max(first, other)
                self.parents[high] = low
                first = low
        return first


def nodes_of(op: Op, index: Index) -> list[Node]:
    """The axes of operands and results that an index of an operator runs over."""
    nodes = [(op.inputs[axis.slot], axis.axis) for axis in index.inputs]
    return nodes + [(op.outputs[axis.slot], axis.axis) for axis in index.outputs]
