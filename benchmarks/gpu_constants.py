"""Measure the constants of one NVIDIA GPU that decide what plans cost and how kernels are fused.

    python benchmarks/gpu_constants.py --json constants.json                     # everything
    python benchmarks/gpu_constants.py --sections nodes,barriers --json out.json

What each section measures stands in the docstring of its function. How it is timed:

* Device time comes from events. A spin kernel runs first, so that everything timed is already
  queued and the host is not in the number. Costs per step are slopes over the number of steps,
  which removes launch and event overhead. Numbers are medians; every slope is measured twice
  (`repeat`), which shows the spread of doing the same thing again.
* Host time comes from a steady clock, in C++ where the interpreter would be in the way.
* Data is random, never zero, and what synchronises is checked for its result, not only timed.
* Each section runs in a process of its own with a time limit, so a hang or a fault costs one
  section. The JSON is written after every section, and inside a section as it goes along.

Needs: an NVIDIA GPU (clusters and PDL: compute capability 9.0), nvcc, a C++ compiler, torch,
triton, cuda-bindings, cuda-core, numpy. The settings of the GPU are only read.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from constants.barriers import barriers, handover
from constants.clusters import clusters
from constants.device import Gpu
from constants.facts import facts
from constants.host import host
from constants.host_link import pcie
from constants.layers import attention, elementwise
from constants.memory import memory
from constants.nodes import nodes, pdl
from constants.products import gemm, skinny
from constants.report import KERNELS, Json, Report
from constants.sparse import sparse
from constants.stages import stages
from constants.triton_chain import triton_section

PACKAGES = (
    "torch",
    "triton",
    "cuda-core",
    "cuda-bindings",
    "cupy-cuda13x",
    "nvidia-cublas",
    "nvidia-cudnn-cu13",
)

Section = Callable[[Gpu, Report], None]

SECTIONS: dict[str, tuple[Section, int]] = {
    "facts": (facts, 60),
    "nodes": (nodes, 60),
    "host": (host, 90),
    "pdl": (pdl, 60),
    "barriers": (barriers, 90),
    "handover": (handover, 45),
    "clusters": (clusters, 60),
    "stages": (stages, 60),
    "triton": (triton_section, 120),
    "memory": (memory, 90),
    "skinny": (skinny, 90),
    "gemm": (gemm, 240),
    "attention": (attention, 120),
    "elementwise": (elementwise, 60),
    "pcie": (pcie, 60),
    "sparse": (sparse, 180),
}


def write(path: Path, result: Json) -> None:
    """JSON with one row of a table per line."""

    def text(value: object, depth: int) -> str:
        tables = isinstance(value, dict) and any(isinstance(v, dict | list) for v in value.values())
        if isinstance(value, dict) and (depth == 0 or (tables and depth < 3)):
            inner = (f"{json.dumps(k)}: {text(v, depth + 1)}" for k, v in value.items())
            return "{\n" + ",\n".join(inner) + "\n}"
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n" + ",\n".join(json.dumps(v) for v in value) + "\n]"
        return json.dumps(value)

    path.write_text(text(result, 0) + "\n")


def build_kernels(folder: Path) -> None:
    """Compile the CUDA kernels and the C++ timers (no GPU needed)."""
    target = "-gencode=arch=compute_90a,code=sm_90a"
    source, timers = KERNELS / "kernels.cu", KERNELS / "host_timers.cpp"
    for command in (
        [
            "nvcc",
            "-cubin",
            "-O3",
            "-std=c++17",
            target,
            str(source),
            "-o",
            str(folder / "kernels.cubin"),
        ],
        [
            "c++",
            "-O2",
            "-std=c++17",
            "-shared",
            "-fPIC",
            str(timers),
            "-o",
            str(folder / "host_timers.so"),
            "-ldl",
        ],
    ):
        subprocess.run(command, check=True)


def smi() -> Json:
    """State of the GPU as nvidia-smi reports it (read only)."""
    fields = "name,driver_version,pstate,clocks.sm,clocks.mem,clocks.max.sm"
    fields += ",temperature.gpu,power.draw,power.limit"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        text = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=20
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return {"error": str(error)[:200]}
    return dict(
        zip(fields.split(","), (v.strip() for v in text.splitlines()[0].split(",")), strict=False)
    )


def header() -> Json:
    """Where and how: written into every result file."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    cpu = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")), ""
        )
    state = smi()
    return {
        "date_utc": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"),
        "gpu": state.get("name"),
        "driver": state.get("driver_version"),
        "cpu": f"{cpu}, {os.cpu_count()} cores",
        "python": sys.version.split()[0],
        "versions": versions,
        "method": "device times from events behind a spin kernel, medians; costs per step are "
        "slopes, measured twice; host times from a steady clock; random data; results of "
        "synchronising kernels checked",
        "state_before": state,
    }


_LEAST_S = 10.0
"""In less no section is worth its start."""


def child(name: str, path: Path, build: Path) -> None:
    """Run one section in this process."""
    report = Report(path)
    gpu = Gpu(build)
    gpu.warm()
    start = time.monotonic()
    try:
        SECTIONS[name][0](gpu, report)
    finally:
        report.put("measured_s", round(time.monotonic() - start, 1))
        report.flush()


def parent(names: Iterable[str], path: Path, limit_s: float) -> int:
    """Run the sections one after the other in processes of their own; write the file after each."""
    started = time.monotonic()
    sections: Json = {}
    result: Json = {**header(), "sections": sections}
    with tempfile.TemporaryDirectory() as scratch:
        build_kernels(Path(scratch))
        for name in names:
            left_s = limit_s - (time.monotonic() - started)
            sections[name] = section(name, Path(scratch), left_s)
            write(path, result)
            tell(name, sections[name])
    result["state_after"] = smi()
    result["wall_s"] = round(time.monotonic() - started, 1)
    write(path, result)
    return int(any(found["status"] != "ok" for found in sections.values()))


def section(name: str, scratch: Path, left_s: float) -> Json:
    """What one section found, also where its process failed or its time ran out."""
    begun = time.monotonic()
    part = scratch / f"{name}.json"
    status = "skipped: no time left" if left_s < _LEAST_S else _ran(name, part, scratch, left_s)
    found: Json = json.loads(part.read_text()) if part.exists() else {}
    return {"status": status, "wall_s": round(time.monotonic() - begun, 1), **found}


def _ran(name: str, part: Path, scratch: Path, left_s: float) -> str:
    """How its process ended."""
    script = str(Path(__file__).resolve())
    own = ["--child", name, "--json", str(part), "--build", str(scratch)]
    try:
        done = subprocess.run(
            [sys.executable, script, *own],
            timeout=min(left_s, SECTIONS[name][1]),
            stderr=subprocess.PIPE,
        )
    except subprocess.TimeoutExpired:
        return "time limit"
    if done.returncode == 0:
        return "ok"
    last = (done.stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
    return f"failed ({done.returncode}): {last[:300]}"


def tell(name: str, found: Json) -> None:
    """One line a section, and its first errors."""
    errors = found.get("errors", [])
    line = f"{name}: {found['status']}, {found['wall_s']:.0f} s, {len(errors)} errors"
    print(line, *(f"    {json.dumps(error)}" for error in errors[:4]), sep="\n", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--sections", default=",".join(SECTIONS), help="comma-separated, of: %(default)s"
    )
    parser.add_argument(
        "--limit", type=float, default=3600.0, help="seconds for everything (default %(default)s)"
    )
    parser.add_argument("--child", choices=sorted(SECTIONS), help=argparse.SUPPRESS)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.json, arguments.build)
        return 0
    names = arguments.sections.split(",")
    unknown = sorted(set(names) - set(SECTIONS))
    if unknown:
        parser.error(f"unknown sections: {', '.join(unknown)}")
    return parent(names, arguments.json, arguments.limit)


if __name__ == "__main__":
    sys.exit(main())
