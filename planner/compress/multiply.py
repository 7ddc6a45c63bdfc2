"""Products of small matrices on one thread."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto, helper

from planner.compress.base import Array
from planner.runtime.ort import make_session
from planner.spec.session import SessionSettings

Multiplication = Callable[[Array, Array], Array]
_OPSET = 13


def multiplication() -> Multiplication:
    """Of two float32 matrices, by ONNX Runtime.

    Why not NumPy's: it wakes a pool of threads at each call, which took 40 ms where the product
    takes one (2 cores of a shared machine, 120 products of 32x384x128 to 32x1536x128).
    """
    names = ("a", "b", "c")
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, None]) for n in names]
    node = helper.make_node("MatMul", names[:2], names[2:], "product")
    graph = helper.make_graph([node], "product", values[:2], values[2:])
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    settings = SessionSettings(intra_op_threads=1, spinning=False)
    session = make_session(model.SerializeToString(), settings)
    return lambda a, b: np.asarray(session.run(None, {"a": a, "b": b})[0])
