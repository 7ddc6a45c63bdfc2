"""What an operator costs in arithmetic and traffic, from shapes alone: FLOPs and bytes per family.

A multiply-add is two FLOPs. Elementwise operators count one FLOP for each element made, whatever
the function: they are bound by memory. Bytes are what must move if nothing stays on chip: every
operand read once and every result written once; a view moves nothing.

Formulas are the operators' own definitions (ONNX operator specification).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.ir.graph import Op, Tensor

Operands = Sequence[Tensor | None]
Attributes = Mapping[str, Any]

SOFTMAX_FLOPS = 5
"""Per element: maximum, subtraction, exponential, sum, division."""
NORM_FLOPS = 8
"""Per element: mean, difference, square, sum, scale, times weight, plus bias, and one to spare."""
VIEWS = frozenset(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Shape", "Size"))
"""They rename memory: no bytes move."""
MOVEMENT = frozenset(
    (
        *("Transpose", "Concat", "Split", "Slice", "Gather", "GatherND", "GatherElements", "Pad"),
        *("Tile", "Expand", "Cast", "ScatterND", "ScatterElements", "DepthToSpace", "OneHot"),
        *("SpaceToDepth", "Range", "ConstantOfShape", "EyeLike", "Constant", "Reverse"),
    )
)
"""They copy, and compute nothing."""
_GATHERS = frozenset(("Gather", "GatherND", "GatherElements"))
_REDUCTIONS = ("Reduce", "ArgM", "CumSum", "GlobalAverage", "GlobalMax", "TopK")


@dataclass(frozen=True, slots=True)
class Work:
    """Of one operator, once."""

    flops: int
    read_size_bytes: int
    """Activations and weights it reads."""
    weight_size_bytes: int
    """The part of it that is weights."""
    write_size_bytes: int
    is_known: bool = True
    """False where a shape it depends on is unknown: then the figures are lower bounds."""

    @property
    def size_bytes(self) -> int:
        """Everything that moves."""
        return self.read_size_bytes + self.write_size_bytes


def work_of(op: Op, tensors: Mapping[str, Tensor], attributes: Attributes | None = None) -> Work:
    """FLOPs and bytes of one operator.

    Args:
        tensors: with the shapes of one workload entry.
        attributes: the operator's own; only Einsum and quantised products need them.
    """
    operands = [tensors[name] if name else None for name in op.inputs]
    results = [tensors[name] for name in op.outputs if name]
    shapes = (*(t.shape for t in operands if t is not None), *(t.shape for t in results))
    is_known = all(shape is not None for shape in shapes) and not op.captured
    flops = _flops(op, operands, results, attributes or {}) if is_known else 0
    if op.op_type in VIEWS:
        return Work(flops, 0, 0, 0, is_known)
    read = _read(op, operands, results)
    weights = [t for t in operands if t is not None and t.is_constant]
    weight_bytes = min(read, sum(t.size_bytes for t in weights))
    written = sum(t.size_bytes for t in results)
    return Work(flops, read, weight_bytes, written, is_known)


def _read(op: Op, operands: Operands, results: Sequence[Tensor]) -> int:
    """Bytes read; a gather reads what it returns, not the whole table."""
    unique = {t.name: t for t in operands if t is not None}
    total = sum(t.size_bytes for t in unique.values())
    if op.op_type in _GATHERS and operands[0] is not None and results:
        table = operands[0].size_bytes
        return total - table + min(table, results[0].size_bytes)
    return total


def _flops(op: Op, operands: Operands, results: Sequence[Tensor], attributes: Attributes) -> int:
    if op.op_type in VIEWS or op.op_type in MOVEMENT or not results:
        return 0
    rule = RULES.get(op.op_type)
    if rule is not None:
        return rule([_dims(t) for t in operands], _dims(results[0]), attributes)
    if op.op_type.startswith(_REDUCTIONS):
        return max(_count(_dims(operands[0])), _count(_dims(results[0])))
    return _count(_dims(results[0]))


Shape = tuple[int, ...]


def _dims(tensor: Tensor | None) -> Shape:
    """The shape; an absent operand has no elements."""
    return (0,) if tensor is None or tensor.shape is None else tensor.shape


def _count(shape: Shape) -> int:
    return math.prod(shape)


def _matmul(operands: Sequence[Shape], result: Shape, attributes: Attributes) -> int:
    """2 x elements of the result x length of the inner dimension."""
    left = operands[0]
    return 2 * _count(result) * (left[-1] if left else 1)


def _gemm(operands: Sequence[Shape], result: Shape, attributes: Attributes) -> int:
    """2 M N K, A being M x K or, transposed, K x M; and M N for the addition."""
    inner = operands[0][0] if attributes.get("transA") else operands[0][-1]
    bias = _count(result) if len(operands) > 2 and operands[2] != (0,) else 0
    return 2 * _count(result) * inner + bias


def _convolution(kernel: int) -> Callable[[Sequence[Shape], Shape, Attributes], int]:
    """2 x elements made x weights of one output channel."""

    def rule(operands: Sequence[Shape], result: Shape, attributes: Attributes) -> int:
        return 2 * _count(result) * _count(operands[kernel][1:])

    return rule


def _transposed(operands: Sequence[Shape], result: Shape, attributes: Attributes) -> int:
    """2 x elements read x weights of one input channel."""
    return 2 * _count(operands[0]) * _count(operands[1][1:])


def _pool(operands: Sequence[Shape], result: Shape, attributes: Attributes) -> int:
    """One comparison or addition for each element of each window."""
    return _count(result) * _count(tuple(attributes.get("kernel_shape", ())))


def _recurrent(operands: Sequence[Shape], result: Shape, attributes: Attributes) -> int:
    """2 x steps x batch x weights (both directions are in W [D, gates * h, n] and R)."""
    if len(operands[0]) < 2:
        return 0
    steps_batch = operands[0][0] * operands[0][1]
    return 2 * steps_batch * (_count(operands[1]) + _count(operands[2]))


def _einsum(operands: Sequence[Shape], result: Shape, attributes: Attributes) -> int:
    """2 x the product of all index ranges, batch dimensions of an ellipsis included."""
    left = str(attributes.get("equation", "")).split("->", maxsplit=1)[0].replace(" ", "")
    ranges: dict[str, int] = {}
    for term, shape in zip(left.split(","), operands, strict=False):
        plain = term.replace("...", "")
        head, _, tail = term.partition("...")
        extra = len(shape) - len(plain)
        letters = [*head, *(f"...{extra - i}" for i in range(extra)), *tail]
        for letter, size in zip(letters, shape, strict=False):
            ranges[letter] = max(size, ranges.get(letter, 1))
    return 2 * math.prod(ranges.values())


def _attention(operands: Sequence[Shape], result: Shape, attributes: Attributes) -> int:
    """Two products of queries with all keys seen, and the softmax between them.

    Q is [B, H, S, d] or [B, S, H * d]; keys are the new ones and, as fifth operand, the past.
    """
    query, key, value = operands[0], operands[1], operands[2]
    past = operands[4] if len(operands) > 4 else (0,)
    seen = key[-2] + (past[-2] if len(past) > 1 else 0)
    heads = query[1] if len(query) == 4 else int(attributes.get("q_num_heads", 1))
    rows = _count(query[:-1]) if len(query) == 4 else _count(query[:-1]) * heads
    width = query[-1] if len(query) == 4 else query[-1] // heads
    kv_heads = heads if len(value) == 4 else int(attributes.get("kv_num_heads", heads))
    value_width = value[-1] if len(value) == 4 else value[-1] // kv_heads
    return rows * seen * (2 * width + 2 * value_width + SOFTMAX_FLOPS)


def _times(factor: int) -> Callable[[Sequence[Shape], Shape, Attributes], int]:
    def rule(operands: Sequence[Shape], result: Shape, attributes: Attributes) -> int:
        return factor * _count(result)

    return rule


Rule = Callable[[Sequence[Shape], Shape, Attributes], int]

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("MatMul", "FusedMatMul", "QLinearMatMul", "MatMulInteger"), _matmul),
    **dict.fromkeys(("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits"), _matmul),
    "Gemm": _gemm,
    **dict.fromkeys(("Conv", "FusedConv", "ConvInteger"), _convolution(1)),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed,
    **dict.fromkeys(("AveragePool", "MaxPool", "LpPool"), _pool),
    **dict.fromkeys(("RNN", "GRU", "LSTM"), _recurrent),
    "Einsum": _einsum,
    "Attention": _attention,
    **dict.fromkeys(("Softmax", "LogSoftmax"), _times(SOFTMAX_FLOPS)),
    **dict.fromkeys(
        ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization"),
        _times(NORM_FLOPS),
    ),
}
"""Operator type -> FLOPs from shapes of operands, shape of the first result and attributes."""
