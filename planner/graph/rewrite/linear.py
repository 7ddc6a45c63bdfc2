"""Convolutions and products with constant weights, as something whose channels can be scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from planner.graph.rewrite.net import Net, Node
from planner.graph.rewrite.values import LARGEST, floats, store

Channels = npt.NDArray[Any]
"""One number per channel."""


@dataclass(frozen=True, slots=True)
class Linear:
    """y = W x + b, with W and b in the file."""

    net: Net
    node: Node
    weight: Channels
    """[groups, outputs of a group, inputs of a group, taps]: a view of the stored weights."""
    rank: int
    """Of what it reads and makes."""
    out_axis: int
    in_axis: int | None
    """None where factors of its input stay: they belong to patterns that ONNX Runtime fuses."""
    is_padded: bool

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return int(self.weight.shape[0] * self.weight.shape[1])

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return int(self.weight.shape[0] * self.weight.shape[2])

    def scale_out(self, factor: Channels | None, offset: Channels | None) -> bool:
        """Lets it make factor · y + offset; False (and nothing changed) where it cannot."""
        weight, bias = self.weight.astype(np.float64), self._bias()
        if bias is None:
            return False
        if factor is not None:
            weight = weight * factor.reshape(self.weight.shape[:2])[:, :, None, None]
            bias = bias * factor
        if offset is not None:
            bias = bias + offset
        return self._take(weight if factor is not None else None, bias)

    def scale_in(self, factor: Channels | None, offset: Channels | None) -> bool:
        """Lets it read x where it read factor · x + offset."""
        bias = self._bias()
        if bias is None or (offset is not None and self.is_padded):
            return False
        weight = self.weight.astype(np.float64)
        by_group = (self.weight.shape[0], 1, self.weight.shape[2], 1)
        if offset is not None:
            bias = bias + (weight * offset.reshape(by_group)).sum(axis=(2, 3)).reshape(-1)
        if factor is not None:
            weight = weight * factor.reshape(by_group)
        is_biased = len(self.node.inputs) > 2 or offset is not None
        return self._take(weight if factor is not None else None, bias if is_biased else None)

    def _bias(self) -> Channels | None:
        """float64; zeros where there is none; None where it cannot be changed."""
        inputs = self.node.inputs
        if len(inputs) < 3 or not inputs[2]:
            return np.zeros(self.out_channels)
        value = floats(self.net, inputs[2])
        if value is None or value.size not in (1, self.out_channels):
            return None
        if value.ndim > 1 and value.shape[-1] != value.size:
            return None
        flat = value.reshape(-1).astype(np.float64)
        return np.broadcast_to(flat, (self.out_channels,))

    def _take(self, weight: Channels | None, bias: Channels | None) -> bool:
        for value in (weight, bias):
            if value is not None and not (np.abs(value) < LARGEST).all():
                return False
        if weight is not None:
            self._put(1, self._laid_out(weight))
        if bias is not None:
            self._put(2, bias)
        return True

    def _laid_out(self, weight: Channels) -> Channels:
        """The weights as the operator stores them."""
        stored = self.net.shapes[self.node.inputs[1]]
        if self.node.kind == "Gemm":
            plain = weight[0, :, :, 0]
            return plain if self.node.attribute("transB", 0) else plain.T
        if self.node.kind == "ConvTranspose":
            weight = weight.transpose(0, 2, 1, 3)
        return weight.reshape(stored)

    def _put(self, position: int, value: Channels) -> None:
        node = self.node
        while len(node.inputs) <= position:
            node.inputs.append("")
        base = node.inputs[position] or f"{node.outputs[0]}__bias"
        self.net.read(node, position, store(self.net, value, base))


def linear(net: Net, node: Node | None) -> Linear | None:
    """A convolution or product, where its weights are float32 constants in the file."""
    if node is None or node.kind not in ("Conv", "ConvTranspose", "Gemm"):
        return None
    value, made = floats(net, node.inputs[1]), net.shape(node.outputs[0])
    if value is None or made is None or net.shape(node.inputs[0]) is None:
        return None
    if node.kind == "Gemm":
        return _gemm(net, node, value)
    groups = int(node.attribute("group", 1))
    taps = int(np.prod(value.shape[2:]))
    is_conv = node.kind == "Conv"
    shape = (groups, value.shape[0] // groups, value.shape[1], taps)
    weight = value.reshape(shape) if is_conv else value.reshape(shape).transpose(0, 2, 1, 3)
    padded = bool(any(node.attribute("pads") or ())) or node.attribute("auto_pad", b"NOTSET") in (
        b"SAME_UPPER",
        b"SAME_LOWER",
    )
    return Linear(net, node, weight, len(made), 1, 1 if is_conv else None, padded)


def _gemm(net: Net, node: Node, value: Channels) -> Linear | None:
    """A product whose bias comes as it is."""
    if float(node.attribute("alpha", 1.0)) != 1.0 or float(node.attribute("beta", 1.0)) != 1.0:
        return None
    plain = value if node.attribute("transB", 0) else value.T
    return Linear(net, node, plain[None, :, :, None], 2, 1, None, False)
