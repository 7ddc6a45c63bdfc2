"""Sessions that are probed take whatever NumPy made of their own values."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from planner.compress.probe import run_session, session_of
from planner.spec.session import SessionSettings


def test_numbers_without_axes_are_arrays_too() -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    feeds = {"x": np.ones((), np.float32) + np.ones((), np.float32)}
    with session_of(made, SessionSettings()) as probe:
        assert run_session(probe, ["y"], feeds)["y"] == -2
