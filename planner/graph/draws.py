"""Which outputs of a model are drawn at random, as the graph itself tells.

Two runs that agree prove nothing: a sampler of few actions draws the same one now and then.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import GraphProto, NodeProto

from planner.graph import proto

DRAWING = frozenset(
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
    drawing = DRAWING | _drawing_functions(model)
    drawn = _drawn(model.graph, drawing)
    return tuple(value.name for value in model.graph.output if value.name in drawn)


def _drawing_functions(model: onnx.ModelProto) -> frozenset[str]:
    """Names of the model's own functions that draw, through others too."""
    found: frozenset[str] = frozenset()
    while True:
        kinds = DRAWING | found
        more = {f.name for f in model.functions if any(_draws(node, kinds) for node in f.node)}
        if more <= found:
            return found
        found |= more


def _drawn(graph: GraphProto, drawing: frozenset[str]) -> set[str]:
    """Tensors that depend on a draw; nodes stand in topological order."""
    drawn: set[str] = set()
    for node in graph.node:
        read = (*node.input, *proto.captured(node))
        is_drawn = _draws(node, drawing) or not drawn.isdisjoint(read)
        if is_drawn and node.op_type not in _SIZES:
            drawn.update(name for name in node.output if name)
    return drawn


def _draws(node: NodeProto, drawing: frozenset[str]) -> bool:
    """Whether the node draws, itself or in a graph inside it."""
    return node.op_type in drawing or any(
        _draws(inner, drawing) for body in proto.subgraphs(node) for inner in body.node
    )
