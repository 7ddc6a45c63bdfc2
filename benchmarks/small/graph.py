"""A short way to write ONNX models by hand: nodes with names, seeded weights, one dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
OPSET = 20
_KINDS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int64": TensorProto.INT64}


class GraphWriter:
    """Collects nodes and weights of one model."""

    def __init__(self, name: str, dtype: str = "float32", seed: int = 0) -> None:
        self.name, self.dtype = name, dtype
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def input(self, name: str, *shape: int, dtype: str | None = None) -> str:
        """An input of the model."""
        kind = _KINDS[dtype or self.dtype]
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, *shape: int, dtype: str | None = None) -> None:
        """An output of the model."""
        kind = _KINDS[dtype or self.dtype]
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def op(self, kind: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """One operator with one output; its name."""
        return self.ops(kind, *inputs, outputs=[to] if to else None, **attributes)[0]

    def ops(
        self,
        kind: str,
        *inputs: str,
        count: int = 1,
        outputs: list[str] | None = None,
        **attributes: Any,
    ) -> list[str]:
        """One operator with several outputs."""
        self._count += 1
        made = outputs or [f"{kind.lower()}_{self._count}_{i}" for i in range(count)]
        label = f"{kind}_{self._count}"
        self._nodes.append(helper.make_node(kind, list(inputs), made, label, **attributes))
        return made

    def weight(self, *shape: int, scale: float | None = None, shift: float = 0.0) -> str:
        """Random numbers; scaled by 1 / sqrt(inputs of a product) unless told."""
        fan = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        spread = scale if scale is not None else 1 / np.sqrt(max(fan, 1))
        values = self._random.standard_normal(shape) * spread + shift
        return self.constant(values.astype(np.float32).astype(self.dtype))

    def constant(self, value: Array) -> str:
        """A given constant."""
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def whole(self, *values: int) -> str:
        """A constant vector of integers: shapes, axes, bounds."""
        return self.constant(np.asarray(values, np.int64))

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        """x W + b over the last dimension."""
        product = self.op("MatMul", x, self.weight(inputs, outputs))
        return self.op("Add", product, self.weight(outputs, scale=0.1))

    def gemm(self, x: str, inputs: int, outputs: int) -> str:
        """The same as one operator, for matrices."""
        return self.op("Gemm", x, self.weight(inputs, outputs), self.weight(outputs, scale=0.1))

    def norm(self, x: str, size: int, axis: int = -1) -> str:
        """Layer normalisation."""
        scale, shift = self.weight(size, scale=0.1, shift=1.0), self.weight(size, scale=0.1)
        return self.op("LayerNormalization", x, scale, shift, axis=axis)

    def swish(self, x: str) -> str:
        """x sigmoid(x), as two operators."""
        return self.op("Mul", x, self.op("Sigmoid", x))

    def model(self) -> onnx.ModelProto:
        """The checked model with inferred shapes."""
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, self._weights
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        made.ir_version = 10
        onnx.checker.check_model(made)
        return made
