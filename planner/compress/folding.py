"""Channels of activations divided before a product and its matrix multiplied, exactly.

    X -> MatMul(W)     becomes     X / 2**k -> MatMul(2**k·W)

The division costs nothing where constants of what makes X can take it, and nobody else reads X:
scale and bias of a normalisation, columns and bias of a product, factors and summands, through
what is linear in every channel (Relu, a single number). Else it is one Mul for all products that
want the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from planner.compress import shifts, surgery
from planner.compress.base import Array
from planner.graph import weights

VERSION = 2
"""Raise it when models are divided in another way: what was found out about files built before
says nothing of those built now."""

_NORMALISATIONS = ("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization")
"""scale·n(X) + bias along the last axis."""
_LINEAR = ("Relu", "LeakyRelu", "PRelu", "Identity", "Dropout")
"""f(x / s) = f(x) / s for s > 0, in every channel for itself."""

Edit = tuple[NodeProto, int, Array]
"""A node's input to be replaced, and the constant to replace it."""


@dataclass(slots=True)
class _Model:
    """A model with what folding asks of it."""

    proto: ModelProto
    folder: Path
    constants: dict[str, TensorProto] = field(default_factory=dict)
    maker: dict[str, NodeProto] = field(default_factory=dict)
    readers: dict[str, list[NodeProto]] = field(default_factory=dict)
    outputs: frozenset[str] = frozenset()
    _numbers: dict[str, int] = field(default_factory=dict)
    """How often a name was asked for: the next one is not looked for among all before it."""

    def __post_init__(self) -> None:
        graph = self.proto.graph
        self.constants = surgery.initialisers(self.proto)
        self.outputs = frozenset(value.name for value in graph.output)
        for node in graph.node:
            self.maker.update({name: node for name in node.output if name})
            for name in surgery.reads_of(node):
                self.readers.setdefault(name, []).append(node)

    def floats(self, name: str) -> Array | None:
        """The value of a float32 constant."""
        tensor = self.constants.get(name)
        if tensor is None or tensor.data_type != TensorProto.FLOAT:
            return None
        return weights.to_array(tensor, self.folder)

    def add(self, value: Array, name: str) -> str:
        """A new constant; its name."""
        taken = name
        while taken in self.constants or taken in self.maker:
            self._numbers[name] = self._numbers.get(name, 0) + 1
            taken = f"{name}_{self._numbers[name]}"
        kept = self.proto.graph.initializer
        kept.append(surgery.from_array(value, taken))  # a copy, so nothing else holds the first
        self.constants[taken] = kept[-1]
        return taken


def divide_channels(onnx_model: ModelProto, asked: Mapping[str, str], folder: Path) -> None:
    """Divides the channels that MatMul operators read, and multiplies their matrices, in place.

    Args:
        asked: operator -> shifts of its channels; others keep what they read.
        folder: of weights that the model only refers to.
    """
    model = _Model(onnx_model, folder)
    groups: dict[tuple[str, str], list[NodeProto]] = {}
    for node in onnx_model.graph.node:
        if node.name in asked:
            groups.setdefault((node.input[0], asked[node.name]), []).append(node)
    for (tensor, text), products in groups.items():
        _multiply_matrices(model, products, text)
        edits = _edits(model, tensor, shifts.read(text), products)
        if edits is None:
            _insert_division(model, tensor, text, products)
            continue
        for node, position, value in edits:
            node.input[position] = model.add(value, f"{node.input[position]}__divided")
    surgery.sort_nodes(onnx_model.graph)


def _multiply_matrices(model: _Model, products: Sequence[NodeProto], text: str) -> None:
    made: dict[str, str] = {}
    for node in products:
        name = node.input[1]
        if name not in made:
            matrix = weights.to_array(model.constants[name], model.folder)
            made[name] = model.add(shifts.multiplied(matrix, shifts.read(text)), f"{name}__smooth")
        node.input[1] = made[name]


def _insert_division(model: _Model, tensor: str, text: str, products: Sequence[NodeProto]) -> None:
    shift = shifts.read(text)
    factor = model.add(shifts.divided(np.ones(len(shift), np.float32), shift), f"{tensor}__factor")
    made = f"{factor}__divided"
    division = helper.make_node("Mul", [tensor, factor], [made], made)
    model.proto.graph.node.append(division)  # looking for its place takes seconds: sorted at last
    for node in products:
        node.input[0] = made


def _edits(
    model: _Model, tensor: str, shift: Array, readers: Sequence[NodeProto]
) -> list[Edit] | None:
    """Constants that divide the tensor's channels for all who read it; None where there are none,
    or others read it."""
    maker = model.maker.get(tensor)
    if maker is None or tensor in model.outputs or maker.output[0] != tensor:
        return None
    own = {name for node in readers for name in node.output if name}
    fold = _FOLDS.get(maker.op_type)
    if fold is None or any(own.isdisjoint(node.output) for node in model.readers[tensor]):
        return None
    return fold(model, maker, shift)


def _through(model: _Model, node: NodeProto, shift: Array) -> list[Edit] | None:
    """What is linear in every channel: its input is divided."""
    return _edits(model, node.input[0], shift, [node])


def _of_vectors(model: _Model, node: NodeProto, shift: Array) -> list[Edit] | None:
    """Scale and bias of a normalisation: constants, one value a channel."""
    found: list[Edit] = []
    for position in (i for i in range(1, len(node.input)) if node.input[i]):
        value = model.floats(node.input[position])
        if value is None or value.shape[-1:] != shift.shape:
            return None
        found.append((node, position, shifts.divided(value, shift)))
    return found


def _of_columns(model: _Model, node: NodeProto, shift: Array) -> list[Edit] | None:
    matrix = model.floats(node.input[1])
    if matrix is None or matrix.ndim < 2:
        return None
    turned = surgery.attributes_of(node).get("transB", 0)
    columns = matrix.T if turned else matrix
    if columns.shape[-1] != len(shift):
        return None
    scaled = shifts.divided(columns, shift)
    found: list[Edit] = [(node, 1, scaled.T if turned else scaled)]
    if len(node.input) < 3 or not node.input[2]:
        return found
    bias = model.floats(node.input[2])
    return None if bias is None else [*found, (node, 2, shifts.divided(bias, shift))]


def _of_arithmetic(model: _Model, node: NodeProto, shift: Array) -> list[Edit] | None:
    """A constant factor or divisor takes all of it; a constant summand its part, and what it is
    added to the rest. Factors of one number stay numbers: ONNX Runtime knows a Gelu by its half,
    and where that is a vector, it runs five operators in place of one."""
    position = next((i for i in (1, 0) if node.input[i] in model.constants), None)
    if position is None or (node.op_type == "Div" and position == 0):
        return None
    value = model.floats(node.input[position])
    if value is None or value.shape[-1:] not in ((), (1,), shift.shape):
        return None
    if node.op_type in ("Mul", "Div") and value.size == 1:
        return _edits(model, node.input[1 - position], shift, [node])
    if node.op_type in ("Mul", "Div"):
        sign = -1 if node.op_type == "Div" else 1
        return [(node, position, shifts.divided(value, sign * shift))]
    rest = _edits(model, node.input[1 - position], shift, [node])
    return None if rest is None else [*rest, (node, position, shifts.divided(value, shift))]


_FOLDS: Mapping[str, Callable[[_Model, NodeProto, Array], list[Edit] | None]] = {
    **dict.fromkeys(_NORMALISATIONS, _of_vectors),
    **dict.fromkeys(_LINEAR, _through),
    **dict.fromkeys(("MatMul", "Gemm"), _of_columns),
    **dict.fromkeys(("Mul", "Div", "Add", "Sub"), _of_arithmetic),
}
