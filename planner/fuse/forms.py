"""Which tensor of the model a tensor of an optimised graph is, and in which form.

    model      Y = Conv(X)
    variant    X -> QuantizeLinear -> Xq -> DequantizeLinear -> Xd -> Conv -> Y -> ...
    optimised  Xq -> QLinearConv -> Yq

Xq is X in the form `q8`, Yq is Y in the form `q8`. Names that the model does not know are resolved
through the conversions around them; what cannot be resolved stays inside a region.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from planner.ir.graph import Graph, Op
from planner.ir.problem import State

PLAIN = "plain"
QUANTISED = "q8"
BLOCKED = "nchwc"
_NCHWC_MARK = "_nchwc"
_SWALLOWED = frozenset({"Relu", "Sigmoid", "Tanh"})
"""Activations that a blocked convolution applies itself."""

_TARGET_FORM = {
    "QuantizeLinear": QUANTISED,
    "DequantizeLinear": PLAIN,
    "ReorderInput": BLOCKED,
    "ReorderOutput": PLAIN,
}
"""Conversions by operator type -> form they make; a Cast is not one: it is part of its region."""


class Node(Protocol):
    """What this floor needs to know of a node: an `ir.Op` and a `profiling.Kernel` both fit."""

    @property
    def name(self) -> str: ...
    @property
    def op_type(self) -> str: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...


Forms = Mapping[str, State]


def is_conversion(node: Node) -> bool:
    """Whether the node only changes the form of one tensor."""
    return node.op_type in _TARGET_FORM


def resolve(graph: Graph, variant: Iterable[Node], optimised: Iterable[Node]) -> dict[str, State]:
    """Tensor name -> state, for every name of the variant and its optimised graph that is known.

    O(nodes): two sweeps forward and one backward over each graph.
    """
    known = {
        name: State(name, PLAIN) for name, tensor in graph.tensors.items() if not tensor.is_constant
    }
    before, after = tuple(variant), tuple(optimised)
    for nodes in (before, after):
        if nodes is after:
            _forget_moved(before, after, known)
        _sweep_forward(nodes, known)
        _sweep_backward(nodes, known)
        _sweep_names(nodes, known, graph)
        _sweep_forward(nodes, known)
    return known


def _forget_moved(before: Iterable[Node], after: Iterable[Node], known: dict[str, State]) -> None:
    """Conversions that now read a tensor nobody knows: ONNX Runtime turned the layout around them.

    Their outputs keep their names, but not the order of their axes, so the names mean nothing now.
    """
    reads = {node.name: node.inputs[0] for node in before if is_conversion(node)}
    for node in after:
        if not is_conversion(node) or node.inputs[0] in (reads.get(node.name), *known):
            continue
        if node.name in reads and node.outputs[0] in known:
            del known[node.outputs[0]]


def _sweep_forward(nodes: Iterable[Node], known: dict[str, State]) -> None:
    for node in nodes:
        if is_conversion(node) and node.inputs[0] in known:
            state = State(known[node.inputs[0]].tensor, _TARGET_FORM[node.op_type])
            known.setdefault(node.outputs[0], state)


def _sweep_backward(nodes: tuple[Node, ...], known: dict[str, State]) -> None:
    source_form = {"QuantizeLinear": PLAIN, "DequantizeLinear": QUANTISED, "ReorderOutput": BLOCKED}
    for node in reversed(nodes):
        form = source_form.get(node.op_type)
        if form is not None and node.outputs[0] in known:
            known.setdefault(node.inputs[0], State(known[node.outputs[0]].tensor, form))


def _sweep_names(nodes: tuple[Node, ...], known: dict[str, State], graph: Graph) -> None:
    """ONNX Runtime names a blocked kernel after the output of the operator it replaces."""
    readers = graph.consumers()
    running = {node.name for node in nodes}
    for node in nodes:
        base, mark, _ = node.name.rpartition(_NCHWC_MARK)
        if not mark or base not in known or node.outputs[0] in known:
            continue
        tensor: str | None = known[base].tensor
        if node.op_type == "Conv":
            tensor = _past_fusions(known[base].tensor, node, known, graph, readers, running)
        if tensor is not None:
            known[node.outputs[0]] = State(tensor, BLOCKED)


def _past_fusions(
    tensor: str,
    kernel: Node,
    known: Mapping[str, State],
    graph: Graph,
    readers: Mapping[str, tuple[Op, ...]],
    running: set[str],
) -> str | None:
    """What a blocked convolution really makes; it keeps its name when it swallows what follows.

    Conv -> Add -> Relu becomes one kernel, named after the output of Conv, whose fourth input is
    what is added. None where the addition cannot be found.
    """
    summand = kernel.inputs[3] if len(kernel.inputs) > 3 else ""
    if summand:
        other = known[summand].tensor if summand in known else None
        adds = (op for op in readers.get(tensor, ()) if op.op_type in ("Add", "Sum"))
        found = next((op for op in adds if other in op.inputs), None)
        if found is None:
            return None
        tensor = found.outputs[0]
    following = readers.get(tensor, ())
    if len(following) != 1 or tensor in graph.outputs:
        return tensor
    is_swallowed = following[0].op_type in _SWALLOWED and following[0].name not in running
    return following[0].outputs[0] if is_swallowed else tensor
