"""An engine of generated kernels on its GPU: answers, threads, device tensors, stress, a hang.

    infopt plan model.onnx --target h200-sxm-141gb            # anywhere
    infopt deploy --to directory --no-serve
    python benchmarks/gpu_engine.py engine/ --json FILE       # on the GPU

Each check is a record: engine, check, passed, and its figures. Device tensors need torch.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.small.exclusive import exclusive
from benchmarks.small.stress import stressed
from planner.errors import EngineHungError, InfoptError
from planner.runtime.engine import Session, load
from planner.runtime.fused.driver import Driver
from planner.runtime.fused.session import FusedSession, open_checked
from planner.runtime.integrity import read_manifest
from planner.runtime.tensors import read_tensors

Record = dict[str, Any]
Feeds = dict[str, Any]
_SPIN = b"""
.version 7.0
.target sm_80
.address_size 64
.visible .entry spin(.param .u64 flag)
{
    .reg .u64 %rd<2>;
    .reg .u32 %r<2>;
    .reg .pred %p;
    ld.param.u64 %rd1, [flag];
LOOP:
    ld.volatile.global.u32 %r1, [%rd1];
    setp.eq.u32 %p, %r1, 0;
    @%p bra LOOP;
    ret;
}
\0"""
"""Runs until somebody writes to `flag`: what a kernel that hangs looks like."""


def main() -> None:
    """Runs every check on every engine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engines", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, help="write records here")
    parser.add_argument("--replays", type=int, default=1_000_000, help="of the stress, an engine")
    arguments = parser.parse_args()
    driver = Driver()
    where = {"gpu": driver.name, "driver": driver.version}
    records: list[Record] = []
    for engine in arguments.engines:
        for record in checked(engine, arguments.replays):
            records.append({"engine": engine.name, **record, **where})
            print(json.dumps(records[-1]), flush=True)
            if arguments.json is not None:
                arguments.json.write_text(json.dumps(records, indent=1))


def checked(engine: Path, replays: int) -> Iterator[Record]:
    """All records of one engine; what fails is said, and costs the others nothing."""
    manifest = read_manifest(engine)
    feeds = dict(read_tensors(engine / manifest.golden[0].inputs))
    checks: tuple[Callable[[Path, Feeds], Record], ...] = (
        times, threads, device_tensors, not_numbers, lambda e, f: stress(e, f, replays), hang,
    )  # fmt: skip
    names = ("times", "threads", "device tensors", "NaN and infinity", "stress", "hang")
    for name, check in zip(names, checks, strict=True):
        held = nullcontext() if name == "stress" else exclusive()  # which holds it by turns
        try:
            with held:
                yield {"check": name, **check(engine, feeds)}
        except Exception as error:  # noqa: BLE001 - the other checks still count
            text = f"{type(error).__name__}: {error}"[:400]
            yield {"check": name, "passed": False, "error": text}


def random_like(feeds: Feeds, seed: int) -> Feeds:
    """Other values of the same types; integers are kept, for they may be indices."""
    random = np.random.default_rng(seed)
    return {
        name: random.standard_normal(value.shape).astype(value.dtype)
        if value.dtype.kind == "f"
        else value
        for name, value in feeds.items()
    }


def _median_us(call: Callable[[], object], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - begin) / 1e3)
    return float(np.median(taken))


def kernels_of(session: Session) -> FusedSession | None:
    """The first generated part."""
    return next((part.kernels for part in session.parts if part.kernels is not None), None)


def times(engine: Path, feeds: Feeds) -> Record:
    """A call with NumPy arrays, the host's share of a replay, and replays back to back."""
    with load(engine, path="fused") as session:
        kernels = kernels_of(session)
        assert kernels is not None
        for _ in range(50):
            session.run(feeds)
        call_us = _median_us(lambda: session.run(feeds), 500)
        first = kernels.first
        first.driver.synchronize()
        host_us = _median_us(first.replay, 50)
        first.driver.synchronize()
        begin = time.perf_counter()
        for _ in range(500):
            first.replay()
        first.driver.synchronize()
        replay_us = (time.perf_counter() - begin) / 500 * 1e6
        bucket = first.bucket
        return {
            "passed": host_us <= 10.0,
            "call_us": call_us,
            "host_us": host_us,
            "replay_us": replay_us,
            "launches": len(bucket.launches),
            "arena_bytes": bucket.arena_size_bytes,
            "weights_bytes": kernels.manifest.weights_size_bytes,
        }


def threads(engine: Path, feeds: Feeds) -> Record:
    """Eight threads over one and three copies: each call gets the answer to its own question."""
    questions = [random_like(feeds, seed) for seed in range(8)]
    figures: Record = {}
    wrong = 0
    for copies in (1, 3):
        with load(engine, path="fused", copies=copies) as session:
            mistakes, rate = _all_at_once(session, questions)
        figures[f"calls_per_s_{copies}"] = rate
        wrong += mistakes
    return {"passed": wrong == 0, "wrong": wrong, **figures}


def _all_at_once(session: Session, questions: list[Feeds]) -> tuple[int, float]:
    """(wrong answers, calls a second) of a thread a question."""
    answers = [session.run(question) for question in questions]
    mistakes: list[int] = []

    def ask(number: int) -> None:
        for _ in range(200):
            found = session.run(questions[number])
            if not _equal(found, answers[number]):
                mistakes.append(number)

    begin = time.perf_counter()
    running = [threading.Thread(target=ask, args=(n,)) for n in range(len(questions))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return len(mistakes), 200 * len(questions) / (time.perf_counter() - begin)


def _equal(found: Feeds, wanted: Feeds) -> bool:
    return all(np.array_equal(found[name], wanted[name], equal_nan=True) for name in wanted)


def device_tensors(engine: Path, feeds: Feeds) -> Record:
    """torch tensors in and out by DLPack, bit for bit what NumPy arrays give."""
    import torch

    with load(engine, path="fused") as session:
        wanted = session.run(feeds)
        given = {name: torch.from_numpy(value.copy()).cuda() for name, value in feeds.items()}
        made = {k: torch.from_dlpack(v) for k, v in session.run_on_device(given).items()}
        same = _equal({name: value.cpu().numpy() for name, value in made.items()}, wanted)
        on_cuda = all(value.is_cuda for value in made.values())
        call_us = _median_us(lambda: session.run_on_device(given), 300)
        out = {name: torch.empty_like(value) for name, value in made.items()}
        into_us = _median_us(lambda: session.run_on_device(given, out), 300)
        same = same and _equal({name: value.cpu().numpy() for name, value in out.items()}, wanted)
    first = next(iter(made.values()))
    alive = bool(torch.isfinite(first.float()).any())  # outputs outlive the session
    passed = same and on_cuda and alive
    return {"passed": passed, "call_us": call_us, "call_into_own_us": into_us}


def not_numbers(engine: Path, feeds: Feeds) -> Record:
    """A NaN, then an infinity, in the first float input: as ONNX Runtime on the CPU answers."""
    import onnxruntime as ort

    manifest = read_manifest(engine)
    path = str(engine / manifest.ort_segments[0].file)
    if len(manifest.ort_segments) > 1:
        return {"passed": True, "note": "several parts: not compared"}
    library = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = next(n for n, v in feeds.items() if v.dtype.kind == "f")
    differing = {}
    with load(engine, path="fused") as session:
        for text, value in (("nan", np.nan), ("inf", np.inf)):
            given = {k: v.copy() for k, v in feeds.items()}
            given[name].reshape(-1)[0] = value
            found = session.run(given)
            wanted = dict(zip(found, library.run(list(found), given), strict=True))
            differing[text] = float(
                np.mean([np.mean(np.isnan(found[k]) != np.isnan(wanted[k])) for k in found])
            )
    return {"passed": max(differing.values()) == 0.0, "share_of_nan_that_differs": differing}


def stress(engine: Path, feeds: Feeds, replays: int) -> Record:
    """Replays over a poisoned arena: not a bit of it may differ, and the answer stays the same."""
    with load(engine, path="fused") as session:
        kernels = kernels_of(session)
        assert kernels is not None
        if not {slot.name for slot in kernels.first.bucket.inputs} <= set(feeds):
            return {"passed": True, "note": "the first part reads no input of the model"}
        wanted = session.run(feeds)
        record = stressed(kernels.first, feeds, replays)
        same = _equal(session.run(feeds), wanted)
        return {**record, "passed": record["passed"] and same, "answer_is_the_same": same}


def hang(engine: Path, feeds: Feeds) -> Record:
    """A kernel that never ends in front of a call: refused in time, then at once, then freed."""
    manifest = read_manifest(engine)
    folder = engine / manifest.fused_segments[0].folder
    session = open_checked(folder, timeout_s=0.3)
    slots = {slot.name for slot in session.first.bucket.inputs}
    if not slots <= set(feeds):
        return {"passed": True, "note": "the first part reads no input of the model"}
    own = {name: feeds[name] for name in slots}
    session.run(own)
    driver = session.first.driver
    flag = driver.allocate_pinned(256)
    ctypes.memset(flag, 0, 256)
    function = driver.load(_SPIN, "spin", 0)
    driver.launch(function, 1, 32, 0, [flag], ahead=False)
    begin = time.perf_counter()
    first = _refusal(lambda: session.run(own))
    waited_s = time.perf_counter() - begin
    healthy = session.is_healthy
    begin = time.perf_counter()
    second = _refusal(lambda: session.run(own))
    at_once_us = (time.perf_counter() - begin) * 1e6
    ctypes.memset(flag, 1, 256)
    driver.synchronize()
    passed = first is not None and second is not None and not healthy and waited_s < 2.0
    return {
        "passed": passed,
        "refused": None if first is None else first.what,
        "waited_s": waited_s,
        "then_us": at_once_us,
    }


def _refusal(call: Callable[[], object]) -> InfoptError | None:
    try:
        call()
    except EngineHungError as error:
        return error
    return None


if __name__ == "__main__":
    main()
