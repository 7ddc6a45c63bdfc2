"""Plans of several ranks, executed: a small GPT (and any model given) whole, sharded and pipelined.

    python benchmarks/ranks.py [--model MODEL --shapes x:1x128 ...] [--json FILE]
                               [--formats int8_wo,int4_wo --max-error 3e-3]
                               [--device cuda --size LAYERS,WIDTH,HEADS,WORDS,POSITIONS]

Each line: what was predicted, what was measured, and how far the answers are from the whole model's
(NMSE). The GPT is built here: 4 layers of width 512, 8 heads, causal, a vocabulary of 4096, 128
positions (or of another `--size`), random weights. In the end all engines are called in turn, and
of those whose tensors stay in place the share of a run that ranks spend talking is measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from planner.runtime import load  # noqa: E402
from planner.runtime.ranks.shares import measure_shares  # noqa: E402
from planner.runtime.tensors import read_tensors  # noqa: E402

LAYERS, WIDTH, HEADS, WORDS, POSITIONS = 4, 512, 8, 4096, 128
ROUNDS, CALLS = 15, 8
SPREADS = {"2 ranks, sharded": ("--tensor", "2"), "2 stages": ("--pipeline", "2")}


def random(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Weights, normally distributed."""
    return rng.standard_normal(shape).astype(np.float32)


def gpt() -> onnx.ModelProto:
    """A decoder without a cache, as published: norms first, GELU, logits of every position."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, np.ndarray[Any, Any]] = {
        "heads": np.array([1, POSITIONS, HEADS, WIDTH // HEADS]),
        "merged": np.array([1, POSITIONS, WIDTH]),
        "root": np.array(np.sqrt(WIDTH / HEADS), np.float32),
        "mask": np.triu(np.full((POSITIONS, POSITIONS), -1e4, np.float32), 1),
        "table": random((WORDS, WIDTH), rng) * np.float32(0.5),
        "places": random((POSITIONS, WIDTH), rng) * np.float32(0.5),
        "to_words": random((WIDTH, WORDS), rng) / np.float32(20),
    }

    def add(kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def linear(value: str, name: str, inner: int, outer: int) -> str:
        scale = np.float32(1 / np.sqrt(inner))
        weights[f"{name}.w"] = random((inner, outer), rng) * scale
        weights[f"{name}.b"] = random((outer,), rng) * np.float32(0.1)
        return add("Add", [add("MatMul", [value, f"{name}.w"], f"{name}.p"), f"{name}.b"], name)

    def norm(value: str, name: str) -> str:
        weights[f"{name}.g"] = np.ones(WIDTH, np.float32)
        return add("LayerNormalization", [value, f"{name}.g"], name, axis=-1)

    hidden = add("Add", [add("Gather", ["table", "ids"], "embedded"), "places"], "h0")
    for layer in range(LAYERS):
        before = norm(hidden, f"n{layer}")
        parts = []
        for part in "qkv":
            flat = linear(before, f"{part}{layer}", WIDTH, WIDTH)
            split = add("Reshape", [flat, "heads"], f"{part}{layer}.r")
            order = [0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]
            parts.append(add("Transpose", [split], f"{part}{layer}.t", perm=order))
        scores = add("Div", [add("MatMul", parts[:2], f"s{layer}"), "root"], f"s{layer}.d")
        weighed = add("Softmax", [add("Add", [scores, "mask"], f"s{layer}.m")], f"s{layer}.p")
        mixed = add("MatMul", [weighed, parts[2]], f"o{layer}")
        joined = add("Transpose", [mixed], f"o{layer}.t", perm=[0, 2, 1, 3])
        joined = add("Reshape", [joined, "merged"], f"o{layer}.r")
        hidden = add("Add", [linear(joined, f"w{layer}", WIDTH, WIDTH), hidden], f"a{layer}")
        wide = linear(norm(hidden, f"m{layer}"), f"u{layer}", WIDTH, 4 * WIDTH)
        narrow = linear(add("Gelu", [wide], f"g{layer}"), f"d{layer}", 4 * WIDTH, WIDTH)
        hidden = add("Add", [narrow, hidden], f"b{layer}")
    add("MatMul", [norm(hidden, "last"), "to_words"], "logits")
    graph = helper.make_graph(
        nodes, "gpt",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, POSITIONS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, POSITIONS, WORDS])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def infopt(*arguments: str) -> str:
    """Runs the tool; what it prints."""
    command = [sys.executable, str(ROOT / "cli.py"), *arguments, "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 4):
        sys.exit(done.stderr)
    return done.stdout


def measured(plan: Path, engine: Path) -> dict[str, Any]:
    """Deploys a plan; predicted and measured microseconds, worst NMSE, whether it kept its word."""
    verdict = json.loads(infopt("deploy", str(plan), "-o", str(engine), "--no-serve", "--json"))
    errors = [
        float(check["detail"].partition("NMSE ")[2].partition(",")[0])
        for check in verdict["checks"]
        if "golden" in check["name"]
    ]
    found = {name: verdict[name]["default"] for name in ("predicted_us", "measured_us")}
    return {
        "predicted_us": found["predicted_us"],
        "measured_us": found["measured_us"],
        "off": found["measured_us"]["expected"] / found["predicted_us"]["expected"] - 1,
        "nmse": max(errors),
        "kept": verdict["passed"],
    }


def run(model: Path, options: argparse.Namespace, how: list[str], folder: Path) -> dict[str, Any]:
    """Whole, sharded, pipelined.

    Args:
        how: options of `infopt plan`: formats and the error that they may make.
    """
    plan = folder / f"{model.stem}.json"
    given = [word for shape in options.shapes for word in ("--shapes", shape)]
    target = ["--target", "cuda"] if options.device == "cuda" else []
    infopt("plan", str(model), *given, *how, *target, "-o", str(plan))
    engines = {"1 process": folder / f"{model.stem}-whole"}
    found = {"1 process": measured(plan, engines["1 process"])}
    for name, spread_options in SPREADS.items():
        spread = folder / f"{model.stem}-{spread_options[0]}.json"
        engines[name] = folder / f"{model.stem}{spread_options[0]}"
        infopt("spread", str(plan), *spread_options, "--device", options.device, "-o", str(spread))
        found[name] = measured(spread, engines[name])
    for name, one in found.items():
        predicted, taken = one["predicted_us"], one["measured_us"]["expected"]
        print(
            f"{model.stem:10} {name:18} predicted {predicted['expected'] / 1e3:7.2f} ms "
            f"[{predicted['low'] / 1e3:.2f} .. {predicted['high'] / 1e3:.2f}], measured "
            f"{taken / 1e3:7.2f} ms ({100 * one['off']:+.0f} %), NMSE {one['nmse']:.1e}",
            flush=True,
        )
    for name, times in interleaved(engines).items():
        found[name]["interleaved_us"] = times
        print(f"{model.stem:10} {name:18} in turn: p50 {times['p50']:.0f} us", flush=True)
    for name in SPREADS:
        shares = [asdict(one) | {"talking": one.talking} for one in measure_shares(engines[name])]
        found[name]["shares"] = shares
        for rank, one in enumerate(shares):
            print(
                f"{model.stem:10} {name:18} rank {rank}: {one['run_us']:.0f} us, alone "
                f"{one['alone_us']:.0f} us, talking {100 * one['talking']:.0f} %, "
                f"{'one graph' if one['is_captured'] else 'step by step'}",
                flush=True,
            )
    return found


def interleaved(engines: Mapping[str, Path]) -> dict[str, dict[str, float]]:
    """All engines loaded at once and called in turn."""
    with ExitStack() as stack:
        sessions = {name: stack.enter_context(load(path)) for name, path in engines.items()}
        golden = sessions["1 process"].manifest.golden[0].inputs
        feeds = read_tensors(engines["1 process"] / golden)
        return in_turn({name: partial(one.run, feeds) for name, one in sessions.items()})


def in_turn(calls: Mapping[str, Callable[[], object]]) -> dict[str, dict[str, float]]:
    """Quartiles of each, a few calls of one after a few of the other; microseconds."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(ROUNDS + 1):
        for name, call in calls.items():
            times = [_once_us(call) for _ in range(CALLS)]
            if round_number:  # the first warms up
                taken[name] += times
    points = {"p25": 0.25, "p50": 0.5, "p75": 0.75}
    return {
        name: {point: float(np.quantile(times, at)) for point, at in points.items()}
        for name, times in taken.items()
    }


def _once_us(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e6


def main() -> None:
    """Runs the GPT, or the model given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path)
    parser.add_argument("--shapes", action="append", default=[])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--formats", help="weight-only ones make the fewest bytes the objective")
    parser.add_argument("--max-error", default="1e-9")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", help="of the GPT: layers,width,heads,words,positions")
    options = parser.parse_args()
    if options.size:
        sizes = map(int, options.size.split(","))
        global LAYERS, WIDTH, HEADS, WORDS, POSITIONS
        LAYERS, WIDTH, HEADS, WORDS, POSITIONS = sizes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model
        if model is None:
            model = folder / "gpt.onnx"
            onnx.save(gpt(), model)
        how = ["--max-error", options.max_error]
        if options.formats:
            how += ["--formats", options.formats, "--objective", "memory"]
        found = run(model, options, how, folder)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
