"""Tensors that ONNX Runtime keeps channels-last between quantised convolutions.

    variant    xq -> DQ -> Conv -> Q -> r1q -> DQ -> Conv -> Q -> c2q
    optimised  xq -> Transpose -> QLinearConv -> conv1 -> QLinearConv -> conv2 -> Transpose -> c2q

At the graph level `all`, convolutions on 8 bits read and make N x H x W x C, and whatever can runs
on that between them. Such a tensor has a name that ONNX Runtime made up; which tensor of the model
it is follows from its kernel, which keeps the name of the operator that it came from.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from planner.ir.problem import State

PLAIN = "plain"
QUANTISED = "q8"
LAST = "nhwc"
QUANTISED_LAST = "q8nhwc"
CHANNELS_LAST = {PLAIN: LAST, QUANTISED: QUANTISED_LAST}
"""Form -> the same with channels last."""
CHANNELS_FIRST = {last: first for first, last in CHANNELS_LAST.items()}

_COPY = re.compile(r"_token_\d+$")
"""What ONNX Runtime appends to a name that it uses again."""
_ELEMENTWISE = frozenset(
    (
        *("Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu"),
        *("Neg", "Abs", "Exp", "Log", "Sqrt", "Erf", "Softplus"),
        *("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Cast", "Concat"),
        *("QuantizeLinear", "DequantizeLinear"),
    )
)
_ON_BYTES = frozenset(
    (
        *("QLinearConv", "QLinearAdd", "QLinearMul", "QLinearConcat", "QLinearSigmoid"),
        *("QLinearLeakyRelu", "QLinearAveragePool", "QLinearGlobalAveragePool", "NhwcMaxPool"),
    )
)
"""Kernels that stand for an operator and the quantisation behind it."""
_MOVED_MARK = "_q"
_SWALLOWED = frozenset({"Relu", "Clip"})
"""Activations that a quantisation applies by where it saturates."""


class Node(Protocol):
    """What is needed of a node."""

    @property
    def name(self) -> str: ...
    @property
    def op_type(self) -> str: ...
    @property
    def domain(self) -> str: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...


def turned(
    optimised: Sequence[Node], known: Mapping[str, State], origin: Origin
) -> dict[str, State | None]:
    """Name -> state of every tensor of the optimised graph that has its channels last.

    None where it is turned but nobody knows which tensor it is: what `known` says of that name
    then means another layout. `known`: states of the tensors that the variant has. O(nodes).
    """
    starts = [node for node in optimised if _is_channels_last(node)]
    if not starts:
        return {}
    wanted = _wanted(optimised)
    found: dict[str, State | None] = {}
    for node in optimised:
        if node.op_type == "Transpose":
            state = known.get(node.inputs[0]) if node.name not in origin.nodes else None
            is_turn = node.outputs[0] in wanted and node.inputs[0] not in found
            if state is not None and is_turn and state.form in CHANNELS_LAST:
                found[node.outputs[0]] = _last(state)
            continue
        if _is_channels_last(node) or any(name in found for name in node.inputs):
            found.update((name, None) for name in node.outputs if name)
            found[node.outputs[0]] = _made(node, found, origin)
    return found


def _made(node: Node, found: Mapping[str, State | None], origin: Origin) -> State | None:
    """What a kernel makes with its channels last."""
    source = found.get(node.inputs[0])
    if node.op_type == "DequantizeLinear":
        return source and State(source.tensor, LAST)
    if node.op_type == "QuantizeLinear" and node.name not in origin.nodes:
        return source and _last(origin.moved(node, source))
    if not _keeps_layout(node):
        return None  # it may have been told other axes, or made another rank
    state = origin.made_by(node)
    return state and _last(state)


def _is_channels_last(node: Node) -> bool:
    """ONNX's own QLinearConv has its channels first; ONNX Runtime's is what it turns that into."""
    return node.op_type == "QLinearConv" and node.domain == "com.microsoft"


def _keeps_layout(node: Node) -> bool:
    return node.op_type in _ELEMENTWISE or node.op_type in _ON_BYTES


def _last(state: State) -> State:
    return State(state.tensor, CHANNELS_LAST.get(state.form, state.form))


def _wanted(optimised: Sequence[Node]) -> Collection[str]:
    """Tensors that are read with their channels last, found from their readers backwards."""
    wanted: set[str] = set()
    for node in reversed(optimised):
        if _is_channels_last(node):
            wanted.add(node.inputs[0])
        elif _keeps_layout(node) and not wanted.isdisjoint(node.outputs):
            wanted.update(name for name in node.inputs if name)
    return wanted


class Origin:
    """Which tensor of the variant a kernel makes, told by the name it kept."""

    def __init__(self, variant: Sequence[Node], known: Mapping[str, State]) -> None:
        self._makers = {name: node for node in variant for name in node.outputs if name}
        self.nodes = {node.name: node for node in variant}
        self._known = known
        self._readers: dict[str, list[Node]] = {}
        for node in variant:
            for name in dict.fromkeys(node.inputs):
                self._readers.setdefault(name, []).append(node)

    def made_by(self, kernel: Node) -> State | None:
        """The state of the kernel's first output, in the layout that the variant has it in."""
        node = self.nodes.get(kernel.name) or self.nodes.get(_COPY.sub("", kernel.name))
        if node is None or not node.outputs:
            return None
        if kernel.op_type in _ON_BYTES:
            return self._quantised(node.outputs[0])
        return self._known.get(node.outputs[0]) if node.op_type == kernel.op_type else None

    def moved(self, node: Node, source: State) -> State:
        """What a quantisation makes that stood further down and was moved here.

        x -> Relu -> y -> Q may have become x -> Q, named `y_q`, which saturates where the Relu
        would have cut off: that is y, not x.
        """
        name, mark, _ = node.name.rpartition(_MOVED_MARK)
        maker = self._makers.get(name) if mark else None
        while maker is not None and maker.op_type in _SWALLOWED:
            before = self._known.get(maker.inputs[0])
            if before is None:
                break
            if before.tensor == source.tensor:
                return State(name, QUANTISED)
            maker = self._makers.get(before.tensor)
        return State(source.tensor, QUANTISED)

    def _quantised(self, name: str) -> State | None:
        """What the quantisation behind this tensor makes of it."""
        while readers := self._readers.get(name):
            if len(readers) > 1:
                return None
            if readers[0].op_type == "QuantizeLinear":
                return self._known.get(readers[0].outputs[0])
            if readers[0].op_type not in _SWALLOWED:
                return None
            name = readers[0].outputs[0]
        return None
