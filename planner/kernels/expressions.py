"""The kernel text of every scalar function, and the helpers some of them need."""

from __future__ import annotations

from collections.abc import Mapping

FLOAT_TEXT: Mapping[str, str] = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "min": "tl.minimum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)",
    "max": "tl.maximum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)",
    "mod": "{0} - tl.floor({0} / {1}) * {1}",
    "fmod": "{0} % {1}",
    "neg": "-{0}",
    "abs": "tl.abs({0})",
    "sign": "tl.where({0} > 0, 1.0, tl.where({0} < 0, -1.0, {0}))",
    "floor": "tl.floor({0})",
    "ceil": "tl.ceil({0})",
    "round": "nearest_even({0})",
    "where": "tl.where({0}, {1}, {2})",
    "exp": "tl.exp({0})",
    "log": "tl.log({0})",
    "sqrt": "tl.sqrt_rn({0})",
    "rsqrt": "tl.rsqrt({0})",
    "sin": "tl.sin({0})",
    "cos": "tl.cos({0})",
    "tanh": "hyperbolic_tangent({0})",
    "sigmoid": "logistic({0})",
    "erf": "tl.erf({0})",
    "pow": "power({0}, {1})",
    "log1p": "tl.log(1.0 + {0})",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "equal": "{0} == {1}",
    "isnan": "{0} != {0}",
}
"""Arguments are float32 tensors or scalars."""

WHOLE_TEXT: Mapping[str, str] = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} // {1}",
    "mod": "(({0} % {1}) + {1}) % {1}",
    "fmod": "{0} % {1}",
    "min": "tl.minimum({0}, {1})",
    "max": "tl.maximum({0}, {1})",
    "neg": "-{0}",
    "abs": "tl.abs({0})",
    "sign": "tl.where({0} > 0, 1, tl.where({0} < 0, -1, 0))",
    "floor": "{0}",
    "ceil": "{0}",
    "round": "{0}",
    "where": "tl.where({0}, {1}, {2})",
    "bit_and": "{0} & {1}",
    "bit_or": "{0} | {1}",
    "bit_xor": "{0} ^ {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "equal": "{0} == {1}",
    "and": "{0} & {1}",
    "or": "{0} | {1}",
    "xor": "{0} ^ {1}",
    "not": "{0} == 0",
}
"""Arguments are integers or truth values. Triton's integer division truncates, as ONNX's does."""

HELPERS: Mapping[str, str] = {
    "nearest_even": '''
@triton.jit
def nearest_even(x):
    """Adding 1.5 * 2^23 rounds to whole numbers, ties to even; larger numbers are whole."""
    moved = (x + 12582912.0) - 12582912.0
    return tl.where(tl.abs(x) < 4194304.0, moved, x)
''',
    "logistic": '''
@triton.jit
def logistic(x):
    """1 / (1 + exp(-x)); the reciprocal as the square of a reciprocal root.

    `tl.exp` and `/` guard against overflow by predicates, and the assembler puts the values of a
    thread one behind the other for it; these two flush what is below float32 instead.
    """
    r = tl.rsqrt(1.0 + tl.exp2(x * -1.4426950408889634))
    return r * r
''',
    "hyperbolic_tangent": '''
@triton.jit
def hyperbolic_tangent(x):
    """(1 - e) / (1 + e), e = exp(-2 |x|): neither overflows nor loses small arguments' sign.

    The quotient as in `logistic`.
    """
    e = tl.exp2(tl.abs(x) * -2.8853900817779268)
    r = tl.rsqrt(1.0 + e)
    t = (1.0 - e) * r * r
    cubic = x - x * x * x * 0.3333333333333333
    t = tl.where(x < 0, -t, t)
    return tl.where(tl.abs(x) < 0.004, cubic, t)
''',
    "power": '''
@triton.jit
def power(x, y):
    """2^(y log2 |x|); negative bases have a value for whole exponents only."""
    magnitude = tl.exp2(y * tl.log2(tl.abs(x)))
    magnitude = tl.where(y == 0.0, 1.0, magnitude)
    whole = tl.floor(y) == y
    odd = tl.floor(y * 0.5) * 2.0 != y
    below = tl.where(whole, tl.where(odd, -magnitude, magnitude), float("nan"))
    return tl.where(x < 0, below, magnitude)
''',
}
"""Functions that kernels call by name, included where they are used."""

REDUCE_TEXT: Mapping[str, str] = {
    "sum": "tl.sum({0}, axis={1})",
    "max": "tl.max({0}, axis={1})",
    "min": "tl.min({0}, axis={1})",
}
COMBINE: Mapping[str, str] = {"sum": "add", "max": "max", "min": "min", "prod": "mul"}
"""The function that joins two partial results."""
