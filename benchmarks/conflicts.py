"""Infeasible requests for large models: which limits conflict, what is proved, what it took.

    python benchmarks/conflicts.py [--instance bert-2000-8 ...] [--json FILE]

Each instance of `joint_models` gets limits of its own that cannot hold, in three ways: a promised
latency, a price, or a number of devices far below what any plan needs, beside limits that can hold.
Wall clock and processor time, because the former depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic, process_time

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.joint import parse
from benchmarks.joint_models import make
from planner.ir.problem import Limits, Problem
from planner.solve.conflict import conflict


@dataclass(frozen=True, slots=True)
class Record:
    """One request."""

    instance: str
    request: str
    asked: tuple[str, ...]
    conflicting: tuple[str, ...]
    is_minimal: bool
    """Proved by plans."""
    nearest: dict[str, float | None]
    bounds: dict[str, float]
    open: tuple[str, ...]
    seconds: float
    processor_seconds: float


def requests(limits: Limits) -> Iterator[tuple[str, Limits]]:
    """Limits that cannot hold, by name."""
    yield "latency", replace(limits, latency_us=2e4, price_per_hour=32.0)
    yield "price", replace(limits, price_per_hour=4.0, latency_us=2e5, energy_j=1e6)
    yield "devices", replace(limits, devices=1, latency_us=1e6)


def measured(instance: str, name: str, problem: Problem) -> Record:
    """The conflict of one request."""
    started, used = monotonic(), process_time()
    found = conflict(problem)
    return Record(
        instance,
        name,
        tuple(k for k, v in asdict(problem.limits).items() if v is not None),
        found.limits,
        found.is_minimal,
        found.nearest,
        found.bounds,
        found.open,
        round(monotonic() - started, 2),
        round(process_time() - used, 2),
    )


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instance", nargs="+", default=["bert-2000-8"], metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    records = []
    for instance in args.instance:
        problem = make(parse(instance, 30, 0))
        for name, limits in requests(problem.limits):
            records.append(measured(instance, name, replace(problem, limits=limits)))
            one = records[-1]
            word = "minimal" if one.is_minimal else "perhaps fewer"
            print(
                f"{one.instance:14} {one.request:8} of {len(one.asked)} limits: {one.conflicting}"
                f" ({word}) nearest {one.nearest} proved {one.bounds} open {one.open}"
                f" {one.seconds} s ({one.processor_seconds} s of processor)",
                flush=True,
            )
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(each) for each in records], indent=1) + "\n")


if __name__ == "__main__":
    main()
