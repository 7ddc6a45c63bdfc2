"""What a process takes before it has loaded anything of a model."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from planner.runtime.streaming.footprint import peak_size_bytes


def runtime_size_bytes(scratch: Path) -> int:
    """Of a process with a session of the smallest of models; 0 where this system does not tell."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "smallest", [value], [made])
    opsets = [helper.make_opsetid("", 17)]
    path = scratch / "smallest.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return peak_size_bytes(path) or 0
