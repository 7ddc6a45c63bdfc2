"""The whole suite on a GPU in one resumable run: ours and peers, batch 1, 4 and 16.

    python benchmarks/small_matrix.py --work DIR --json FILE --until 560
    python benchmarks/small_matrix.py --work DIR --json FILE --until 560 --jobs time-own-16

Jobs are processes of `small_models.py`: several at once compile, one at a time measures (they pass
a lock around). What torch.compile autotunes uses the GPU too, so all of that comes before anything
is timed. A job that ended is not run again: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.small.suite import SUITE

_SCRIPT = Path(__file__).with_name("small_models.py")
_COMPILED = "torch-compile-replay,torch-compile"
_EAGER = "torch-eager-replay"
_CHAINS = ("lora", "gated-mlp", "nerf-7x64", "mmoe")
"""Quick ones, first: a mistake in the setting shows at once."""


@dataclass(frozen=True, slots=True)
class Job:
    """One process, known by its name."""

    kind: str
    model: str
    batch: int
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of its record file."""
        return f"{self.kind}-{self.batch}-{self.model}"


def main() -> None:
    """Runs what is left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="state and caches, kept")
    parser.add_argument("--json", type=Path, required=True, help="all records so far")
    parser.add_argument("--until", type=float, default=560, help="seconds; running jobs are ended")
    parser.add_argument("--jobs", default="", help="kinds with batch, in order, by commas")
    parser.add_argument("--models", default="", help="names by commas; all where not given")
    parser.add_argument("--at-once", type=int, default=5)
    parser.add_argument("--workers", type=int, default=4, help="compiling processes of a job")
    parser.add_argument("--tune-s", type=float, default=8)
    parser.add_argument("--dry", action="store_true", help="print the commands and stop")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.until
    arguments.work.mkdir(parents=True, exist_ok=True)
    kinds = arguments.jobs.split(",") if arguments.jobs else list(_ORDER)
    for kind in kinds:
        jobs = _jobs(kind, arguments)
        if arguments.dry:
            print("\n".join(" ".join((job.name, *job.arguments)) for job in jobs))
            continue
        begin = time.monotonic()
        _run(jobs, arguments, end)
        print(f"== {kind}: {time.monotonic() - begin:.0f} s", flush=True)


_ORDER = ("compile-torch-1+compile-own-1", "time-own-1+time-peers-1")
"""`+` joins kinds that are interleaved, model by model."""


def _jobs(kinds: str, arguments: argparse.Namespace) -> list[Job]:
    """Jobs of kinds joined by `+`, interleaved."""
    names = arguments.models.split(",") if arguments.models else [*_CHAINS, *_rest()]
    split = [kind.rsplit("-", 1) for kind in kinds.split("+")]
    return [
        Job(kind, name, int(batch), _arguments(kind, name, int(batch), arguments))
        for name in names
        for kind, batch in split
    ]


def _rest() -> list[str]:
    return [name for name in SUITE if name not in _CHAINS]


def _arguments(kind: str, model: str, batch: int, arguments: argparse.Namespace) -> tuple[str, ...]:
    work = arguments.work
    common = ("--model", model, "--batch", str(batch), "--gpu-check")
    kept = (
        *("--kernels", str(work / "kernels"), "--plans", str(work / "plans")),
        *("--workers", str(arguments.workers)),
    )
    own = (*kept, "--tune", "--tune-s", str(arguments.tune_s))
    is_compiled = (work / f"compile-torch-{batch}-{model}.done").exists()
    against = f"{_EAGER},{_COMPILED}" if is_compiled else _EAGER
    return {
        "compile-own": (*common, *own, "--compile-only"),
        "compile-torch": (*common, "--no-own", "--compile-only", "--peers", _COMPILED),
        "time-own": (*common, *own, "--stages"),
        "time-rules": (*common, *own, "--groups", "rules"),
        "time-against": (*common, *kept, "--peers", f"{_EAGER},torch-compile-replay"),
        "time-calls": (*common, *kept, "--peers", f"{_EAGER},{_COMPILED}"),
        "time-peers": (*common, "--no-own", "--peers", against),
        "time-eager": (*common, "--no-own", "--peers", _EAGER),
        "time-ort": (*common, "--no-own", "--peers", "ort-cuda-graph,ort-cuda"),
    }[kind]


def _run(jobs: Sequence[Job], arguments: argparse.Namespace, end: float) -> None:
    """As many at once as wanted, in order, until the time is over."""
    work = arguments.work
    waiting = [job for job in jobs if not (work / f"{job.name}.done").exists()]
    running: dict[str, subprocess.Popen[bytes]] = {}
    environment = os.environ | {
        "INFOPT_GPU_LOCK": str(work / "lock"),
        "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": str(arguments.workers),
        "TORCHINDUCTOR_USE_EXPERIMENTAL_BENCHMARKER": "1",
        "OMP_NUM_THREADS": "2",
    }
    while (waiting or running) and time.monotonic() < end:
        while waiting and len(running) < arguments.at_once:
            job = waiting.pop(0)
            record = work / f"{job.name}.json"
            command = [sys.executable, str(_SCRIPT), *job.arguments, "--json", str(record)]
            with (work / f"{job.name}.log").open("wb") as log:
                running[job.name] = subprocess.Popen(
                    command, stdout=log, stderr=log, env=environment, start_new_session=True
                )
        time.sleep(0.2)
        ended = [name for name, process in running.items() if process.poll() is not None]
        for name in ended:
            _finish(name, running.pop(name).returncode, arguments)
    for name, process in running.items():
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print(f"{name}: ended for time", flush=True)
    if running:
        _merge(arguments)


def _finish(name: str, code: int, arguments: argparse.Namespace) -> None:
    work = arguments.work
    if code == 0:
        (work / f"{name}.done").touch()
    else:
        log = (work / f"{name}.log").read_text(errors="replace")
        print(f"{name}: exit {code}: {log[-400:]}", flush=True)
    path = work / f"{name}.json"
    for record in json.loads(path.read_text()) if path.exists() else []:
        print(_line(name, record), flush=True)
    _merge(arguments)


def _line(name: str, record: dict[str, Any]) -> str:
    keys = ("peer", "error", "compiled", "compiled_s", "s", "gpu_us", "call_us", "nmse")
    said = {key: record[key] for key in keys if key in record}
    return (
        name + " " + " ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in said.values())
    )


def _merge(arguments: argparse.Namespace) -> None:
    """All records so far, in one file."""
    records = []
    for path in sorted(arguments.work.glob("*.json")):
        records += [{"job": path.stem, **record} for record in json.loads(path.read_text())]
    scratch = arguments.json.with_suffix(".part")
    scratch.write_text(json.dumps(records))
    scratch.replace(arguments.json)


if __name__ == "__main__":
    main()
