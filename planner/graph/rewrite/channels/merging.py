"""Finds the channels of a model that are computed twice, and computes them once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onnx import ModelProto

from planner.graph import infer
from planner.graph.rewrite.channels import moving, passing, summing
from planner.graph.rewrite.channels.choice import replaced
from planner.graph.rewrite.channels.kept import Kept
from planner.graph.rewrite.channels.passing import Cut
from planner.graph.rewrite.channels.wires import Wiring
from planner.graph.rewrite.fills import value_of
from planner.graph.rewrite.net import LEAST_OPSET, Net, Node

_Rule = Callable[[Net, Wiring, Node], Cut | None]
_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(passing.UNARY, passing.unary),
    **dict.fromkeys(passing.ELEMENTWISE, passing.elementwise),
    **dict.fromkeys(passing.NORMALISING, passing.normalising),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), moving.reshaping),
    **dict.fromkeys(("Gemm", "MatMul"), summing.matrix),
    "Concat": moving.concatenation,
    "Conv": summing.convolution,
}


def merge_channels(model: ModelProto, block: int) -> int:
    """Rewrites the model in place; how many wires went. Shapes must have been inferred."""
    net = Net(model, block)
    if net.opset < LEAST_OPSET:
        return 0
    whole: set[Node] = set()
    while True:
        wiring, cuts = _traced(net, whole)
        twins = replaced(wiring, block)
        kept = Kept(wiring, twins)
        grown = {node for node in net if node in cuts and summing.grows(net, kept, node)}
        if not grown:
            break
        whole |= grown
    if not twins:
        return 0
    for name in kept:
        shape = net.shapes[name]
        net.shapes[name] = (shape[0], kept.size(name), *shape[2:])
    for cut in cuts.values():
        cut(net, kept)
    net.finish()
    infer.annotate(model)
    return len(twins)


def _traced(net: Net, whole: set[Node]) -> tuple[Wiring, dict[Node, Cut]]:
    """Wires of the model, and for each operator on them how it loses channels."""
    wiring, cuts = Wiring(), dict[Node, Cut]()
    for port in net.model.graph.input:
        _freeze(net, wiring, port.name)
    passed: set[Node] = set()
    for node in net:
        if node in passed:
            continue
        shuffle = moving.shuffled(net, node) if node.kind == "Reshape" else None
        cut = moving.shuffling(wiring, *shuffle) if shuffle else None
        if shuffle and cut:
            passed.update(shuffle[0])
        if cut is None and node not in whole:
            cut = _trace(net, wiring, node)
        if cut is not None:
            cuts[node] = cut
            continue
        for name in (*node.inputs, *node.outputs):
            _freeze(net, wiring, name)
    for name in net.pinned:
        _freeze(net, wiring, name)
    return wiring, cuts


def _freeze(net: Net, wiring: Wiring, name: str) -> None:
    if name in wiring.lanes:
        wiring.freeze(name)
        return
    shape = net.shape(name)
    if name in net.constants or shape is None or len(shape) < 2:
        return
    if value_of(net, name) is not None:
        return
    wiring.freeze(name, shape[1])


def _trace(net: Net, wiring: Wiring, node: Node) -> Cut | None:
    rule = _RULES.get(node.kind)
    if rule is None:
        return None
    return (
        passing.depthwise(net, wiring, node)
        if _is_depthwise(net, node)
        else rule(net, wiring, node)
    )


def _is_depthwise(net: Net, node: Node) -> bool:
    if node.kind != "Conv" or node.attribute("group", 1) == 1:
        return False
    shapes = [net.shape(name) for name in (node.inputs[0], node.outputs[0])]
    channels = {None if shape is None else shape[1] for shape in shapes}
    return channels == {node.attribute("group", 1)}
