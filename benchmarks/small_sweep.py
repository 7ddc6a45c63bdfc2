"""Every configuration of the kernels of small models on a GPU: whether it agrees, what it takes.

    python benchmarks/small_sweep.py conformer-chunk minilm-32 --json FILE

A record is a kernel in one configuration: microseconds of a launch in a chain of its like, letting
go late and early, and whether it makes what the first configuration makes of the same random memory
(`planner.fuse.live`). A kernel that writes elsewhere ends the process: the record before it is the
last one. (2026-11-27: what it does was measured by two scripts; as one it has not run on a GPU.)
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.small.suite import SUITE
from planner.fuse.build import Draft, draft
from planner.fuse.live import Live
from planner.fuse.schedule import plan_part
from planner.graph.semantics import program_of
from planner.kernels.compile import Compilers
from planner.kernels.configs import candidates
from planner.kernels.source import Kernel, Part, kernel, let_go
from planner.kernels.tiling import shape_of
from planner.runtime.fused.driver import Driver

_CHAIN = 40
"""Launches in a row: enough that graph start and events vanish."""


def main() -> None:
    """Sweeps the models one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", choices=list(SUITE), metavar="MODEL")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--kernels", type=int, default=10, help="the most frequent ones, a model")
    parser.add_argument("--json", type=Path, help="write records here")
    arguments = parser.parse_args()
    driver = Driver()
    compilers = Compilers(driver.architecture, os.cpu_count() or 1)
    records: list[dict[str, Any]] = []
    for name in arguments.models:
        plan = draft(program_of(SUITE[name]("float16", batch=arguments.batch)), "float16")
        for row in swept(plan, driver, compilers, arguments.kernels):
            records.append({"model": name, "batch": arguments.batch, **row})
            print(json.dumps(records[-1]), flush=True)
            if arguments.json is not None:
                arguments.json.write_text(json.dumps(records))
    compilers.close()


def swept(plan: Draft, driver: Driver, compilers: Compilers, most: int) -> Iterator[dict[str, Any]]:
    """Records of the most frequent kernels of a draft."""
    counts = Counter(item.name for item in plan.kernels)
    launches = {item.name: (parts, item) for parts, item in reversed(plan.launches)}
    listed = [launches[name] for name, _ in counts.most_common(most)]
    rows = [(parts, item, *row) for parts, item in listed for row in _ways(plan, parts)]
    made = compilers([one for _, item, _, pair in rows for one in (item, *pair)])
    live = Live(driver, plan)
    live.load(made)
    for parts, item, text, pair in rows:
        if not live.knows([item, *pair]):
            continue
        shape = shape_of(plan.program, parts[0].stage)
        yield {
            "root": parts[0].stage.root,
            "parts": len(parts),
            "count": counts[item.name],
            "kind": shape.kind.value,
            "m": shape.m,
            "n": shape.n,
            "depth": shape.depth,
            "beside": shape.beside,
            "config": text,
            "agrees": all(live.agrees(item, one) for one in pair),
            **{_edge(one): round(live.graph_us([one] * _CHAIN) / _CHAIN, 3) for one in pair},
        }
    live.close()


def _ways(plan: Draft, parts: Sequence[Part]) -> Iterator[tuple[str, tuple[Kernel, Kernel]]]:
    """A launch in each configuration of its first part, letting go late and early."""
    shape = shape_of(plan.program, parts[0].stage)
    first = parts[0].tiling.config
    for config in dict.fromkeys((first, *candidates(shape, companions=len(parts)))):
        moved = tuple(plan_part(plan.program, part.stage, config) for part in parts)
        made = kernel(plan.program, moved, plan.numbers)
        yield config.text, (made, let_go(made, early=not made.lets_go_early))


def _edge(item: Kernel) -> str:
    return "early" if item.lets_go_early else "late"


if __name__ == "__main__":
    main()
