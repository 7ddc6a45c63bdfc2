"""What rewrites are worth: a simplified model with and without them, through ONNX Runtime.

    python benchmarks/rewrites.py MODEL [MODEL ...] [--shapes NAME:DIMS ...] [--json FILE]

Both run in this process with one thread, in turns that alternate; so does the simplified one once
more (A/A): that is the noise. Times are 20 % quantiles; ratios within rounds have their quartiles.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from planner.compress.synthetic import synthetic_samples
from planner.graph.bind import bind
from planner.graph.build import build_graph
from planner.graph.load import load
from planner.graph.rewrite import rewrite
from planner.graph.slim import EFFORTS, slim
from planner.runtime.compare import nmse
from planner.runtime.ort import make_session
from planner.spec.session import SessionSettings
from planner.spec.shape_words import parse_shape
from planner.steps.files import input_specs

ROUNDS = 200
_TURN_S = 0.004
"""Short: neighbours slow the machine down for spells of 0.2 to 400 ms."""
_FAST = 0.2
"""Quantile of a model's times that shows the machine undisturbed."""
_MOST_NMSE = 1e-9


def measured(model: Path, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> dict[str, Any]:
    """One model's record: times in microseconds where nothing disturbs, and ratios."""
    loaded = load(model)
    bound = bind(loaded, [shapes], folder / "bound.onnx")
    simple, fast = folder / "simplified.onnx", folder / "rewritten.onnx"
    slim(bound.path, simple, EFFORTS[0], bound.shapes)
    saved = rewrite(simple, fast, bound.shapes)
    specs = input_specs(loaded, shapes)
    feeds = synthetic_samples(specs, 1, graph=build_graph(bound.path)).feeds(0)
    settings = SessionSettings(intra_op_threads=1)
    sessions = [make_session(one, settings) for one in (simple, fast if saved else simple, simple)]
    first, second, _ = (one.run(None, dict(feeds)) for one in sessions)
    errors = [nmse(a, b) for a, b in zip(first, second, strict=True) if a.dtype.kind == "f"]
    times = _rounds([lambda one=one: one.run(None, dict(feeds)) for one in sessions])
    ratio, control = times[:, 0] / times[:, 1], times[:, 0] / times[:, 2]
    return {
        "model": model.parent.name if model.stem == "model" else model.stem,
        "rewritten": bool(saved),
        "simplified_us": _fast(times, 0) * 1e6,
        "rewritten_us": _fast(times, 1) * 1e6,
        "speedup": [float(np.quantile(ratio, q)) for q in (0.25, 0.5, 0.75)],
        "control": [float(np.quantile(control, q)) for q in (0.25, 0.5, 0.75)],
        "fast_speedup": _fast(times, 0) / _fast(times, 1),
        "fast_control": _fast(times, 0) / _fast(times, 2),
        "nmse": max(errors, default=0.0),
    }


def _fast(times: np.ndarray[Any, np.dtype[np.float64]], place: int) -> float:
    return float(np.quantile(times[:, place], _FAST))


def _rounds(calls: list[Callable[[], Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Seconds a call; a row a round, whose order rotates."""
    count = max(int(_TURN_S / max(_turn(calls[0], 3), 1e-9)), 1)
    found = []
    for number in range(ROUNDS):
        shift = number % len(calls)
        order = [*range(shift, len(calls)), *range(shift)]
        row = {place: _turn(calls[place], count) for place in order}
        found.append([row[place] for place in range(len(calls))])
    return np.array(found)


def _turn(call: Callable[[], Any], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def main() -> int:
    """Prints a line a model; 1 where one answers differently."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--shapes", action="append", default=[])
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    shapes = {name: tuple(dims) for name, dims in map(parse_shape, asked.shapes)}
    records = []
    for model in asked.models:
        with tempfile.TemporaryDirectory() as folder:
            records.append(measured(model, shapes, Path(folder)))
        one = records[-1]
        low, middle, high = one["speedup"]
        noise = " .. ".join(f"{one['control'][place]:.2f}" for place in (0, 2))
        print(
            f"{one['model']:32} {one['simplified_us']:9.0f} us {one['rewritten_us']:9.0f} us"
            f"  {one['fast_speedup']:.2f}x (A/A {one['fast_control']:.2f})"
            f"  by rounds {middle:.2f}x [{low:.2f} .. {high:.2f}] (A/A {noise})"
            f"  NMSE {one['nmse']:.1e}"
        )
    if asked.json:
        asked.json.write_text(json.dumps(records, indent=2) + "\n")
    return int(any(one["nmse"] > _MOST_NMSE for one in records))


if __name__ == "__main__":
    sys.exit(main())
