"""The two probes: all threads share the one, one thread runs the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort

from planner.profiling.analyse import quiet_options
from planner.profiling.kernel import Array
from planner.profiling.reference import Reference
from planner.profiling.timing import (
    interleave,
    probe_feeds,
    probe_model,
    serial_probe_feeds,
    serial_probe_model,
)


def _regions(model: bytes, feeds: Mapping[str, Array], folder: Path) -> int:
    """Parallel regions of a run with two threads, as ONNX Runtime's own profile counts them."""
    options = quiet_options("disabled")
    options.use_per_session_threads, options.intra_op_num_threads = True, 2
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    session.run(None, dict(feeds))
    events = json.loads(Path(session.end_profiling()).read_text())
    kernels = [e["args"] for e in events if e["name"].endswith("kernel_time")]
    assert kernels
    told = [each["thread_scheduling_stats"] for each in kernels]
    stats = [json.loads(each) if isinstance(each, str) else each for each in told]
    return sum(len(each["main_thread"]["block_size"]) for each in stats)


def test_threads_share_the_one_and_not_the_other(tmp_path: Path) -> None:
    assert _regions(probe_model(), probe_feeds(), tmp_path) == 8
    assert _regions(serial_probe_model(), serial_probe_feeds(), tmp_path) == 0


def test_both_run_in_one_process() -> None:
    def load(model: bytes | str) -> ort.InferenceSession:
        options = quiet_options("disabled")
        options.use_per_session_threads = True
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    beside = Reference(load).beside(warm_up=1)
    interleave(beside.samples, 3)
    assert [len(sample.times_us) for sample in beside.samples] == [3, 3]
    assert beside.pool.name != beside.alone.name
