"""Elementwise and broadcasting operators: one map each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from planner.ops.builder import Builder, Lower, Node, NotCovered, broadcast, optional, scalar
from planner.ops.expr import Cast, Const, Expr, apply, number
from planner.ops.index import Affine

Unary = Callable[[Expr, Node], Expr]


def _f(value: float) -> Const:
    return number(value)


def _attribute(node: Node, key: str, default: float) -> Const:
    return number(float(node.attributes.get(key, default)))


def _sigmoid(x: Expr) -> Expr:
    return apply("sigmoid", x)


def _softplus(x: Expr) -> Expr:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)), which cannot overflow."""
    tail = apply("log1p", apply("exp", apply("neg", apply("abs", x))))
    return apply("add", apply("max", x, _f(0.0)), tail)


def _expm1(x: Expr) -> Expr:
    return apply("sub", apply("exp", x), _f(1.0))


def _negative_part(x: Expr, otherwise: Expr) -> Expr:
    """x where x > 0, else `otherwise`."""
    return apply("where", apply("less", _f(0.0), x), x, otherwise)


def _elu(x: Expr, node: Node) -> Expr:
    return _negative_part(x, apply("mul", _attribute(node, "alpha", 1.0), _expm1(x)))


def _celu(x: Expr, node: Node) -> Expr:
    alpha = _attribute(node, "alpha", 1.0)
    return _negative_part(x, apply("mul", alpha, _expm1(apply("div", x, alpha))))


def _selu(x: Expr, node: Node) -> Expr:
    alpha = _attribute(node, "alpha", 1.67326319217681884765625)
    gamma = _attribute(node, "gamma", 1.05070102214813232421875)
    return apply("mul", gamma, _negative_part(x, apply("mul", alpha, _expm1(x))))


def _gelu(x: Expr, node: Node) -> Expr:
    if node.attributes.get("approximate", "none") == "tanh":
        cube = apply("mul", x, apply("mul", x, x))
        inner = apply("add", x, apply("mul", _f(0.044715), cube))
        inner = apply("tanh", apply("mul", _f(math.sqrt(2 / math.pi)), inner))
    else:
        inner = apply("erf", apply("mul", x, _f(math.sqrt(0.5))))
    return apply("mul", apply("mul", x, _f(0.5)), apply("add", inner, _f(1.0)))


def _clamp(x: Expr, low: float, high: float) -> Expr:
    return apply("min", apply("max", x, _f(low)), _f(high))


def _hard_sigmoid(x: Expr, node: Node) -> Expr:
    alpha, beta = _attribute(node, "alpha", 0.2), _attribute(node, "beta", 0.5)
    return _clamp(apply("add", apply("mul", alpha, x), beta), 0.0, 1.0)


def _hard_swish(x: Expr, node: Node) -> Expr:
    gate = _clamp(apply("add", apply("mul", x, _f(1 / 6)), _f(0.5)), 0.0, 1.0)
    return apply("mul", x, gate)


def _leaky(x: Expr, node: Node) -> Expr:
    return _negative_part(x, apply("mul", x, _attribute(node, "alpha", 0.01)))


def _thresholded(x: Expr, node: Node) -> Expr:
    return apply("where", apply("less", _attribute(node, "alpha", 1.0), x), x, _f(0.0))


def _shrink(x: Expr, node: Node) -> Expr:
    bias, edge = _attribute(node, "bias", 0.0), _attribute(node, "lambd", 0.5)
    low = apply("where", apply("less", x, apply("neg", edge)), apply("add", x, bias), _f(0.0))
    return apply("where", apply("less", edge, x), apply("sub", x, bias), low)


def _isinf(x: Expr, node: Node) -> Expr:
    wanted = []
    if node.attributes.get("detect_positive", 1):
        wanted.append(apply("equal", x, _f(math.inf)))
    if node.attributes.get("detect_negative", 1):
        wanted.append(apply("equal", x, _f(-math.inf)))
    if not wanted:
        return Const(False, "bool")
    return wanted[0] if len(wanted) == 1 else apply("or", *wanted)


def _quick_gelu(x: Expr, node: Node) -> Expr:
    return apply("mul", x, _sigmoid(apply("mul", x, _attribute(node, "alpha", 1.702))))


def _softsign(x: Expr, node: Node) -> Expr:
    return apply("div", x, apply("add", apply("abs", x), _f(1.0)))


_PLAIN = {
    "Abs": "abs",
    "Neg": "neg",
    "Exp": "exp",
    "Log": "log",
    "Sqrt": "sqrt",
    "Sin": "sin",
    "Cos": "cos",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Erf": "erf",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
    "Sign": "sign",
    "Not": "not",
    "IsNaN": "isnan",
}
_UNARY: dict[str, Unary] = {
    "Identity": lambda x, node: x,
    "Dropout": lambda x, node: x,
    "Relu": lambda x, node: apply("max", x, _f(0.0)),
    "Reciprocal": lambda x, node: apply("div", _f(1.0), x),
    "LeakyRelu": _leaky,
    "Elu": _elu,
    "Celu": _celu,
    "Selu": _selu,
    "Softplus": lambda x, node: _softplus(x),
    "Softsign": _softsign,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Swish": lambda x, node: apply(
        "mul", x, _sigmoid(apply("mul", x, _attribute(node, "alpha", 1.0)))
    ),
    "Mish": lambda x, node: apply("mul", x, apply("tanh", _softplus(x))),
    "Gelu": _gelu,
    "ThresholdedRelu": _thresholded,
    "Shrink": _shrink,
    "IsInf": _isinf,
    "com.microsoft::QuickGelu": _quick_gelu,
    "com.microsoft::Gelu": _gelu,
    "com.microsoft::BiasGelu": _gelu,
    "com.microsoft::FastGelu": lambda x, node: _gelu(
        x, Node("", "Gelu", "", (), (), {"approximate": "tanh"}, 20)
    ),
}
_BINARY = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "Pow": "pow",
    "And": "and",
    "Or": "or",
    "Xor": "xor",
    "Equal": "equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
    "BitwiseAnd": "bit_and",
    "BitwiseOr": "bit_or",
    "BitwiseXor": "bit_xor",
}
_FLIPPED = {"Greater": "less", "GreaterOrEqual": "less_equal"}
_VARIADIC = {"Sum": "add", "Mean": "add", "Max": "max", "Min": "min"}


def _unary(builder: Builder, node: Node) -> None:
    op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
    if len([name for name in node.outputs if name]) > 1:
        raise NotCovered(f"{node.op_type} with a second output", where=node.name)
    bias = optional(node, 1) if op.endswith(("FastGelu", "BiasGelu")) else None

    def body(*at: Affine) -> Expr:
        x: Expr = broadcast(builder, node.inputs[0], at)
        if bias is not None:
            x = apply("add", x, broadcast(builder, bias, at))
        return apply(_PLAIN[op], x) if op in _PLAIN else _UNARY[op](x, node)

    builder.map(node.outputs[0], body)


def operand(builder: Builder, name: str, at: Sequence[Affine]) -> Expr:
    """An element of a broadcast operand; a known tensor of one element is a number."""
    known = builder.constant(name)
    if known is not None and known.size == 1:
        return scalar(builder, name)
    return broadcast(builder, name, at)


def _binary(builder: Builder, node: Node) -> None:
    left, right = node.inputs
    if node.op_type in _FLIPPED:
        left, right = right, left
    fn = _BINARY.get(node.op_type) or _FLIPPED[node.op_type]

    def body(*at: Affine) -> Expr:
        a, b = operand(builder, left, at), operand(builder, right, at)
        if fn == "pow":
            return _raised(node, a, b, *(builder.dtype(name) for name in (left, right)))
        return apply(fn, a, b)

    builder.map(node.outputs[0], body)


def _raised(node: Node, base: Expr, exponent: Expr, base_type: str, exponent_type: str) -> Expr:
    known = exponent.value if isinstance(exponent, Const) else None
    if "float" not in base_type and known not in (1, 2, 3):
        raise NotCovered("a power of whole numbers that is no product", where=node.name)
    if known is not None:
        return _power(base, float(known))
    if "float" not in exponent_type:
        exponent = Cast("float32", exponent)
    return apply("pow", base, exponent)


def _power(base: Expr, exponent: float) -> Expr:
    """Small whole powers are products: exact for negative bases, and cheap."""
    if exponent == 2.0:
        return apply("mul", base, base)
    if exponent == 3.0:
        return apply("mul", base, apply("mul", base, base))
    if exponent == 0.5:
        return apply("sqrt", base)
    return base if exponent == 1.0 else apply("pow", base, number(exponent))


def _mod(builder: Builder, node: Node) -> None:
    fn = "fmod" if node.attributes.get("fmod", 0) else "mod"
    left, right = node.inputs
    builder.map(
        node.outputs[0],
        lambda *at: apply(fn, operand(builder, left, at), operand(builder, right, at)),
    )


def _variadic(builder: Builder, node: Node) -> None:
    fn = _VARIADIC[node.op_type]

    def body(*at: Affine) -> Expr:
        total = operand(builder, node.inputs[0], at)
        for name in node.inputs[1:]:
            total = apply(fn, total, operand(builder, name, at))
        if node.op_type == "Mean":
            total = apply("mul", total, _f(1 / len(node.inputs)))
        return total

    builder.map(node.outputs[0], body)


def _clip(builder: Builder, node: Node) -> None:
    source = node.inputs[0]
    dtype = builder.dtype(source)
    limits: list[tuple[str, Expr]] = []
    for position, fn, key in ((1, "max", "min"), (2, "min", "max")):
        name = optional(node, position)
        if name is not None:
            limits.append((fn, scalar(builder, name)))
        elif key in node.attributes:
            limits.append((fn, number(float(node.attributes[key]), dtype)))

    def body(*at: Affine) -> Expr:
        value: Expr = broadcast(builder, source, at)
        for fn, limit in limits:
            value = apply(fn, value, limit)
        return value

    builder.map(node.outputs[0], body)


def _where(builder: Builder, node: Node) -> None:
    builder.map(
        node.outputs[0],
        lambda *at: apply("where", *(operand(builder, name, at) for name in node.inputs)),
    )


def _prelu(builder: Builder, node: Node) -> None:
    def body(*at: Affine) -> Expr:
        x = broadcast(builder, node.inputs[0], at)
        return _negative_part(x, apply("mul", x, operand(builder, node.inputs[1], at)))

    builder.map(node.outputs[0], body)


def _cast(builder: Builder, node: Node) -> None:
    """Cast and CastLike: the type of the output says to what."""
    source, target = node.inputs[0], builder.dtype(node.outputs[0])
    if target not in _CASTABLE or builder.dtype(source) not in _CASTABLE:
        raise NotCovered(f"Cast from {builder.dtype(source)} to {target}", where=node.name)
    widens = target in ("float32", "float64") and "float" in builder.dtype(source)

    def body(*at: Affine) -> Expr:
        value = broadcast(builder, source, at)
        same = builder.dtype(source) == target or widens
        return value if same else Cast(target, value)

    builder.map(node.outputs[0], body)


_CASTABLE = frozenset(
    {"float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16"}
)

FAMILY: Mapping[str, Lower] = {
    **dict.fromkeys([*_PLAIN, *_UNARY], _unary),
    **dict.fromkeys([*_BINARY, *_FLIPPED], _binary),
    **dict.fromkeys(_VARIADIC, _variadic),
    "Mod": _mod,
    "Clip": _clip,
    "Where": _where,
    "PRelu": _prelu,
    "Cast": _cast,
    "CastLike": _cast,
}
