"""Engines whose weights exceed the memory they may take: planned, deployed, measured.

    python benchmarks/streaming.py [--layers 24] [--width 1024] [--shares 0.9,0.5,0.25]
                                   [--json FILE]

A GPT with synthetic weights (norms first, causal, 64 positions, a vocabulary of 8192). For each
share of the weights that may be in memory beside the runtime: predicted and measured p50, predicted
and measured peak of the process, and how far the answers are from the plain model's (NMSE). Every
line is one plan and one engine, through `infopt plan --memory` and `infopt deploy`.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import onnx
import ranks

from planner.profiling.context import runtime_size_bytes
from planner.units import format_size


def engine(model: Path, folder: Path, memory: int | None, formats: str) -> dict[str, Any]:
    """One plan and its engine."""
    name = "whole" if memory is None else str(memory)
    plan = folder / f"{name}.json"
    given = [] if memory is None else ["--memory", f"{memory}B"]
    started = time.perf_counter()
    ranks.infopt(
        "plan", str(model), "--shapes", f"ids:1x{ranks.POSITIONS}", "--max-error", "1e-9",
        "--formats", formats, *given, "-o", str(plan),
    )  # fmt: skip
    planned_s = time.perf_counter() - started
    target = folder / f"engine-{name}"
    verdict = json.loads(
        ranks.infopt("deploy", str(plan), "-o", str(target), "--no-serve", "--json")
    )
    document = json.loads(plan.read_text())
    checks = {check["name"]: check for check in verdict["checks"]}
    predicted = verdict["predicted_us"]["default"]
    measured = verdict["measured_us"]["default"]
    golden = " ".join(c["detail"] for c in verdict["checks"] if "golden" in c["name"])
    errors = [float(value) for value in re.findall(r"NMSE ([0-9.e+-]+)", golden)]
    found = {
        "limit_bytes": memory,
        "planned_s": planned_s,
        "predicted_us": predicted,
        "measured_us": measured,
        "off": measured["expected"] / predicted["expected"] - 1,
        "nmse": max(errors),
        "streaming": document["streaming"],
        "predicted_bytes": document["prediction"]["memory_size_bytes"]["expected"],
        "memory": checks["memory"]["detail"] if "memory" in checks else None,
        "passed": verdict["passed"],
        "failed": [check["name"] for check in verdict["checks"] if not check["passed"]],
    }
    print(
        f"{'no limit' if memory is None else format_size(memory):>10}: p50 predicted "
        f"{predicted['expected'] / 1e3:.1f} ms [{predicted['low'] / 1e3:.1f} .. "
        f"{predicted['high'] / 1e3:.1f}], measured {measured['expected'] / 1e3:.1f} "
        f"({100 * found['off']:+.0f} %); {found['memory'] or 'all in memory'}; "
        f"NMSE {found['nmse']:.1e}; planned in {planned_s:.0f} s",
        flush=True,
    )
    return found


def main() -> None:
    """Plans and deploys each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--shares", default="0.9,0.5,0.25")
    parser.add_argument("--formats", default="fp32")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ranks.LAYERS, ranks.WIDTH, ranks.HEADS = options.layers, options.width, options.width // 64
    ranks.WORDS, ranks.POSITIONS = 8192, 64
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "gpt.onnx"
        onnx.save(ranks.gpt(), model)
        size = model.stat().st_size
        runtime = runtime_size_bytes(folder)
        print(f"weights {format_size(size)}, runtime {format_size(runtime)}", flush=True)
        rows = [engine(model, folder, None, options.formats)]
        rows += [
            engine(model, folder, int(runtime + float(share) * size), options.formats)
            for share in options.shares.split(",")
        ]
    if options.json is not None:
        found = {"weights_bytes": size, "runtime_bytes": runtime, "rows": rows}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
