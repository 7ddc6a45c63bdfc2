"""Convolutions of few output channels compute several positions side by side, as more channels.

    y[m, a·i + p, b·j + q]  =  conv(x; V)[(m, p, q), i, j]        p < a, q < b, strides a and b
    V[(m, p, q), c, p + u, q + v]  =  W[m, c, u, v]                0 elsewhere

ONNX Runtime computes the channels of a convolution in blocks of 16 (8 without AVX-512): one of 3
channels costs as much as one of 16. With a · b · m <= 16 the block is full. A tap is read for all
positions of the tile, so that of kh·kw·a·b products of a full block (kh + a - 1)·(kw + b - 1) are
left; the image is put together by a transposition, which reads what few channels there are.
Measured together with their neighbours (one thread, AVX-512): 8 channels of 3 x 39 taps took 0.6
of the time, 3 of 9 x 9 0.4, 3 of 3 x 3 0.8, 1 of 5 x 5 0.7.

What is infinite or no number reaches the whole tile instead of the positions that read it: it is
multiplied by the zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil

import numpy as np

from planner.graph.rewrite.net import Net, Node, Shape
from planner.graph.rewrite.values import Floats, floats, is_floats, store

_MACS_A_NS = 25.0
"""Multiplications with addition of one thread (AVX-512 at 2.5 GHz, measured on such layers); of
several threads or a faster processor more, so that less time is saved."""
_ELEMENT_NS = 2.0
"""To put an element of the image in its place (0.6 to 1.0 measured, in cache)."""
_OPERATORS_NS = 10_000.0
"""Of the operators that put the image together."""
_MARGIN = 2.0
"""How many times what it costs must be saved."""
_SLICE_BY_INPUTS = 10
"""Opset since which a Slice has its ends as inputs."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Positions that are computed together."""

    rows: int
    columns: int

    @property
    def size(self) -> int:
        """Positions in it."""
        return self.rows * self.columns


@dataclass(frozen=True, slots=True)
class _Narrow:
    """A convolution whose block of channels is not full."""

    weight: Shape
    pads: tuple[int, int, int, int]
    """Top, left, bottom, right."""
    shape: Shape
    """Of what it makes."""

    def macs(self, tile: Tile, block: int) -> int:
        """Multiplications with a tile, of whole blocks of channels."""
        channels, inputs, height, width = self.weight
        batch, _, rows, columns = self.shape
        places = batch * ceil(rows / tile.rows) * ceil(columns / tile.columns)
        taps = (height + tile.rows - 1) * (width + tile.columns - 1)
        return int(places * taps * inputs * block * ceil(channels * tile.size / block))


def tile_of(net: Net, node: Node) -> Tile | None:
    """The tile that pays most; None where none pays."""
    found = _narrow(net, node)
    return None if found is None else _best(net, found)


def fill(net: Net, node: Node) -> bool:
    """Lets a convolution of few channels compute a tile of positions at once."""
    found = _narrow(net, node)
    tile = None if found is None else _best(net, found)
    weight = floats(net, node.inputs[1]) if tile is not None else None
    if found is None or tile is None or weight is None:
        return False
    batch, channels, rows, columns = found.shape
    high, wide = ceil(rows / tile.rows), ceil(columns / tile.columns)
    target = node.outputs[0]
    inputs = [node.inputs[0], store(net, _tiled(weight, tile), f"{target}__tiles")]
    bias = floats(net, _bias(node)) if _bias(node) else None
    if bias is not None:
        inputs.append(store(net, np.repeat(bias, tile.size), f"{target}__bias"))
    net.remove(node)
    top, left, bottom, right = found.pads
    below, beside = high * tile.rows - rows, wide * tile.columns - columns
    made = net.fresh(f"{target}__blocks", (batch, channels * tile.size, high, wide))
    net.add(
        "Conv",
        inputs,
        [made],
        strides=[tile.rows, tile.columns],
        pads=[top, left, bottom + below, right + beside],
        kernel_shape=list(net.shapes[inputs[1]][2:]),
    )
    whole = _assembled(net, made, tile, target, is_cut=below + beside > 0)
    if below + beside > 0:
        ends = net.constant([rows, columns], "ends")
        starts, axes = net.constant([0, 0], "starts"), net.constant([2, 3], "axes")
        net.add("Slice", [whole, starts, ends, axes], [target])
    return True


def _assembled(net: Net, made: str, tile: Tile, target: str, *, is_cut: bool) -> str:
    """The image out of the tiles, which lie one channel after another."""
    batch, channels, high, wide = net.shapes[made]
    split = (batch, channels // tile.size, tile.rows, tile.columns, high, wide)
    order = [0, 1, 4, 2, 5, 3]
    full = (batch, split[1], high * tile.rows, wide * tile.columns)
    apart = net.fresh(f"{target}__tiled", split)
    turned = net.fresh(f"{target}__turned", tuple(split[axis] for axis in order))
    whole = net.fresh(f"{target}__whole", full) if is_cut else target
    net.add("Reshape", [made, net.constant(split, "shape")], [apart])
    net.add("Transpose", [apart], [turned], perm=order)
    net.add("Reshape", [turned, net.constant(full, "shape")], [whole])
    return whole


def _tiled(weight: Floats, tile: Tile) -> Floats:
    """V of the module's docstring."""
    channels, inputs, height, width = weight.shape
    taps = (height + tile.rows - 1, width + tile.columns - 1)
    found = np.zeros((channels, tile.rows, tile.columns, inputs, *taps), np.float32)
    for row, column in product(range(tile.rows), range(tile.columns)):
        found[:, row, column, :, row : row + height, column : column + width] = weight
    return found.reshape(channels * tile.size, inputs, *taps)


def _best(net: Net, found: _Narrow) -> Tile | None:
    block, has_slices = net.block, net.opset >= _SLICE_BY_INPUTS
    rows, columns = found.shape[2:]
    most = block // found.weight[0]
    tiles = [
        Tile(high, wide)
        for high, wide in product(range(1, most + 1), repeat=2)
        if 1 < high * wide <= most and (has_slices or rows % high + columns % wide == 0)
    ]
    best = min(tiles, key=lambda tile: found.macs(tile, block), default=None)
    if best is None:
        return None
    saved_ns = (found.macs(Tile(1, 1), block) - found.macs(best, block)) / _MACS_A_NS
    cost_ns = _OPERATORS_NS + _ELEMENT_NS * float(np.prod(found.shape))
    return best if saved_ns > _MARGIN * cost_ns else None


def _narrow(net: Net, node: Node) -> _Narrow | None:
    """A convolution of images in float32, of one group and without strides."""
    if node.kind != "Conv" or node.attribute("group", 1) != 1:
        return None
    weight, shape = net.shape(node.inputs[1]), net.shape(node.outputs[0])
    if weight is None or shape is None or len(weight) != 4 or len(shape) != 4:
        return None
    if not all(is_floats(net, name) for name in (node.inputs[1], _bias(node)) if name):
        return None
    steps = (*node.attribute("strides", ()), *node.attribute("dilations", ()))
    pads = _pads(node, weight)
    if any(step != 1 for step in steps) or pads is None:
        return None
    return _Narrow(weight, pads, shape)


def _bias(node: Node) -> str:
    """Empty where there is none."""
    return (*node.inputs, "")[2]


def _pads(node: Node, weight: Shape) -> tuple[int, int, int, int] | None:
    """Spelt out: where nothing is strided, `SAME` pads by the taps less one."""
    kind = node.attribute("auto_pad", b"NOTSET")
    if kind == b"VALID":
        return (0, 0, 0, 0)
    if kind == b"NOTSET":
        top, left, bottom, right = node.attribute("pads", (0, 0, 0, 0))
        return (top, left, bottom, right)
    height, width = (size - 1 for size in weight[2:])
    if kind == b"SAME_UPPER":
        return (height // 2, width // 2, height - height // 2, width - width // 2)
    if kind == b"SAME_LOWER":
        return (height - height // 2, width - width // 2, height // 2, width // 2)
    return None


__all__ = ["Tile", "fill", "tile_of"]
