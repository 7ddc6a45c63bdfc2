"""The scalar functions expressions are made of: name, number of arguments, NumPy meaning, work.

The kernel text of each stands in `planner/kernels/expressions.py`; a test compares the two tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Function:
    """What a scalar function means."""

    arity: int
    numpy: Callable[..., Any]
    flops: int
    """Operations as hardware counts them: 1 for an addition, about 8 for a transcendental."""
    returns: str = "same"
    """`same` kind as the arguments, `bool`, or `float`."""


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(x) if np.size(x) else np.asarray(x)


def _quotient(a: Array, b: Array) -> Array:
    """ONNX Div: integers truncate towards zero; a division by zero gives what the type gives."""
    if np.issubdtype(np.result_type(a, b), np.integer):
        safe = np.where(b == 0, 1, b)
        magnitude: Array = np.abs(a) // np.abs(safe)
        return np.where((np.asarray(a) < 0) ^ (np.asarray(safe) < 0), -magnitude, magnitude)
    return np.asarray(np.divide(a, b))


_SAME: dict[str, tuple[int, Callable[..., Any], int]] = {
    "add": (2, np.add, 1),
    "sub": (2, np.subtract, 1),
    "mul": (2, np.multiply, 1),
    "div": (2, _quotient, 4),
    "min": (2, np.minimum, 1),
    "max": (2, np.maximum, 1),
    "mod": (2, np.mod, 4),
    "fmod": (2, np.fmod, 4),
    "neg": (1, np.negative, 1),
    "abs": (1, np.abs, 1),
    "sign": (1, np.sign, 2),
    "floor": (1, np.floor, 1),
    "ceil": (1, np.ceil, 1),
    "round": (1, np.rint, 1),
    "where": (3, np.where, 1),
    "bit_and": (2, np.bitwise_and, 1),
    "bit_or": (2, np.bitwise_or, 1),
    "bit_xor": (2, np.bitwise_xor, 1),
}
_FLOAT: dict[str, tuple[int, Callable[..., Any], int]] = {
    "exp": (1, np.exp, 8),
    "log": (1, np.log, 8),
    "sqrt": (1, np.sqrt, 8),
    "rsqrt": (1, lambda x: 1.0 / np.sqrt(x), 8),
    "sin": (1, np.sin, 8),
    "cos": (1, np.cos, 8),
    "tanh": (1, np.tanh, 10),
    "sigmoid": (1, lambda x: 1.0 / (1.0 + np.exp(-x)), 10),
    "erf": (1, _erf, 12),
    "pow": (2, lambda a, b: np.power(np.asarray(a, dtype=np.float64), b), 16),
    "log1p": (1, np.log1p, 10),
}
_BOOL: dict[str, tuple[int, Callable[..., Any], int]] = {
    "less": (2, np.less, 1),
    "less_equal": (2, np.less_equal, 1),
    "equal": (2, np.equal, 1),
    "and": (2, np.logical_and, 1),
    "or": (2, np.logical_or, 1),
    "xor": (2, np.logical_xor, 1),
    "not": (1, np.logical_not, 1),
    "isnan": (1, np.isnan, 1),
}

FUNCTIONS: dict[str, Function] = {
    **{name: Function(*row, returns="same") for name, row in _SAME.items()},
    **{name: Function(*row, returns="float") for name, row in _FLOAT.items()},
    **{name: Function(*row, returns="bool") for name, row in _BOOL.items()},
}
