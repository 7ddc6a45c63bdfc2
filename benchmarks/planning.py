"""How long a plan takes and how much memory: cold, the same again, and with another promise.

    python benchmarks/planning.py [MODEL --shapes name:1x32 ...] [--json FILE]

Without MODEL a transformer encoder of about 200 operators is built (7 layers, width 256, 32
tokens). The tool's byte code is compiled first, as installing it does.

Memory is the peak of the proportional set sizes (PSS) of the command and all its children, sampled
every 50 ms; the target is twice the model file plus 500 MB. Why PSS? Resident sizes (RSS) count a
page of a library, or one shared after a fork, once for every process that maps it: 80 MB a process
here that are in memory once. PSS splits such pages among those that map them, so that the sum over
the family counts each page once. Only pages that strangers map as well count less: a few MB of
libc and Python, unless other processes run ONNX Runtime at the same time. The sum of RSS is printed
beside it.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
from onnx import helper, numpy_helper

_LAYERS, _WIDTH, _HEADS, _TOKENS = 7, 256, 4, 32
_PERIOD_S = 0.05
_ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--shapes", action="append", default=[])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="infopt-planning-") as folder:
        scratch = Path(folder)
        model = arguments.model or build(scratch / "encoder.onnx")
        record = measure(model, arguments.shapes, scratch)
    print(json.dumps(record, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(record, indent=1))


def measure(model: Path, shapes: list[str], scratch: Path) -> dict[str, Any]:
    """Cold, warm, and warm with another promise, in a store of its own."""
    flags = [flag for shape in shapes for flag in ("--shapes", shape)]
    base = ["plan", str(model), *flags, "--max-error", "1e-2", "-o", str(scratch / "plan.json")]
    compileall.compile_dir(_ROOT / "planner", quiet=1)
    environment = {**os.environ, "INFOPT_CACHE": str(scratch / "cache")}
    cold_s, memory, text = run(base, environment)
    again_s, _, same = run(base, environment)
    other_s, _, _ = run([*base, "--slo", "p50=10s"], environment)
    size = model.stat().st_size
    return {
        "model": model.name,
        "ops": json.loads(text)["model"]["ops"],
        "model_size_bytes": size,
        "cold_s": round(cold_s, 1),
        "again_s": round(again_s, 2),
        "other_slo_s": round(other_s, 2),
        "is_byte_identical": text == same,
        **memory,
        "allowed_size_bytes": 2 * size + 500 * 10**6,
    }


def run(arguments: list[str], environment: dict[str, str]) -> tuple[float, dict[str, Any], str]:
    """Seconds, peak memory of the process tree with who held it, and plan.json."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "planner", *arguments, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=_ROOT,
    )
    peak = [0, 0]
    holders: dict[str, int] = {}
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, holders), daemon=True)
    watcher.start()
    text, errors = process.communicate()
    if process.returncode != 0:
        raise SystemExit(errors)
    seconds = time.perf_counter() - started
    found = {"peak_size_bytes": peak[0], "peak_rss_bytes": peak[1], "peak_held_by": holders}
    return seconds, found, text


def _watch(pid: int, peak: list[int], holders: dict[str, int]) -> None:
    while psutil.pid_exists(pid):
        try:
            parent = psutil.Process(pid)
            family = [parent, *parent.children(recursive=True)]
        except psutil.Error:
            return
        sizes = {_label(member): _sizes(member) for member in family}
        peak[1] = max(peak[1], sum(rss for _, rss in sizes.values()))
        if sum(pss for pss, _ in sizes.values()) > peak[0]:
            peak[0] = sum(pss for pss, _ in sizes.values())
            holders.clear()
            holders.update({label: pss for label, (pss, _) in sizes.items()})
        time.sleep(_PERIOD_S)


def _label(process: psutil.Process) -> str:
    try:
        words = [word for word in process.cmdline() if "planner" in word]
    except psutil.Error:
        words = []
    return f"{process.pid} {' '.join(words[:1])}"


def _sizes(process: psutil.Process) -> tuple[int, int]:
    """(PSS, RSS) in bytes."""
    try:
        found = process.memory_full_info()
    except psutil.Error:
        return 0, 0
    return int(found.pss), int(found.rss)


def build(path: Path) -> Path:
    """A transformer encoder of about 200 operators, random weights."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def weight(name: str, *shape: int) -> str:
        values = (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(name: str, values: list[int]) -> str:
        weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def dense(x: str, name: str, rows: int, columns: int) -> str:
        product = add("MatMul", [x, weight(f"{name}.w", rows, columns)], f"{name}.matmul")
        return add("Add", [product, weight(f"{name}.b", columns)], f"{name}.add")

    def norm(x: str, name: str) -> str:
        scales = [weight(f"{name}.g", _WIDTH), weight(f"{name}.b", _WIDTH)]
        return add("LayerNormalization", [x, *scales], f"{name}.norm", axis=-1)

    split = constant("split", [1, _TOKENS, _HEADS, _WIDTH // _HEADS])
    merge = constant("merge", [1, _TOKENS, _WIDTH])
    weights.append(numpy_helper.from_array(np.array([8.0], np.float32), "scale"))
    x = "x"
    for layer in range(_LAYERS):
        p = f"layer{layer}"
        heads = []
        for part, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            projected = dense(x, f"{p}.{part}", _WIDTH, _WIDTH)
            shaped = add("Reshape", [projected, split], f"{p}.{part}.split")
            heads.append(add("Transpose", [shaped], f"{p}.{part}.heads", perm=order))
        scores = add("MatMul", heads[:2], f"{p}.scores")
        scaled = add("Div", [scores, "scale"], f"{p}.scaled")
        attention = add("Softmax", [scaled], f"{p}.softmax", axis=-1)
        context = add("MatMul", [attention, heads[2]], f"{p}.context")
        back = add("Transpose", [context], f"{p}.back", perm=[0, 2, 1, 3])
        joined = add("Reshape", [back, merge], f"{p}.joined")
        out = dense(joined, f"{p}.out", _WIDTH, _WIDTH)
        x = norm(add("Add", [x, out], f"{p}.residual1"), f"{p}.norm1")
        hidden = dense(x, f"{p}.up", _WIDTH, 4 * _WIDTH)
        cubed = add("Mul", [hidden, add("Sigmoid", [hidden], f"{p}.gate")], f"{p}.silu")
        down = dense(cubed, f"{p}.down", 4 * _WIDTH, _WIDTH)
        x = norm(add("Add", [x, down], f"{p}.residual2"), f"{p}.norm2")
    shape = [1, _TOKENS, _WIDTH]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(x, onnx.TensorProto.FLOAT, shape)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


if __name__ == "__main__":
    main()
