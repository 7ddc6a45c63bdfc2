"""What changes to the generator are worth on a GPU: engines with and without them, interleaved.

    python benchmarks/small_changes.py --models bert-base-128,vit-s-32 --tune-s 5 --json FILE

For each model: operators as written and rewritten (`planner.ops.partial`, `planner.ops.turned`),
each as drafted by rule, without and with weights asked for one launch ahead
(`planner.fuse.ahead`), and as tuned, which decides about the latter itself. All engines of a model
are loaded at once, checked against ONNX Runtime in float32, and replayed in turn; a figure is the
median of its rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.small.exclusive import exclusive
from benchmarks.small.groups import ruled
from benchmarks.small.suite import SUITE
from benchmarks.small.timing import Timer
from benchmarks.small_models import Kept, errors, inputs_of, reference_outputs, tuned
from planner.errors import InfoptError
from planner.fuse.ahead import brought
from planner.fuse.build import Draft, build
from planner.graph.semantics import program_of
from planner.kernels.compile import Compilers
from planner.kernels.estimate import estimate
from planner.ops import partial, turned
from planner.runtime.fused.driver import Driver
from planner.runtime.fused.session import load

Record = dict[str, Any]
_ROUNDS, _REPEATS = 7, 60


def main() -> None:
    """Runs the models, one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", required=True, help="names by commas")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--tune-s", type=float, default=5, help="0: not tuned")
    parser.add_argument("--candidates", type=int, default=6)
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        help="other constants to try as well: partial.MIN_ROWS_HELD=8000,turned.MIN_TAPS=99",
    )
    parser.add_argument("--kernels", type=Path, help="folder where compiled kernels are kept")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    records = []
    for name in arguments.models.split(","):
        records.append(measured(name, arguments))
        print(json.dumps(records[-1]), flush=True)
        arguments.json.write_text(json.dumps(records))


def measured(name: str, arguments: argparse.Namespace) -> Record:
    """Every engine of a model, timed in turn."""
    begin = time.perf_counter()
    model = SUITE[name]("float16", batch=arguments.batch)
    driver = Driver()
    compilers = Kept(
        Compilers(driver.architecture, arguments.workers), driver.architecture, arguments.kernels
    )
    feeds = inputs_of(program_of(model))
    expected = reference_outputs(model, feeds)
    found: dict[str, Record] = {}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        sessions = {}
        for label, plan in plans(model, driver, arguments, compilers):
            made = compilers(plan.kernels)
            compiled = {(kernel, driver.architecture): one for kernel, one in made.items()}
            folder = Path(scratch) / str(len(found))
            try:
                build(plan, folder, [driver.architecture], compiled=compiled)
                session = stack.enter_context(load(folder))
                with exclusive():
                    session.first.poison()
                    answers = session.run(feeds)
            except InfoptError as error:
                found[label] = {"error": error.text[:200]}
                continue
            listed = [answers[slot.name] for slot in session.first.bucket.outputs]
            sessions[label] = session
            found[label] = {**_described(plan), **errors(listed, expected)}
        for label, times in _timed(sessions).items():
            found[label] |= {key: round(statistics.median(row), 2) for key, row in times.items()}
    compilers.close()
    return {
        "model": name,
        "batch": arguments.batch,
        "device": driver.name,
        "seconds": round(time.perf_counter() - begin, 1),
        "engines": found,
    }


def plans(
    model: Any, driver: Driver, arguments: argparse.Namespace, compilers: Kept
) -> Iterator[tuple[str, Draft]]:
    """Label -> draft."""
    programs = {"written": program_of(model, as_written=True), "changed": program_of(model)}
    for variant in arguments.variant:
        with _constants(variant):
            programs[variant] = program_of(model)
    known: set[tuple[str, ...]] = set()
    for label, program in programs.items():
        plan = replace(ruled(program, "float16", compilers), loops=())
        names = tuple(item.name for item in plan.kernels)
        if names in known:
            continue
        known.add(names)
        yield from _with_ahead(label, plan)
        if arguments.tune_s:
            best = tuned(plan, driver, arguments, compilers).plan
            yield f"{label}-tuned", best


@contextmanager
def _constants(variant: str) -> Iterator[None]:
    """Other values of constants of the two modules."""
    modules = {"partial": partial, "turned": turned}
    before = []
    for one in variant.split(","):
        where, value = one.split("=")
        module, name = where.split(".")
        before.append((modules[module], name, getattr(modules[module], name)))
        setattr(modules[module], name, float(value))
    try:
        yield
    finally:
        for owner, name, old in before:
            setattr(owner, name, old)


def _with_ahead(label: str, plan: Draft) -> Iterator[tuple[str, Draft]]:
    yield label, plan
    other = brought(plan)
    if other is not plan:
        yield f"{label}-ahead", other


def _described(plan: Draft) -> Record:
    said = estimate(plan.program, [parts for parts, _ in plan.launches], plan.numbers)
    return {
        "predicted_us": round(said.predicted_us, 1),
        "floor_us": round(said.floor_us, 1),
        "launches": said.launches,
    }


def _timed(sessions: Mapping[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Engine -> its times, a round after the other."""
    rows: dict[str, dict[str, list[float]]] = {
        label: {"gpu_us": [], "gpu_cold_us": []} for label in sessions
    }
    with exclusive():
        for turn in range(_ROUNDS):
            order = list(sessions)[:: 1 if turn % 2 else -1]
            for label in order:
                session = sessions[label]
                timer = Timer(session.driver, session.driver.stream)
                replay = session.first.replay
                rows[label]["gpu_us"].append(timer.device_us(replay, cold=False, repeats=_REPEATS))
                if turn < 2:
                    taken = timer.device_us(replay, cold=True, repeats=20)
                    rows[label]["gpu_cold_us"].append(taken)
    return rows


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
