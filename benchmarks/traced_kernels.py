"""Kernels of drafts and some of their other tiles on a GPU: followed by their PTX, and timed.

    python benchmarks/traced_kernels.py --json FILE [--models NAMES] [--others 0.35]

Stages and configurations are those of `results/h200_drafts.json`; of a share of them four other
configurations are taken at random. A record is a kernel: blocks of its parts, bytes of its tensors,
its price by shape, its trace, and microseconds of a launch in a chain of 24 of its like, with and
without dependent launch the faster one. What `fit_traced.py` reads is two such records, of an H200
and an H100, as one. (2026-11-28: measured by a script of the same steps; as this one it has not run
on a GPU.)
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.small.suite import SUITE
from benchmarks.small.timing import Timer
from planner.fuse.saved import part_of
from planner.fuse.schedule import plan_part
from planner.graph.semantics import program_of
from planner.kernels.compile import Compiled, Compilers
from planner.kernels.configs import candidates
from planner.kernels.estimate import launch_us
from planner.kernels.pack import numbers_for, storage_dtype
from planner.kernels.ptx.trace import Trace, trace_of
from planner.kernels.ptx.traced import as_row
from planner.kernels.source import Kernel, Numbers, Part, kernel
from planner.kernels.tiling import shape_of
from planner.ops.nest import Program
from planner.runtime.fused.driver import Driver

_DRAFTS = Path(__file__).parent / "results" / "h200_drafts.json"
_CHAIN, _REPEATS, _UNITS = 24, 10, 132
_ALIGNMENT_BYTES, _MEMORY_BYTES, _SMALL_NUMBERS = 256, 1 << 30, 0x01
_OTHERS = 4
"""Configurations beside the drafted one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A kernel, what is known of it beforehand, and bytes of the tensors it reads and writes."""

    known: dict[str, Any]
    item: Kernel
    sizes: dict[str, int]


def main() -> None:
    """Compiles, follows and times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", help="names by commas; all where not given")
    parser.add_argument("--others", type=float, default=0.35, help="share with other tiles as well")
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    entries = list(listed(arguments.models, arguments.others))
    driver = Driver()
    compilers = Compilers(driver.architecture, os.cpu_count() or 1)
    made = compilers([one.item for one in entries])
    compilers.close()
    jobs = {
        one.item.name: (made[one.item.name], one.known["parts"])
        for one in entries
        if one.item.name in made
    }
    with ProcessPoolExecutor() as pool:
        traces = dict(zip(jobs, pool.map(_traced, jobs.values()), strict=True))
    base = driver.allocate(_MEMORY_BYTES)
    driver.fill(base, _SMALL_NUMBERS, _MEMORY_BYTES)
    records = []
    for one in entries:
        followed = traces.get(one.item.name)
        if followed is None or sum(one.sizes.values()) > _MEMORY_BYTES // 2:
            continue
        us = timed(driver, one, made[one.item.name], base)
        records.append({**one.known, "us": round(us, 3), "trace": as_row(followed)})
    arguments.json.write_text("[\n" + ",\n".join(json.dumps(row) for row in records) + "\n]\n")


def listed(models: str | None, share: float) -> Iterator[Entry]:
    """Kernels as drafted, and in other configurations."""
    rows: dict[tuple[str, int], list[tuple[int, Any]]] = defaultdict(list)
    for number, row in enumerate(json.loads(_DRAFTS.read_text())):
        rows[row["model"], row["batch"]].append((number, row))
    for (model, batch), own in rows.items():
        if models is not None and model not in models.split(","):
            continue
        program = program_of(SUITE[model]("float16", batch=batch))
        numbers = numbers_for(program, "float16")
        drawn = random.Random(5)
        for number, row in own:
            parts = tuple(part_of(program, stage) for stage in row["stages"])
            known = {"model": model, "batch": batch, "row": number}
            yield _entry(program, numbers, parts, {**known, "drafted": True})
            for moved in _others(program, parts, drawn) if drawn.random() < share else ():
                yield _entry(program, numbers, moved, {**known, "drafted": False})


def _others(
    program: Program, parts: Sequence[Part], drawn: random.Random
) -> Iterator[tuple[Part, ...]]:
    first = parts[0]
    shape = shape_of(program, first.stage)
    found = [one for one in candidates(shape, companions=len(parts)) if one != first.tiling.config]
    for config in drawn.sample(found, min(_OTHERS, len(found))):
        yield tuple(plan_part(program, part.stage, config) for part in parts)


def _entry(
    program: Program, numbers: Numbers, parts: Sequence[Part], known: dict[str, Any]
) -> Entry:
    item = kernel(program, tuple(parts), numbers)
    kinds = dict(zip((one.tensor for one in item.parameters), item.types, strict=True))
    sizes = {
        name: program.types[name].size * storage_dtype(kind).itemsize
        for name, kind in kinds.items()
    }
    more = {
        "kind": parts[0].tiling.kind.value,
        "config": parts[0].tiling.config.text,
        "parts": [part.tiling.programs for part in parts],
        "moved": sum(sizes.values()),
        "by_shape": launch_us(program, parts, numbers),
    }
    return Entry({**known, **more}, item, sizes)


def _traced(job: tuple[Compiled, Sequence[int]]) -> Trace | None:
    return trace_of(*job, _UNITS)


def timed(driver: Driver, one: Entry, made: Compiled, base: int) -> float:
    """Microseconds of a launch in a chain of its like."""
    function = driver.load(made.cubin, made.entry, made.shared_size_bytes)
    places, at = {}, base
    for name, size_bytes in one.sizes.items():
        places[name] = at
        at += -(-size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    addresses = [
        places[given.tensor] + given.offset * storage_dtype(kind).itemsize
        for given, kind in zip(one.item.parameters, one.item.types, strict=True)
    ]

    def chained(*, ahead: bool) -> float:
        def queue() -> None:
            for position in range(_CHAIN):
                is_ahead = ahead and made.waits and position > 0
                driver.launch(
                    function,
                    one.item.programs,
                    made.threads,
                    made.shared_size_bytes,
                    [*addresses, 0, 0],
                    ahead=is_ahead,
                )

        graph = driver.capture(queue)
        run = lambda: driver.replay(graph)  # noqa: E731
        timer = Timer(driver, driver.stream)
        taken = timer.device_us(run, cold=False, repeats=_REPEATS) / _CHAIN
        driver.release(graph)
        return taken

    return min(chained(ahead=True), chained(ahead=False))


if __name__ == "__main__":
    main()
