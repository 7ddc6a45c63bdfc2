"""Builds an ONNX graph whose weights are declared and absent.

A weight is a `TensorProto` with external location, offset and length, and no file: building a model
of any size takes as much memory as its list of operators.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET = 21
"""Of ONNX's own domain: bfloat16 everywhere, LayerNormalization, Gelu."""
IR_VERSION = 10
LOCATION = "weights.bin"
"""Where the weights would lie, beside the model."""
ALIGNMENT_BYTES = 4096
"""Offsets that can be mapped into memory, as exporters write them."""
DTYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}

Dim = int | str


class Builder:
    """One graph under construction; every method returns the name of the tensor it made."""

    def __init__(self, name: str, dtype: str = "float32") -> None:
        self.name = name
        self.dtype = DTYPES[dtype]
        self.parameters = 0
        """Elements of all weights so far."""
        self._element_bytes = 4 if dtype == "float32" else 2
        self._offset_bytes = 0
        self._scope: list[str] = []
        self._nodes: list[NodeProto] = []
        self._stored: dict[str, TensorProto] = {}
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        self._names: dict[str, int] = {}
        self._public: dict[str, str] = {}

    def enter(self, scope: str) -> None:
        """Prefixes the names that follow with `scope/`."""
        self._scope.append(scope)

    def leave(self) -> None:
        """Ends the innermost scope."""
        self._scope.pop()

    def _unique(self, name: str) -> str:
        path = "/".join((*self._scope, name))
        count = self._names.get(path, 0)
        self._names[path] = count + 1
        return f"{path}_{count}" if count else path

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """An operator with one output."""
        return self.nodes(op_type, 1, *inputs, **attributes)[0]

    def nodes(self, op_type: str, count: int, *inputs: str, **attributes: Any) -> tuple[str, ...]:
        """An operator with `count` outputs."""
        name = self._unique(op_type)
        made = (name,) if count == 1 else tuple(f"{name}:{index}" for index in range(count))
        self._nodes.append(helper.make_node(op_type, list(inputs), list(made), name, **attributes))
        return made

    def weight(self, name: str, *dims: int) -> str:
        """A trained weight: declared, absent."""
        size_bytes = math.prod(dims) * self._element_bytes
        tensor = TensorProto(name=self._unique(name), data_type=self.dtype, dims=dims)
        tensor.data_location = TensorProto.EXTERNAL
        entries = (("location", LOCATION), ("offset", self._offset_bytes), ("length", size_bytes))
        for key, value in entries:
            tensor.external_data.add(key=key, value=str(value))
        self._offset_bytes += -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        self._stored[tensor.name] = tensor
        self.parameters += math.prod(dims)
        return tensor.name

    def buffer(self, name: str, *dims: int) -> str:
        """A stored statistic that is no parameter: absent as well."""
        before = self.parameters
        made = self.weight(name, *dims)
        self.parameters = before
        return made

    def table(self, name: str, values: Sequence[int]) -> str:
        """A constant vector of int64 under a name of its own."""
        return self._constant(name, np.array(values, np.int64))

    def ints(self, *values: int) -> str:
        """A small constant vector of int64; one for all who ask for the same."""
        return self._constant(f"ints_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def whole(self, value: int) -> str:
        """A constant int64 scalar."""
        return self._constant(f"whole_{value}", np.array(value, np.int64))

    def scalar(self, value: float) -> str:
        """A constant of the model's element type."""
        name = f"scalar_{value}"
        if name not in self._stored:
            self._stored[name] = helper.make_tensor(name, self.dtype, [], [value])
        return name

    def _constant(self, name: str, values: np.ndarray[Any, Any]) -> str:
        if name not in self._stored:
            self._stored[name] = numpy_helper.from_array(values, name)
        return name

    def input(self, name: str, dims: Sequence[Dim], dtype: int | None = None) -> str:
        """An input of the model; strings are symbolic dimensions."""
        kind = self.dtype if dtype is None else dtype
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(dims)))
        return name

    def output(self, source: str, name: str, dims: Sequence[Dim], dtype: int | None = None) -> None:
        """Hands out `source` under `name`; once for each tensor."""
        self._public[source] = name
        kind = self.dtype if dtype is None else dtype
        self._outputs.append(helper.make_tensor_value_info(name, kind, list(dims)))

    def reshape(self, source: str, *dims: int) -> str:
        """`source` in another shape: 0 keeps a dimension, -1 takes what is left."""
        return self.node("Reshape", source, self.ints(*dims))

    def linear(self, source: str, n_in: int, n_out: int, name: str, *, bias: bool = True) -> str:
        """`source [..., n_in] @ W [n_in, n_out] (+ b)`."""
        made = self.node("MatMul", source, self.weight(f"{name}.weight", n_in, n_out))
        return self.node("Add", made, self.weight(f"{name}.bias", n_out)) if bias else made

    def layer_norm(self, source: str, width: int, name: str) -> str:
        """LayerNormalization over the last axis, with scale and shift."""
        scale, shift = self.weight(f"{name}.weight", width), self.weight(f"{name}.bias", width)
        return self.node("LayerNormalization", source, scale, shift, axis=-1, epsilon=1e-5)

    def rms_norm(self, source: str, width: int, name: str) -> str:
        """`x / sqrt(mean(x^2) + eps) * scale` over the last axis (Zhang and Sennrich 2019)."""
        square = self.node("Mul", source, source)
        mean = self.node("ReduceMean", square, self.ints(-1), keepdims=1)
        root = self.node("Sqrt", self.node("Add", mean, self.scalar(1e-6)))
        unit = self.node("Div", source, root)
        return self.node("Mul", unit, self.weight(f"{name}.weight", width))

    def heads(self, source: str, count: int, width: int, *, is_key: bool = False) -> str:
        """`[B, S, count * width] -> [B, count, S, width]`; keys as `[B, count, width, S]`."""
        split = self.reshape(source, 0, 0, count, width)
        return self.node("Transpose", split, perm=[0, 2, 3, 1] if is_key else [0, 2, 1, 3])

    def merge_heads(self, source: str, width: int) -> str:
        """`[B, heads, S, d] -> [B, S, width]`, width being heads * d."""
        return self.reshape(self.node("Transpose", source, perm=[0, 2, 1, 3]), 0, 0, width)

    def build(self) -> ModelProto:
        """The model."""
        for node in self._nodes:
            node.input[:] = [self._public.get(name, name) for name in node.input]
            node.output[:] = [self._public.get(name, name) for name in node.output]
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, list(self._stored.values())
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="infopt-zoo"
        )


def save(model: ModelProto, path: Path) -> None:
    """Writes the graph; its weights are in no file."""
    onnx.save_model(model, path)
