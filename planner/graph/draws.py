"""Which outputs of a model are drawn at random, as the graph itself tells.

Two runs that agree prove nothing: a sampler of few actions draws the same one now and then.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import GraphProto, NodeProto

_DRAWING = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
"""A `seed` fixes the first run of a session only: its generator goes on from run to run."""
_SIZES = frozenset({"Shape", "Size"})
"""What these say of a drawn tensor was not drawn."""


def drawn_outputs(path: Path) -> tuple[str, ...]:
    """Outputs of the model in a file that depend on a random draw, in the model's order."""
    model = onnx.load(path, load_external_data=False)
    drawing = _DRAWING | _drawing_functions(model)
    drawn = _drawn(model.graph, drawing)
    return tuple(value.name for value in model.graph.output if value.name in drawn)


def _drawing_functions(model: onnx.ModelProto) -> frozenset[str]:
    """Names of the model's own functions that draw, through others too."""
    found: frozenset[str] = frozenset()
    while True:
        kinds = _DRAWING | found
        more = {f.name for f in model.functions if any(_draws(node, kinds) for node in f.node)}
        if more <= found:
            return found
        found |= more


def _drawn(graph: GraphProto, drawing: frozenset[str]) -> set[str]:
    """Tensors that depend on a draw; nodes stand in topological order."""
    drawn: set[str] = set()
    for node in graph.node:
        is_drawn = _draws(node, drawing) or not drawn.isdisjoint(_reads(node))
        if is_drawn and node.op_type not in _SIZES:
            drawn.update(name for name in node.output if name)
    return drawn


def _draws(node: NodeProto, drawing: frozenset[str]) -> bool:
    """Whether the node draws, itself or in a graph inside it."""
    return node.op_type in drawing or any(
        _draws(inner, drawing) for graph in _graphs(node) for inner in graph.node
    )


def _reads(node: NodeProto) -> Iterable[str]:
    """Its inputs, and what graphs inside it read from outside (or make: harmless here)."""
    yield from node.input
    for graph in _graphs(node):
        for inner in graph.node:
            yield from _reads(inner)
        yield from (value.name for value in graph.output)


def _graphs(node: NodeProto) -> Iterable[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs
