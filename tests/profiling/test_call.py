"""What a call costs is what it costs to hand answers out, not to make them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from planner.profiling import call as module
from planner.profiling.analyse import quiet_options
from planner.profiling.call import Call
from planner.profiling.kernel import Array
from planner.profiling.timing import interleave

_CALL_US, _COPY_US, _HAND_US = 4.0, 0.3, 0.5
_OPSETS = [helper.make_opsetid("", 19)]


class Machine:
    """A clock that runs on by what a model's nodes and outputs cost."""

    def __init__(self) -> None:
        self.now_us = 0.0

    def perf_counter_ns(self) -> float:
        return self.now_us * 1e3

    def engine(self, content: Any) -> Callable[[Mapping[str, Array]], None]:
        graph = onnx.load_from_string(content).graph
        us = _CALL_US + _COPY_US * len(graph.node) + _HAND_US * len(graph.output)

        def call(_: Mapping[str, Array]) -> None:
            self.now_us += us

        return call


@pytest.mark.parametrize("count", [1, 4, 12])
def test_copies_do_not_count(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    monkeypatch.setattr("planner.profiling.timing.time", machine)
    monkeypatch.setattr(module, "as_engine", machine.engine)
    outputs = {f"y{i}": np.ones((1, 8 * (i % 2 + 1)), np.float32) for i in range(count)}
    call = Call(lambda content: content, {"x": np.ones(3, np.float32)}, outputs, _OPSETS)
    interleave(call.samples, 5)
    assert call.latency().median == pytest.approx(_CALL_US + count * _HAND_US)


def test_any_type_and_rank_is_handed_out() -> None:
    outputs = {
        "number": np.float32(1),
        "words": np.array(["a", "b"], object),
        "flags": np.zeros((2, 3), bool),
        "again": np.zeros((2, 3), bool),
        "none": np.zeros((0, 4), np.int64),
        "half": np.zeros((1, 2, 3), np.float16),
        "brain": np.zeros((2, 3), ml_dtypes.bfloat16),
        "quarter": np.zeros((2, 3), ml_dtypes.float8_e4m3fn),
    }
    kept = {name: np.asarray(value) for name, value in outputs.items()}

    def load(content: bytes | str) -> ort.InferenceSession:
        options = quiet_options("disabled")
        options.use_per_session_threads = True
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    call = Call(load, {"x": np.ones(3, np.float32)}, kept, _OPSETS)
    interleave(call.samples, 20)
    assert call.latency().median > 0
