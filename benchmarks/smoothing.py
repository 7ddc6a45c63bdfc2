"""What smoothing does to dynamic int8: errors and times of whole models, in turns.

    python benchmarks/smoothing.py --data DIR [--models a,b] [--json FILE] [--seconds 10]

DIR holds `models/<name>/model.onnx` with `sample_inputs.npz`. Every product that may be is built in
dynamic int8, and again with those smoothed that gain from it. NMSE is that of the worst output on
the sample inputs. Times are ratios within rounds: each round runs the model as it is, both builds
and the model once more (A/A), one thread, in one process, pools asleep; medians over rounds.
Records: name, products, smoothed, divisions (operators added), nmse_dynamic, nmse_smooth,
speed_dynamic, speed_smooth, control, rounds, search_s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from planner.compress.apply import apply
from planner.compress.base import NATIVE, BuildSettings, Format, Offer
from planner.compress.measure import joint_error, runner
from planner.compress.methods import offers
from planner.compress.samples import Samples
from planner.compress.smoothing import smoothing
from planner.errors import InfoptError
from planner.graph.build import read_graph
from planner.spec.session import SessionSettings

_SESSION = SessionSettings(intra_op_threads=1, spinning=False)
_LEAST_ROUNDS = 20
Run = Callable[[], object]
Record = dict[str, Any]


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", help="comma-separated names; all when not given")
    parser.add_argument("--json", type=Path, help="write records here")
    parser.add_argument("--seconds", type=float, default=10.0, help="of turns, for each model")
    arguments = parser.parse_args()
    wanted = arguments.models.split(",") if arguments.models else None
    records: list[Record] = []
    for path in sorted((arguments.data / "models").glob("*/model.onnx")):
        if wanted is not None and path.parent.name not in wanted:
            continue
        try:
            records.append({"name": path.parent.name, **measured(path, arguments.seconds)})
        except InfoptError as error:
            records.append({"name": path.parent.name, "refused": error.what})
        print(json.dumps(records[-1]), flush=True)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(records, indent=1))


def measured(path: Path, seconds: float) -> Record:
    """Errors and times of one model."""
    graph = read_graph(path, {})
    dynamic = _offered(graph, Format.INT8_DYNAMIC)
    products = _offered(graph, Format.INT8_DYNAMIC_SMOOTH)
    with np.load(path.parent / "sample_inputs.npz") as given:
        feeds = {name: given[name] for name in given.files}
    samples = Samples({name: value[None] for name, value in feeds.items()}, 1, 1, 1)
    started = time.perf_counter()
    found = smoothing(path, graph, products, [samples], _SESSION)
    record: Record = {"products": len(products), "smoothed": len(found)}
    record["search_s"] = round(time.perf_counter() - started, 2)
    if not found:
        return record
    plain = dict.fromkeys(dynamic, Format.INT8_DYNAMIC)
    smooth = {**plain, **dict.fromkeys(found, Format.INT8_DYNAMIC_SMOOTH)}
    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder) / "dynamic.onnx", Path(folder) / "smooth.onnx"
        apply(path, plain, {}, one, BuildSettings())
        apply(path, smooth, {}, other, BuildSettings(), found)
        nodes = onnx.load(other, load_external_data=False).graph.node
        record["divisions"] = sum(n.op_type == "Mul" and "__factor" in n.name for n in nodes)
        record["nmse_dynamic"] = joint_error(path, one, samples, _SESSION).worst
        record["nmse_smooth"] = joint_error(path, other, samples, _SESSION).worst
        files = {"plain": path, "dynamic": one, "smooth": other, "control": path}
        runs = {name: _run_of(file, feeds) for name, file in files.items()}
        return {**record, **_ratios(runs, seconds)}


def _offered(graph: Any, form: Format) -> list[str]:
    found = (each for each in offers(graph, [form]) if isinstance(each, Offer))
    return [each.op for each in found if each.format != NATIVE]


def _run_of(path: Path, feeds: Mapping[str, Any]) -> Run:
    run = runner(path, _SESSION)
    return lambda: run(feeds)


def _ratios(runs: Mapping[str, Run], seconds: float) -> Record:
    """How many times as fast as plain each is, in the median of rounds."""
    rounds: list[dict[str, float]] = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends or len(rounds) < _LEAST_ROUNDS:
        names = [*runs][len(rounds) % len(runs) :] + [*runs][: len(rounds) % len(runs)]
        rounds.append({name: _timed(runs[name]) for name in names})

    def ratio(name: str) -> float:
        return round(statistics.median(one["plain"] / one[name] for one in rounds), 3)

    others = {"dynamic": "speed_dynamic", "smooth": "speed_smooth", "control": "control"}
    return {**{key: ratio(name) for name, key in others.items()}, "rounds": len(rounds)}


def _timed(run: Run) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
