"""What `planner.runtime` adds to a raw ONNX Runtime session, in one process.

    python benchmarks/overhead.py [--json FILE] [--rounds 400]

Raw calls go to the very session inside the engine, because two sessions of one model differ by more
than the overhead (where their weights lie in memory). Engine and raw calls alternate within one
round and take turns at going first; the control is the raw call once more (A/A): its figure is the
noise. Target: at most 20 us, or at most 2 %.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from planner.runtime import ort
from planner.runtime.engine import Session, load
from planner.runtime.fingerprint import this_environment
from planner.runtime.integrity import file_entry, manifest_bytes
from planner.runtime.ort import make_session, tensor_specs
from planner.spec.manifest import Manifest, OrtSegment, Stage
from planner.spec.session import SessionSettings

SETTINGS = SessionSettings(intra_op_threads=1, spinning=False)
MAX_US, MAX_SHARE = 20.0, 0.02
Call = Callable[[], Any]


@dataclass(frozen=True)
class Result:
    """One model: medians in microseconds, and the engine's against the control's difference."""

    name: str
    segments: int
    raw_us: float
    engine_us: float
    overhead_us: float
    """Median of the paired differences engine - raw."""
    ratio: float
    control_us: float
    """The same between two raw calls."""
    rounds: int
    is_within_target: bool


def chain(width: int, depth: int, start: int, total: int) -> onnx.ModelProto:
    """`depth` layers relu(x · W) from tensor `t<start>` on; the last of all is called `y`."""
    rng = np.random.default_rng(start)
    names = [f"t{index}" for index in range(start, start + depth + 1)]
    names[-1] = "y" if start + depth == total else names[-1]
    nodes, weights = [], []
    for index, (source, target) in enumerate(pairwise(names)):
        scale = 1.4 / np.sqrt(width)
        weight = (scale * rng.standard_normal((width, width))).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"W{index}"))
        nodes.append(helper.make_node("MatMul", [source, f"W{index}"], [f"m{index}"]))
        nodes.append(helper.make_node("Relu", [f"m{index}"], [target]))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, ["rows", width])],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, ["rows", width])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_engine(folder: Path, models: Sequence[onnx.ModelProto]) -> None:
    """The least an engine needs: parts and a manifest."""
    folder.mkdir()
    segments = []
    for index, model in enumerate(models):
        path = folder / f"{index}.onnx"
        onnx.save(model, path)
        inputs, outputs = tensor_specs(make_session(path, SETTINGS))
        segments.append(
            OrtSegment(
                file=path.name,
                inputs=tuple(spec.name for spec in inputs),
                outputs=tuple(spec.name for spec in outputs),
                settings=SETTINGS,
            )
        )
    first, _ = tensor_specs(make_session(folder / "0.onnx", SETTINGS))
    _, last = tensor_specs(make_session(folder / segments[-1].file, SETTINGS))
    manifest = Manifest(
        name="overhead",
        plan_digest="",
        model_sha256="",
        environment=this_environment(),
        inputs=first,
        outputs=last,
        stages=(Stage(segments=tuple(segments)),),
        golden=(),
        predicted_latency_us={},
        files=tuple(file_entry(folder, path) for path in sorted(folder.iterdir())),
    )
    (folder / "manifest.json").write_bytes(manifest_bytes(manifest))


def compare(calls: Sequence[Call], rounds: int, repeats: int) -> np.ndarray[Any, Any]:
    """Microseconds a call, one row a round and one column a call; each round starts elsewhere."""
    times = np.empty((rounds, len(calls)))
    clock = time.perf_counter_ns
    gc.disable()
    for round_ in range(-rounds // 5, rounds):
        for offset in range(len(calls)):
            index = (round_ + offset) % len(calls)
            call = calls[index]
            start = clock()
            for _ in range(repeats):
                call()
            times[max(round_, 0), index] = (clock() - start) / 1e3 / repeats
    gc.enable()
    return times


def measure(name: str, width: int, depth: int, segments: int, rounds: int) -> Result:
    """Engine of `segments` parts against raw sessions of the same parts."""
    step = depth // segments
    models = [chain(width, step, start, depth) for start in range(0, depth, step)]
    feeds = {"t0": np.random.default_rng(0).standard_normal((1, width)).astype(np.float32)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "engine")
        write_engine(folder, models)
        sessions: list[Any] = []
        with mock.patch.object(ort, "make_session", _recording(sessions)):
            engine = load(folder)
        raw = _raw(engine, sessions, feeds)
        if not np.array_equal(raw(), engine.run(feeds)["y"]):
            raise SystemExit(f"{name}: the engine and the raw session disagree")
        estimate = min(_once_us(raw) for _ in range(20))
        repeats = max(1, int(200 / estimate))
        times = compare([raw, lambda: engine.run(feeds), raw], rounds, repeats)
    overhead = statistics.median(times[:, 1] - times[:, 0])
    raw_us, engine_us, _ = np.median(times, axis=0)
    is_within = overhead <= MAX_US or overhead <= MAX_SHARE * raw_us
    return Result(
        name=name,
        segments=segments,
        raw_us=round(float(raw_us), 2),
        engine_us=round(float(engine_us), 2),
        overhead_us=round(overhead, 2),
        ratio=round(1 + overhead / float(raw_us), 4),
        control_us=round(statistics.median(times[:, 2] - times[:, 0]), 2),
        rounds=rounds,
        is_within_target=bool(is_within),
    )


def _recording(sessions: list[Any]) -> Callable[..., Any]:
    """`make_session`, noting every session it makes."""

    def make(source: Path, settings: SessionSettings, **more: Any) -> Any:
        sessions.append(make_session(source, settings, **more))
        return sessions[-1]

    return make


def _raw(engine: Session, sessions: Sequence[Any], feeds: dict[str, Any]) -> Call:
    """The engine's own sessions, as a user of ONNX Runtime would call them."""
    parts = engine.manifest.ort_segments

    def call() -> Any:
        value = next(iter(feeds.values()))
        for part, session in zip(parts, sessions, strict=True):
            (value,) = session.run(list(part.outputs), {part.inputs[0]: value})
        return value

    return call


def _once_us(call: Call) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e6


def main() -> int:
    """Print a table; exit 1 if a single-segment engine misses the target."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=400)
    options = parser.parse_args()
    results = [
        measure("tiny", width=16, depth=2, segments=1, rounds=options.rounds),
        measure("medium", width=512, depth=8, segments=1, rounds=options.rounds),
        measure("medium, 4 segments", width=512, depth=8, segments=4, rounds=options.rounds),
    ]
    print(
        f"{'model':20} {'raw us':>9} {'engine us':>10} {'added us':>9} {'ratio':>7} {'A/A us':>7}"
    )
    for result in results:
        print(
            f"{result.name:20} {result.raw_us:9.2f} {result.engine_us:10.2f} "
            f"{result.overhead_us:9.2f} {result.ratio:7.4f} {result.control_us:7.2f}"
        )
    if options.json is not None:
        document = {
            "environment": this_environment().model_dump(),
            "results": [asdict(result) for result in results],
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0 if all(result.is_within_target for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
