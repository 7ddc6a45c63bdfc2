# mypy: ignore-errors
"""A torch module that computes what an ONNX model computes: the twin that torch peers run.

Weights are buffers; integer constants become Python numbers, so that shapes stay static.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from onnx import numpy_helper


@dataclass(frozen=True)
class Step:
    """One operator, free of protobuf: torch.compile traces plain Python only."""

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


def _step(node: onnx.NodeProto) -> Step:
    found = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    plain = {key: v.decode() if isinstance(v, bytes) else v for key, v in found.items()}
    return Step(node.op_type, tuple(n for n in node.input if n), tuple(node.output), plain)


def _slice(x: Any, starts: list[int], ends: list[int], axes: list[int], steps: list[int]) -> Any:
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index = [slice(None)] * x.dim()
        index[axis] = slice(start, min(end, 2**31 - 1), step)
        x = x[tuple(index)]
    return x


def _conv(node: Step, x: Any, weight: Any, bias: Any = None) -> Any:
    given = node.attributes
    rank = weight.dim() - 2
    pads = given.get("pads", [0] * (2 * rank))
    if pads[:rank] != pads[rank:]:
        listed = [p for axis in reversed(range(rank)) for p in (pads[axis], pads[axis + rank])]
        x, pads = F.pad(x, listed), [0] * rank
    run = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    return run(
        x,
        weight,
        bias,
        given.get("strides", [1] * rank),
        pads[:rank],
        given.get("dilations", [1] * rank),
        given.get("group", 1),
    )


def _pool(node: Step, x: Any) -> Any:
    given = node.attributes
    rank = x.dim() - 2
    pads = given.get("pads", [0] * (2 * rank))
    steps = given.get("strides", [1] * rank)
    if node.op_type == "MaxPool":
        listed = [p for axis in reversed(range(rank)) for p in (pads[axis], pads[axis + rank])]
        x = F.pad(x, listed, value=float("-inf")) if any(pads) else x
        return (F.max_pool1d, F.max_pool2d)[rank - 1](x, given["kernel_shape"], steps)
    return (F.avg_pool1d, F.avg_pool2d)[rank - 1](x, given["kernel_shape"], steps, pads[:rank])


def _gemm(node: Step, a: Any, b: Any, c: Any = None) -> Any:
    given = node.attributes
    a = a.t() if given.get("transA") else a
    b = b.t() if given.get("transB") else b
    return torch.addmm(c, a, b) if c is not None else a @ b


def _norm(node: Step, x: Any, scale: Any, shift: Any = None) -> Any:
    return F.layer_norm(x, scale.shape, scale, shift, node.attributes.get("epsilon", 1e-5))


def _batch_norm(node: Step, x: Any, *rest: Any) -> Any:
    scale, shift, mean, variance = rest
    epsilon = node.attributes.get("epsilon", 1e-5)
    return F.batch_norm(x, mean, variance, scale, shift, eps=epsilon)


def _split(node: Step, x: Any, sizes: list[int] | None = None) -> Any:
    axis = node.attributes.get("axis", 0)
    return torch.split(x, sizes or x.shape[axis] // len(node.outputs), axis)


def _reduce(run: Callable[..., Any]) -> Callable[..., Any]:
    def body(node: Step, x: Any, axes: list[int] | None = None) -> Any:
        given = node.attributes
        return run(x, axes or given.get("axes"), keepdim=bool(given.get("keepdims", 1)))

    return body


def _gelu(node: Step, x: Any) -> Any:
    return F.gelu(x, approximate=node.attributes.get("approximate", "none"))


def _gather(node: Step, x: Any, where: Any) -> Any:
    axis = node.attributes.get("axis", 0)
    if isinstance(where, int):
        return torch.select(x, axis, where)
    return F.embedding(where, x) if axis == 0 and x.dim() == 2 else x.index_select(axis, where)


def _conv_transpose(node: Step, x: Any, weight: Any, bias: Any = None) -> Any:
    given = node.attributes
    rank = weight.dim() - 2
    pads = given.get("pads", [0] * (2 * rank))
    run = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    return run(
        x,
        weight,
        bias,
        given.get("strides", [1] * rank),
        pads[:rank],
        given.get("output_padding", [0] * rank),
        given.get("group", 1),
        given.get("dilations", [1] * rank),
    )


class Recurrent(torch.nn.Module):
    """An ONNX LSTM as torch's own (cuDNN on a GPU), weights flattened as cuDNN wants them."""

    def __init__(self, node: Step, weights: list[torch.Tensor]) -> None:
        super().__init__()
        inner, outer, bias = weights
        hidden = int(node.attributes["hidden_size"])
        ways = inner.shape[0]
        self.run = torch.nn.LSTM(inner.shape[2], hidden, bidirectional=ways == 2)
        self.run = self.run.to(inner.dtype).requires_grad_(requires_grad=False)
        order = torch.cat([torch.arange(hidden) + gate * hidden for gate in (0, 2, 3, 1)])
        for way in range(ways):
            end = "_l0" + ("_reverse" if way else "")
            halves = bias[way].chunk(2)
            self.run.get_parameter("weight_ih" + end).copy_(inner[way][order])
            self.run.get_parameter("weight_hh" + end).copy_(outer[way][order])
            self.run.get_parameter("bias_ih" + end).copy_(halves[0][order])
            self.run.get_parameter("bias_hh" + end).copy_(halves[1][order])

    @torch.compiler.disable
    def forward(self, x: Any, *state: Any) -> tuple[Any, Any, Any]:
        """Y (steps, ways, batch, hidden), Y_h, Y_c."""
        made, (last, cell) = self.run(x, tuple(state) if state else None)
        steps, batch, _ = made.shape
        turned = made.reshape(steps, batch, last.shape[0], -1).transpose(1, 2)
        return turned, last, cell


OPS: dict[str, Callable[..., Any]] = {
    "Add": lambda n, a, b: a + b,
    "Sub": lambda n, a, b: a - b,
    "Mul": lambda n, a, b: a * b,
    "Div": lambda n, a, b: a / b,
    "MatMul": lambda n, a, b: a @ b,
    "Gemm": _gemm,
    "Conv": _conv,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": lambda n, x: x.mean(tuple(range(2, x.dim())), keepdim=True),
    "LayerNormalization": _norm,
    "BatchNormalization": _batch_norm,
    "Sigmoid": lambda n, x: torch.sigmoid(x),
    "Tanh": lambda n, x: torch.tanh(x),
    "Relu": lambda n, x: torch.relu(x),
    "Sqrt": lambda n, x: torch.sqrt(x),
    "ConvTranspose": _conv_transpose,
    "Gelu": _gelu,
    "HardSigmoid": lambda n, x: F.hardsigmoid(x),
    "Clip": lambda n, x, low, high: torch.clamp(x, low, high),
    "Softmax": lambda n, x: torch.softmax(x, n.attributes.get("axis", -1)),
    "Reshape": lambda n, x, shape: x.reshape(shape),
    "Flatten": lambda n, x: x.flatten(n.attributes.get("axis", 1)),
    "Transpose": lambda n, x: x.permute(n.attributes["perm"]),
    "Concat": lambda n, *xs: torch.cat(xs, n.attributes["axis"]),
    "Split": _split,
    "Slice": lambda n, x, s, e, a, t=None: _slice(x, s, e, a, t or [1] * len(s)),
    "Squeeze": lambda n, x, axes: x.squeeze(tuple(axes)),
    "Unsqueeze": lambda n, x, axes: x.unsqueeze(axes[0]),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Gather": _gather,
    "Identity": lambda n, x: x,
    "Expand": lambda n, x, shape: x.expand(shape),
}


class Twin(torch.nn.Module):
    """Runs the nodes of a model one after the other; inputs and outputs in the model's order."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        graph = model.graph
        self._nodes = [_step(node) for node in graph.node]
        self._inputs = [value.name for value in graph.input]
        self._outputs = [value.name for value in graph.output]
        self._numbers: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        for item in graph.initializer:
            value = numpy_helper.to_array(item)
            if value.dtype.kind == "i" or value.ndim == 0:
                self._numbers[item.name] = value.tolist()
                continue
            self._names[item.name] = f"weight_{len(self._names)}"
            self.register_buffer(self._names[item.name], torch.from_numpy(value.copy()))
        self._recurrent: dict[str, Recurrent] = {}
        for node in self._nodes:
            if node.op_type == "LSTM":
                weights = [getattr(self, self._names[name]) for name in node.inputs[1:4]]
                with torch.no_grad():
                    held = Recurrent(node, weights)
                self.add_module(f"lstm_{len(self._recurrent)}", held)
                self._recurrent[node.outputs[0]] = held

    @property
    def is_recurrent(self) -> bool:
        """Whether part of it stays outside what torch.compile traces (cuDNN's LSTM)."""
        return bool(self._recurrent)

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        """The model's outputs."""
        values: dict[str, Any] = dict(zip(self._inputs, inputs, strict=True))
        values.update(self._numbers)
        values.update({name: getattr(self, held) for name, held in self._names.items()})
        for node in self._nodes:
            given = [values[name] for name in node.inputs]
            if node.op_type == "LSTM":
                made = self._recurrent[node.outputs[0]](given[0], *given[4:])
            else:
                made = OPS[node.op_type](node, *given)
            if len(node.outputs) == 1:
                values[node.outputs[0]] = made
            else:
                values.update(zip(node.outputs, made, strict=True))
        return tuple(values[name] for name in self._outputs)
