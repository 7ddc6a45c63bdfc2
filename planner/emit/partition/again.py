"""A model file in which some tensors are made again for their late readers: nodes are copied.

The copies stand in parts of their own. Inside one part ONNX Runtime would find that two nodes
compute the same and keep one of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx import ModelProto, NodeProto

from planner.place.recompute import copied, copy_name
from planner.spec.streaming import Recomputed

__all__ = ("copied", "with_copies")


def with_copies(model: ModelProto, chosen: Sequence[Recomputed]) -> ModelProto:
    """The same model with these made again; the model itself where there are none."""
    if not chosen:
        return model
    found = ModelProto()
    found.CopyFrom(model)
    graph = found.graph
    nodes = {node.name: node for node in model.graph.node}
    types = {value.name: value for value in (*graph.value_info, *graph.output)}
    ahead: dict[str, list[NodeProto]] = {}
    swapped: dict[str, dict[str, str]] = {}
    for each in chosen:
        own = [nodes[name] for name in each.ops]
        made = {name: copy_name(name, each.tensor) for node in own for name in node.output if name}
        for name, copy in made.items():
            if name in types:
                value = graph.value_info.add()
                value.CopyFrom(types[name])
                value.name = copy
        ahead.setdefault(each.readers[0], []).extend(_copy(n, each.tensor, made) for n in own)
        for reader in each.readers:
            swapped.setdefault(reader, {})[each.tensor] = made[each.tensor]
    ordered: list[NodeProto] = []
    for node in graph.node:
        names = swapped.get(node.name, {})
        inputs = [names.get(name, name) for name in node.input]
        del node.input[:]
        node.input.extend(inputs)
        ordered += [*ahead.get(node.name, ()), node]
    kept = [_same(node) for node in ordered]
    del graph.node[:]
    graph.node.extend(kept)
    return found


def _same(node: NodeProto) -> NodeProto:
    found = NodeProto()
    found.CopyFrom(node)
    return found


def _copy(node: NodeProto, tensor: str, made: dict[str, str]) -> NodeProto:
    found = _same(node)
    found.name = copy_name(node.name, tensor)
    for names in (found.input, found.output):
        renamed = [made.get(name, name) for name in names]
        del names[:]
        names.extend(renamed)
    return found
