"""What a kernel costs behind another kind of kernel, on machines where that is known."""

from __future__ import annotations

from itertools import pairwise

import onnx
import pytest

from planner.profiling import change as module
from planner.profiling.blank import Blank
from planner.profiling.change import Change
from planner.profiling.client import MeasuringProcess
from planner.profiling.timing import Run, interleave

_CALL_US, _READER_US = 2.0, 0.4
_KERNEL_US = {"MatMul": 0.9, "LayerNormalization": 0.7, "Slice": 0.5}


class Machine:
    """A clock that runs advance: a kernel behind one of another kind takes longer."""

    def __init__(self, change_us: float) -> None:
        self.change_us = change_us
        self.now_us = 0.0

    def perf_counter_ns(self) -> float:
        return self.now_us * 1e3

    def runner(self, content: bytes, _: object) -> Run:
        us = self._run_us([node.op_type for node in onnx.load_from_string(content).graph.node])

        def run() -> None:
            self.now_us += us

        return run

    def _run_us(self, op_types: list[str]) -> float:
        kernels = [op_type for op_type in op_types if op_type != "Shape"]
        readers = len(op_types) - len(kernels)
        changes = sum(a != b for a, b in pairwise(kernels))
        alone = sum(_KERNEL_US.get(op_type, 0.3) for op_type in kernels)
        return _CALL_US + readers * _READER_US + alone + changes * self.change_us


@pytest.mark.parametrize("change_us", [0.0, 0.1, 0.6])
def test_it_is_what_a_chain_takes_longer_than_its_kernels_among_copies(
    change_us: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(change_us)
    monkeypatch.setattr("planner.profiling.timing.time", machine)
    for each in ("planner.profiling.blank", module.__name__):
        monkeypatch.setattr(f"{each}.runner", machine.runner)
    blank, change = Blank(lambda content: content), Change(lambda content: content)
    interleave([*blank.samples, *change.samples], 5)
    found = change.latency(*blank.overheads_us(lambda sample: sample.times_us[0]))
    kernels = len(module._KINDS) * module._CYCLES
    assert found.median == pytest.approx(change_us * (kernels - 1) / kernels, abs=1e-6)
    assert found.low <= found.median <= found.high


def test_a_real_one_is_a_small_part_of_the_probe() -> None:
    with MeasuringProcess(1) as process:
        found = process.change()
    assert 0.0 <= found.low_us <= found.latency_us <= found.high_us
    assert found.latency_us < 0.2 * found.reference_us
