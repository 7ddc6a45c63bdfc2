"""A model file in which some tensors are made again for their late readers: nodes are copied.

The copies stand in parts of their own. Inside one part ONNX Runtime would find that two nodes
compute the same and keep one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import ModelProto, NodeProto

from planner.place.recompute import copies_of
from planner.spec.streaming import Recomputed


def with_copies(model: ModelProto, chosen: Sequence[Recomputed]) -> ModelProto:
    """The same model with these made again; the model itself where there are none."""
    if not chosen:
        return model
    found = ModelProto()
    found.CopyFrom(model)
    graph = found.graph
    nodes = {node.name: node for node in model.graph.node}
    copies = copies_of(chosen, {name: node.output for name, node in nodes.items()})
    types = {value.name: value for value in (*graph.value_info, *graph.output)}
    for name, copy in copies.tensors:
        if name in types:
            value = graph.value_info.add()
            value.CopyFrom(types[name])
            value.name = copy
    del graph.node[:]
    for node in model.graph.node:
        for each in copies.ahead.get(node.name, ()):
            _write(graph.node.add(), nodes[each.op], each.name, each.names)
        _write(graph.node.add(), node, node.name, copies.swapped.get(node.name, {}))
    return found


def _write(made: NodeProto, node: NodeProto, name: str, names: Mapping[str, str]) -> None:
    """Makes a node like another, with other names for itself and for tensors."""
    made.CopyFrom(node)
    made.name = name
    for own in (made.input, made.output):
        own[:] = [names.get(one, one) for one in own]
