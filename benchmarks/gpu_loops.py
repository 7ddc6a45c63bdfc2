"""Recurrences of an engine as loops and as the launches they stand for, on a GPU.

    infopt plan model.onnx --target h200-sxm-141gb            # anywhere
    infopt deploy --to directory --no-serve
    python benchmarks/gpu_loops.py engine/ --json FILE        # on the GPU

Answers of both against ONNX Runtime on the CPU, bit for bit against each other and over runs whose
arena holds no number; a device that holds too few blocks (a driver that says so); times in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import onnxruntime as ort

from benchmarks.gpu_engine import random_like
from benchmarks.small.exclusive import exclusive
from benchmarks.small.timing import Timer, call_us
from planner.runtime.fused.driver import Driver
from planner.runtime.fused.manifest import read
from planner.runtime.fused.session import FusedSession, open_checked
from planner.runtime.integrity import read_manifest
from planner.runtime.tensors import read_tensors

Record = dict[str, Any]
Feeds = Mapping[str, Any]
_TURNS, _QUESTIONS = 6, 3


class Small(Driver):
    """A device that holds one block at once."""

    def blocks_at_once(self, function: Any, threads: int, shared_size_bytes: int) -> int | None:
        """As on a GPU of one multiprocessor."""
        return 1


def main() -> None:
    """A record an engine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engines", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, help="write records here")
    parser.add_argument("--runs", type=int, default=300, help="over a poisoned arena, each way")
    arguments = parser.parse_args()
    driver = Driver()
    where = {"gpu": driver.name, "driver": driver.version}
    records: list[Record] = []
    for engine in arguments.engines:
        with exclusive():
            records.append({"engine": engine.name, **where, **compared(engine, arguments.runs)})
        print(json.dumps(records[-1]), flush=True)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(records, indent=1))


def compared(engine: Path, runs: int) -> Record:
    """The first generated part, each way."""
    manifest = read_manifest(engine)
    folder = engine / manifest.fused_segments[0].folder
    golden = dict(read_tensors(engine / manifest.golden[0].inputs))
    questions = [golden, *(random_like(golden, seed) for seed in range(1, _QUESTIONS))]
    with ExitStack() as stack:
        loop = stack.enter_context(open_checked(folder))
        apart = {way.kernel: "asked for" for way in loop.loops}
        small = FusedSession(folder, read(folder), Small())
        ways = {
            "loop": loop,
            "launches": stack.enter_context(open_checked(folder, apart=apart)),
            "small device": stack.enter_context(small),
        }
        library = ort.InferenceSession(
            str(engine / manifest.ort_segments[0].file), providers=["CPUExecutionProvider"]
        )
        found: dict[str, Record] = {}
        answers = {label: [way.run(q) for q in questions] for label, way in ways.items()}
        for label, way in ways.items():
            found[label] = {
                "loops": list(way.loops_text),
                "launches": len(way.first.bucket.launches),
                "nmse": [
                    _nmse(answer, dict(zip(answer, library.run(list(answer), q), strict=True)))
                    for answer, q in zip(answers[label], questions, strict=True)
                ],
                "differs_from_launches": [
                    _differing(a, b)
                    for a, b in zip(answers[label], answers["launches"], strict=True)
                ],
                "runs_that_differ": _moving(way, golden, runs),
            }
        for label, us in _times(ways, golden).items():
            found[label] |= us
    return {"ways": found}


def _times(ways: Mapping[str, FusedSession], feeds: Feeds) -> dict[str, dict[str, float]]:
    """Replays and calls in turn."""
    rows: dict[str, list[float]] = {label: [] for label in ways}
    calls: dict[str, list[float]] = {label: [] for label in ways}
    for turn in range(_TURNS):
        for label in list(ways)[:: 1 if turn % 2 else -1]:
            way = ways[label]
            timer = Timer(way.driver, way.driver.stream)
            rows[label].append(timer.device_us(way.first.replay, cold=False, repeats=60))
            calls[label].append(call_us(lambda way=way: way.run(feeds), 100))  # type: ignore[misc]
    return {
        label: {
            "gpu_us": round(statistics.median(rows[label]), 2),
            "call_us": round(statistics.median(calls[label]), 1),
        }
        for label in ways
    }


def _moving(way: FusedSession, feeds: Feeds, runs: int) -> int:
    """Runs over a poisoned arena whose answer is not that of the first."""
    first = way.run(feeds)
    count = 0
    for _ in range(runs):
        way.poison()
        count += bool(_differing(way.run(feeds), first))
    return count


def _differing(one: Feeds, other: Feeds) -> int:
    """Elements that differ by a bit."""
    return sum(int((_bits(one[name]) != _bits(other[name])).sum()) for name in one)


def _bits(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(value).view(f"u{value.dtype.itemsize}")


def _nmse(found: Feeds, wanted: Feeds) -> float:
    """The worst of the outputs."""
    worst = 0.0
    for name, value in wanted.items():
        want, got = value.astype(np.float64), found[name].astype(np.float64)
        worst = max(worst, float(((got - want) ** 2).sum() / max((want**2).sum(), 1e-30)))
    return worst


if __name__ == "__main__":
    main()
