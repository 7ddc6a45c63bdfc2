"""The gelu by tanh, however it is spelt, becomes the spelling that ONNX Runtime fuses.

    x · ½ · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))

Exporters write x³ as products, and ½ at either end: nine passes over memory where one would do.
What operators compute of x is compared as numbers, not by their order: on a grid of points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from planner.graph.rewrite.net import Net, Node
from planner.graph.rewrite.values import scalar, store

Points = npt.NDArray[np.float64]
_FUNCTIONS: Mapping[str, Callable[..., Points]] = MappingProxyType(
    {
        "Add": np.add,
        "Sub": np.subtract,
        "Mul": np.multiply,
        "Div": np.divide,
        "Neg": np.negative,
        "Tanh": np.tanh,
    }
)
"""Powers are left out: with one, it is spelt as ONNX Runtime knows it."""
_CUBIC, _SLOPE = 0.044715, math.sqrt(2 / math.pi)
_GRID: Points = np.concatenate([np.linspace(-12, 12, 481), np.geomspace(1e-3, 30, 40)])
_SAME = 1e-6
"""Of |x|: constants are rounded to float32, half of whose last place is 6e-8."""
_STEPS_DOWN = 4
_MOST = 16
"""Operators of one spelling, at most."""


def respell(net: Net, node: Node) -> bool:
    """Replaces what stands around a tanh, if it is this gelu."""
    if node.kind != "Tanh" or net.shape(node.outputs[0]) is None:
        return False
    root = node
    for _ in range(_STEPS_DOWN):
        reader = net.only_reader(root.outputs[0])
        if reader is None:
            return False
        if reader.kind == "Mul" and _replaced(net, reader):
            return True
        root = reader
    return False


def _replaced(net: Net, root: Node) -> bool:
    """Whether it made this gelu of one of the tensors close above it, and was replaced."""
    near = list(root.inputs)
    near += [name for maker in map(net.maker, root.inputs) if maker for name in maker.inputs]
    for x in dict.fromkeys(near):
        if net.shape(x) is None or net.shape(x) != net.shape(root.outputs[0]):
            continue
        inside: dict[Node, Points] = {}
        values = _values(net, root.outputs[0], x, inside)
        if values is None or not _is_gelu(values) or not _is_closed(net, root, inside):
            continue
        _spell(net, x, root, inside)
        return True
    return False


def _values(net: Net, name: str, x: str, inside: dict[Node, Points]) -> Points | None:
    """A tensor on the grid of x, where it depends on nothing else; fills `inside`."""
    if name == x:
        return _GRID
    maker = net.maker(name)
    if maker is None:
        constant = scalar(net, name)
        return None if constant is None else np.full_like(_GRID, constant)
    if maker in inside:
        return inside[maker]
    if maker.kind not in _FUNCTIONS or len(inside) >= _MOST:
        return None
    operands = [_values(net, one, x, inside) for one in maker.inputs]
    known = [one for one in operands if one is not None]
    if len(known) < len(operands):
        return None
    with np.errstate(all="ignore"):
        inside[maker] = _FUNCTIONS[maker.kind](*known)
    return inside[maker]


def _is_gelu(values: Points) -> bool:
    wanted = _GRID / 2 * (1 + np.tanh(_SLOPE * (_GRID + _CUBIC * _GRID**3)))
    return bool((np.abs(values - wanted) <= _SAME * np.abs(_GRID)).all())


def _is_closed(net: Net, root: Node, inside: Mapping[Node, Any]) -> bool:
    """Whether nobody else reads what lies inside."""
    return all(
        node is root
        or (
            node.outputs[0] not in net.pinned
            and all(r in inside for r in net.readers(node.outputs[0]))
        )
        for node in inside
    )


def _spell(net: Net, x: str, root: Node, inside: Mapping[Node, Any]) -> None:
    target = root.outputs[0]
    shape = net.shapes[target]
    for node in inside:
        net.remove(node)

    def step(op_type: str, *inputs: str | float) -> str:
        names = [
            one if isinstance(one, str) else store(net, np.array(one), f"{target}__number")
            for one in inputs
        ]
        made = net.fresh(f"{target}__gelu", shape)
        net.add(op_type, names, [made])
        return made

    cubed = step("Mul", step("Pow", x, 3.0), _CUBIC)
    inner = step("Mul", step("Add", x, cubed), _SLOPE)
    raised = step("Add", step("Tanh", inner), 1.0)
    net.add("Mul", [step("Mul", x, 0.5), raised], [target])


__all__ = ["respell"]
