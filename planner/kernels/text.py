"""Small pieces of kernel text: types, numbers, operands."""

from __future__ import annotations

from collections.abc import Iterable

from planner.kernels.scope import Value
from planner.ops.expr import Apply, Const
from planner.ops.functions import FUNCTIONS

TRITON_TYPE = {
    "float16": "tl.float16",
    "bfloat16": "tl.bfloat16",
    "float32": "tl.float32",
    "float64": "tl.float64",
    "int8": "tl.int8",
    "int16": "tl.int16",
    "int32": "tl.int32",
    "int64": "tl.int64",
    "uint8": "tl.uint8",
    "uint16": "tl.uint16",
    "bool": "tl.int1",
}
ITEM_SIZE_BYTES = {
    name: int(name.strip("uintbfloa")) // 8 if name != "bool" else 1 for name in TRITON_TYPE
}
"""As stored; truth values take a byte."""
NARROW = frozenset({"float16", "bfloat16", "float64"})


HELPER_WORDS = ("nearest_even", "logistic", "hyperbolic_tangent", "power")


def term(text: str) -> str:
    """An operand that keeps its value inside a larger expression."""
    return text if text.replace("_", "a").isalnum() or text.endswith("]") else f"({text})"


def known(expr: Apply) -> Const:
    """A function of numbers, computed now."""
    numbers = [arg.value for arg in expr.args if isinstance(arg, Const)]
    found = FUNCTIONS[expr.fn].numpy(*numbers)
    kinds = {arg.dtype for arg in expr.args if isinstance(arg, Const)}
    is_float = FUNCTIONS[expr.fn].returns == "float" or any("float" in kind for kind in kinds)
    return Const(float(found), "float32") if is_float else Const(int(found), "int32")


def whole_type(values: Iterable[Value]) -> str:
    dtypes = {value.dtype for value in values}
    if "int64" in dtypes:
        return "int64"
    return "bool" if dtypes == {"bool"} else "int32"


def other_text(value: float, dtype: str) -> str:
    """A number as the kernel's source writes it."""
    if "float" not in dtype:
        return str(int(value))
    text = repr(float(value))
    return text if text[-1].isdigit() else f'float("{text}")'
