"""Plans and deploys every model of a folder, through the command line, and prints one table.

    python benchmarks/models.py --data DIR [--models a,b] [--json FILE] [--max-error 1e-2]

DIR holds `models/<name>/model.onnx` with `sample_inputs.npz` (input name -> array: fixes shapes)
and, where there is one, `eval/<set>/` with `data.npz` and `meta.json` (model, metric, feeds: input
name -> array name), whose `calib_*` arrays calibrate. A model without an evaluation set is
calibrated on its sample inputs.

Every model gets the same promise: NMSE at the outputs <= 1e-2. Records (`--json`): name, status,
exit_code, plan_s, predicted_us, measured_us, baseline_us, speedup, error_nmse, metric,
metric_baseline, metric_engine, and message where something was refused. `predicted_us` is the p50
predicted before anything of the chosen plan was timed as a whole, brought to the machine's speed at
deploy by the reference probe; `predicted_plan_us` is the same number as the plan states it.
`undisturbed_predicted_us` and `undisturbed_measured_us` are both of the tenth of the rounds at
deploy that neighbours on the same hardware slowed down the least: on shared machines medians jump
between two states that lie a factor of 1.7 apart.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

Record = dict[str, Any]
_TIMEOUT_S = 900


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", help="comma-separated names; all when not given")
    parser.add_argument("--json", type=Path, help="write records here")
    parser.add_argument("--max-error", default="1e-2")
    arguments = parser.parse_args()
    root = arguments.data / "models" if (arguments.data / "models").is_dir() else arguments.data
    wanted = arguments.models.split(",") if arguments.models else None
    records: list[Record] = []
    for folder in sorted(path.parent for path in root.glob("*/model.onnx")):
        if wanted is not None and folder.name not in wanted:
            continue
        records.append(run(folder, arguments.max_error))
        print(line(records[-1]), flush=True)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(records, indent=1))
    print(summary(records))


def run(folder: Path, max_error: str) -> Record:
    """Plans and deploys one model."""
    record: Record = {"name": folder.name, "runs_in_onnxruntime": _runs(folder)}
    with tempfile.TemporaryDirectory(prefix="infopt-bench-") as scratch:
        plan_path, engine = Path(scratch) / "plan.json", Path(scratch) / "engine"
        started = time.perf_counter()
        flags = [*_shapes(folder), *_data(folder, Path(scratch)), "--max-error", max_error]
        done = _infopt("plan", folder / "model.onnx", *flags, "-o", plan_path, "--json")
        record.update(exit_code=done.returncode, plan_s=round(time.perf_counter() - started, 1))
        if done.returncode != 0:
            return {**record, "status": "refused", "message": _message(done, folder)}
        record.update(_of_plan(json.loads(plan_path.read_text())))
        done = _infopt("deploy", plan_path, "-o", engine, "--no-serve", "--json")
        record.update(exit_code=done.returncode)
        if done.returncode != 0:
            record.update(status="not verified", message=_message(done, folder))
        if done.stdout.strip():
            record.update(_of_verdict(json.loads(done.stdout)))
    return {"status": "ok", **record}


def _runs(folder: Path) -> bool:
    try:
        session = ort.InferenceSession(
            folder / "model.onnx", providers=["CPUExecutionProvider"], sess_options=_quiet()
        )
        session.run(None, dict(np.load(folder / "sample_inputs.npz")))
    except Exception:  # noqa: BLE001  whatever ONNX Runtime raises: it cannot run it
        return False
    return True


def _quiet() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return options


def _infopt(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "planner", *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        cwd=Path(__file__).resolve().parents[1],
    )


def _message(done: subprocess.CompletedProcess[str], folder: Path) -> str:
    """What it said last; models are named, not where they lie: records are kept."""
    text = done.stderr.replace(f"{folder.parent}{os.sep}", "")
    lines = [line for line in text.splitlines() if line.startswith("error")]
    return (lines or text.strip().splitlines() or [""])[-1][:300]


def _shapes(folder: Path) -> list[str]:
    with np.load(folder / "sample_inputs.npz") as samples:
        pairs = [(name, samples[name].shape) for name in samples.files]
    flags: list[str] = []
    for name, shape in pairs:
        flags += ["--shapes", f"{name}:{'x'.join(map(str, shape))}"]
    return flags


def _data(folder: Path, scratch: Path) -> list[str]:
    """Calibration (and labels where the metric is top1), named as the model names its inputs."""
    samples = dict(np.load(folder / "sample_inputs.npz"))
    found = _evaluation(folder)
    target = scratch / "data.npz"
    if found is None:
        np.savez(target, **samples)
        return ["--calibration", str(target)]
    meta, data = found
    fitting = _fitting(meta, data, samples)
    if fitting is None:
        np.savez(target, **samples)
        return ["--calibration", str(target)]
    np.savez(target, **fitting)
    if "labels" not in fitting:
        return ["--calibration", str(target)]
    return ["--evaluation", str(target), "--metric", "top1"]


def _evaluation(folder: Path) -> tuple[Record, dict[str, Any]] | None:
    for path in sorted((folder.parents[1] / "eval").glob("*/meta.json")):
        meta = json.loads(path.read_text())
        if meta.get("model") == folder.name and meta.get("feeds"):
            return meta, dict(np.load(path.parent / meta.get("data", "data.npz")))
    return None


def _fitting(meta: Record, data: Record, samples: Record) -> dict[str, Any] | None:
    """Arrays by input name, cut to the sample inputs' shapes; None where they do not fit."""
    arrays: dict[str, Any] = {}
    for name, key in meta["feeds"].items():
        if not isinstance(key, str) or "unbatched" in meta or name not in samples:
            return None
        for prefix in ("", "calib_"):
            value = data.get(prefix + key)
            if value is None and prefix:
                return None
            cut = _cut(np.asarray(value), samples[name])
            if cut is None:
                return None
            arrays[prefix + name] = cut
    label = data.get(meta.get("label_key", ""))
    labelled = meta["metric"] == "top1" and label is not None and meta["output"] == 0
    if labelled and "mask_key" not in meta:
        arrays["labels"] = np.asarray(label)
    return arrays


def _cut(value: Any, sample: Any) -> Any | None:
    """Whole samples in the type and shape of the sample input, or None."""
    if value.ndim != sample.ndim or value.ndim == 0:
        return None
    window = tuple(slice(0, size) for size in sample.shape[1:])
    cut = value[(slice(None), *window)]
    return cut.astype(sample.dtype) if cut.shape[1:] == sample.shape[1:] else None


def _of_plan(plan: Record) -> Record:
    shape = plan["workload"][0]["name"]
    timings = {timing["name"]: timing for timing in plan["guard"]["timings"]}
    shipped, plain = timings[plan["guard"]["shipped"]], timings["plain"]
    accuracy = plan["accuracy"]
    return {
        "ops": plan["model"]["ops"],
        "shipped": plan["shipped"],
        "predicted_plan_us": plan["prediction"]["latency_p50_us"][shape]["expected"],
        "guard_us": shipped["p50_us"],
        "baseline_us": plain["p50_us"],
        "speedup": shipped["ratio"],
        "speedup_low": shipped["ratio_low"],
        "speedup_high": shipped["ratio_high"],
        "control_low": plan["guard"]["control_low"],
        "control_high": plan["guard"]["control_high"],
        "error_nmse": accuracy["measured_error"],
        "metric": accuracy["metric"],
        "metric_baseline": accuracy["baseline"],
        "metric_engine": accuracy["value"],
        "gap": plan["solver"]["gap"],
    }


def _of_verdict(verdict: Record) -> Record:
    shape = next(iter(verdict["measured_us"]), None)
    if shape is None:
        return {}
    found = {
        "predicted_us": verdict["predicted_us"][shape]["expected"],
        "measured_us": verdict["measured_us"][shape]["expected"],
    }
    calm = verdict["undisturbed_us"].get(shape)
    if calm is not None:
        found["undisturbed_predicted_us"] = calm["predicted"]["expected"]
        found["undisturbed_measured_us"] = calm["measured_us"]
    return found


def line(record: Record) -> str:
    """One row for people."""
    name = f"{record['name']:26s}"
    if "measured_us" not in record:
        return f"{name} {record['status']} (exit {record['exit_code']}): {record.get('message')}"
    off = record["predicted_us"] / record["measured_us"] - 1
    return (
        f"{name} {record['status']:12s} {record['shipped']:8s} plan {record['plan_s']:6.1f} s  "
        f"predicted {record['predicted_us']:9.1f} us  measured {record['measured_us']:9.1f} us  "
        f"({off:+6.1%})  plain {record['baseline_us']:9.1f} us  {record['speedup']:5.2f}x  "
        f"NMSE {record['error_nmse']:.1e}"
    )


def summary(records: list[Record]) -> str:
    """The figures of the issue: coverage, prediction error, speed."""
    runnable = [record for record in records if record["runs_in_onnxruntime"]]
    done = [record for record in runnable if record["status"] == "ok"]
    text = [f"deployed {len(done)} of {len(runnable)} models that ONNX Runtime runs"]
    timed = [record for record in done if "measured_us" in record]
    if timed:
        speed = [record["speedup"] for record in timed]
        text += [
            _errors(timed, "", "p50"),
            _errors(
                [record for record in timed if "undisturbed_measured_us" in record],
                "undisturbed_",
                "undisturbed tenth of the rounds",
            ),
            f"speed against plain ONNX Runtime: geometric mean "
            f"{math.exp(statistics.mean(map(math.log, speed))):.2f}x, least {min(speed):.2f}x",
        ]
    return "\n".join(text)


def _errors(records: list[Record], prefix: str, what: str) -> str:
    off = [abs(r[f"{prefix}predicted_us"] / r[f"{prefix}measured_us"] - 1) for r in records]
    if not off:
        return f"prediction error of the {what}: not measured"
    return (
        f"prediction error of the {what}: mean {statistics.mean(off):.1%}, median "
        f"{statistics.median(off):.1%}, worst {max(off):.1%}"
    )


if __name__ == "__main__":
    main()
