"""Resize and Upsample: an index map (nearest), or a sum over two or four neighbours (linear)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from planner.ops import index
from planner.ops.builder import Builder, Lower, Node, NotCovered
from planner.ops.expr import Expr, Load, apply
from planner.ops.index import Affine
from planner.ops.nest import TensorType

Array = np.ndarray[Any, Any]
_ROUNDINGS: Mapping[str, Callable[[Array], Array]] = {
    "floor": lambda x: np.floor(x),
    "ceil": lambda x: np.ceil(x),
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
}


def _resize(builder: Builder, node: Node) -> None:
    mode = node.attributes.get("mode", "nearest")
    if mode not in ("nearest", "linear") or node.attributes.get("antialias", 0):
        raise NotCovered(f"{node.op_type} mode {mode}", where=node.name)
    source, target = node.inputs[0], node.outputs[0]
    shape, wanted = builder.shape(source), builder.shape(target)
    scales = _scales(builder, node, shape, wanted)
    given = enumerate(zip(shape, wanted, scales, strict=True))
    changed = [axis for axis, (a, b, scale) in given if a != b or scale != 1.0]
    if mode == "nearest":
        tables = {axis: _nearest(node, shape[axis], wanted[axis], scales[axis]) for axis in changed}
        builder.map(target, lambda *at: Load(source, _moved(builder, target, at, tables, shape)))
        return
    for axis in changed:
        last = axis == changed[-1]
        source = _linear(
            builder, node, source, target if last else None, axis, wanted[axis], scales[axis]
        )
    if not changed:
        builder.map(target, lambda *at: Load(source, tuple(at)))


def _scales(
    builder: Builder, node: Node, shape: Sequence[int], wanted: Sequence[int]
) -> list[float]:
    position = 1 if node.op_type == "Upsample" or node.opset < 11 else 2
    given = builder.known(node, position)
    listed = node.attributes.get("scales")  # Upsample of operator set 7
    given = np.asarray(listed) if given is None and listed is not None else given
    ratios = [b / a if a else 1.0 for a, b in zip(shape, wanted, strict=True)]
    axes = [axis % len(shape) for axis in node.attributes.get("axes") or range(len(shape))]
    if given is not None and given.size == len(axes):
        told = {axis: float(item) for axis, item in zip(axes, given.reshape(-1), strict=True)}
        return [told.get(axis, ratio) for axis, ratio in enumerate(ratios)]
    return _kept_ratio(builder, node, shape, axes, ratios)


def _kept_ratio(
    builder: Builder, node: Node, shape: Sequence[int], axes: Sequence[int], ratios: list[float]
) -> list[float]:
    """Of given sizes: one scale for all axes where their ratio is kept."""
    policy = node.attributes.get("keep_aspect_ratio_policy", "stretch")
    sizes = builder.known(node, 3) if policy != "stretch" else None
    if sizes is None:
        return ratios
    asked = [float(size) / shape[axis] for axis, size in zip(axes, sizes.reshape(-1), strict=True)]
    one = min(asked) if policy == "not_larger" else max(asked)
    return [one if axis in axes else ratio for axis, ratio in enumerate(ratios)]


def _coordinates(node: Node, size: int, wanted: int, scale: float) -> Array:
    """Where each output position lies in the input, in float32 as ONNX Runtime has it: where it
    falls between two elements, another rounding is another element."""
    at = np.arange(wanted, dtype=np.float32)
    step, half = np.float32(scale), np.float32(0.5)
    if node.op_type == "Upsample" or node.opset < 11:
        return at / step
    mode = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    if mode == "asymmetric":
        return at / step
    if mode == "align_corners":
        return at * np.float32(size - 1) / np.float32(max(wanted - 1, 1))
    if mode == "pytorch_half_pixel" and wanted == 1:
        return np.zeros(1, np.float32)
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return (at + half) / step - half
    if mode == "half_pixel_symmetric":
        adjustment = np.float32(wanted) / (step * np.float32(size))
        offset = np.float32(size) / np.float32(2) * (np.float32(1) - adjustment)
        return offset + (at + half) / step - half
    raise NotCovered(f"Resize with {mode}", where=node.name)


def _nearest(node: Node, size: int, wanted: int, scale: float) -> Array:
    at = _coordinates(node, size, wanted, scale)
    older = "ceil" if scale < 1 else "floor"
    default = older if node.opset < 11 else "round_prefer_floor"
    rounding = node.attributes.get("nearest_mode", default)
    return np.clip(_ROUNDINGS[rounding](at), 0, size - 1).astype(np.int64)


def _moved(
    builder: Builder,
    name: str,
    at: Sequence[Affine],
    tables: Mapping[int, Array],
    shape: Sequence[int],
) -> tuple[Affine, ...]:
    """Positions from tables: a formula where one fits (whole factors), else a constant tensor."""
    moved = list(at)
    for axis, table in tables.items():
        factor = len(table) // shape[axis]
        if factor and np.array_equal(table, np.arange(len(table)) // factor):
            moved[axis] = at[axis] // factor
            continue
        constant = builder.add_constant(name, table)
        moved[axis] = index.datum(Load(constant, (at[axis],)), shape[axis])
    return tuple(moved)


def _linear(
    builder: Builder,
    node: Node,
    source: str,
    target: str | None,
    axis: int,
    wanted: int,
    scale: float,
) -> str:
    """One axis at a time: a + (b - a) * weight."""
    shape = builder.shape(source)
    size = shape[axis]
    where = np.clip(_coordinates(node, size, wanted, scale), 0, size - 1)
    low = np.floor(where).astype(np.int64)
    high = np.minimum(low + 1, size - 1)
    names = [builder.add_constant(source, table) for table in (low, high)]
    weight = builder.add_constant(source, (where - low).astype(np.float32))

    def body(*at: Affine) -> Expr:
        first, second = (
            Load(source, (*at[:axis], index.datum(Load(n, (at[axis],)), size), *at[axis + 1 :]))
            for n in names
        )
        step = apply("mul", apply("sub", second, first), Load(weight, (at[axis],)))
        return apply("add", first, step)

    made = TensorType(builder.dtype(source), (*shape[:axis], wanted, *shape[axis + 1 :]))
    return builder.map(target or builder.fresh(source), body, made)


FAMILY: Mapping[str, Lower] = {"Resize": _resize, "Upsample": _resize}
