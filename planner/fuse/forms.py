"""Which tensor of the model a tensor of an optimised graph is, and in which form.

    model      Y = Conv(X)
    variant    X -> QuantizeLinear -> Xq -> DequantizeLinear -> Xd -> Conv -> Y -> ...
    optimised  Xq -> QLinearConv -> Yq

Xq is X in the form `q8`, Yq is Y in the form `q8`. Names that the model does not know are resolved
through the conversions around them; what cannot be resolved stays inside a region.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from planner.fuse.layout import (
    CHANNELS_FIRST,
    LAST,
    PLAIN,
    QUANTISED,
    QUANTISED_LAST,
    Node,
    Origin,
    turned,
)
from planner.ir.graph import Graph, Op
from planner.ir.problem import State

BLOCKED = "nchwc"
NEIGHBOURS: Mapping[str, frozenset[str]] = {
    PLAIN: frozenset({QUANTISED, BLOCKED, LAST}),
    QUANTISED: frozenset({PLAIN, QUANTISED_LAST}),
    BLOCKED: frozenset({PLAIN}),
    LAST: frozenset({PLAIN, QUANTISED_LAST}),
    QUANTISED_LAST: frozenset({QUANTISED, LAST}),
}
"""Form -> forms that are one kernel away; the others are reached over several."""
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


Forms = Mapping[str, State]


def is_conversion(node: Node) -> bool:
    """Whether the node only changes the form of one tensor, whatever is around it."""
    return node.op_type in _TARGET_FORM


def form_change(node: Node, forms: Forms) -> tuple[State, State] | None:
    """(before, after) where the node changes the form of one known tensor; None for all others.

    A Transpose does where both of its sides are the same tensor of the model.
    """
    if not is_conversion(node) and node.op_type != "Transpose":
        return None
    source, target = forms.get(node.inputs[0]), forms.get(node.outputs[0])
    if source is None or target is None or source.tensor != target.tensor or source == target:
        return None
    return source, target


def resolve(graph: Graph, variant: Iterable[Node], optimised: Iterable[Node]) -> dict[str, State]:
    """Tensor name -> state, for every name of the variant and its optimised graph that is known.

    O(nodes): two sweeps forward and one backward over each graph.
    """
    known = {
        name: State(name, PLAIN) for name, tensor in graph.tensors.items() if not tensor.is_constant
    }
    before, after = tuple(variant), tuple(optimised)
    _sweep(before, known, graph)
    origin = Origin(before, known)
    _name_moved(after, known, origin)
    for name, state in turned(after, known, origin).items():
        known.pop(name, None)
        if state is not None:
            known[name] = state
    _forget_moved(before, after, known)
    _sweep(after, known, graph)
    return known


def _name_moved(nodes: Iterable[Node], known: dict[str, State], origin: Origin) -> None:
    """Quantisations that the variant does not have: ONNX Runtime moved them."""
    for node in nodes:
        if node.op_type != "QuantizeLinear" or node.name in origin.nodes:
            continue
        if _is_first(node.inputs[0], known):
            known.setdefault(node.outputs[0], origin.moved(node, known[node.inputs[0]]))


def _sweep(nodes: tuple[Node, ...], known: dict[str, State], graph: Graph) -> None:
    _sweep_forward(nodes, known)
    _sweep_backward(nodes, known)
    _sweep_names(nodes, known, graph)
    _sweep_forward(nodes, known)


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
        if is_conversion(node) and _is_first(node.inputs[0], known):
            state = State(known[node.inputs[0]].tensor, _TARGET_FORM[node.op_type])
            known.setdefault(node.outputs[0], state)


def _sweep_backward(nodes: tuple[Node, ...], known: dict[str, State]) -> None:
    source_form = {"QuantizeLinear": PLAIN, "DequantizeLinear": QUANTISED, "ReorderOutput": BLOCKED}
    for node in reversed(nodes):
        form = source_form.get(node.op_type)
        if form is not None and _is_first(node.outputs[0], known):
            known.setdefault(node.inputs[0], State(known[node.outputs[0]].tensor, form))


def _is_first(name: str, known: Mapping[str, State]) -> bool:
    """Whether the tensor is known and has its channels where the model has them."""
    return name in known and known[name].form not in CHANNELS_FIRST


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
