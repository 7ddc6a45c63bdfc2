"""Solve time against size: synthetic one-device problems of 200, 2,000 and 20,000 operators.

    python benchmarks/solve_scale.py [--ops 200 2000 20000] [--options 6] [--settings 4]
                                     [--time-limit 120] [--json FILE]

Each problem is a chain with skip connections; per operator a plain and several compressed formats
whose speed differs by setting, conversions between forms of each tensor, fused pairs, an error
budget at 30 % and a memory limit at 60 % of what full compression or none would use.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from planner.ir.problem import (
    Conversion,
    Latency,
    Limits,
    Objective,
    Option,
    Problem,
    Setting,
    State,
)
from planner.solve.progress import Progress
from planner.solve.solve import solve

FORMATS = (("fp32", 1.0, 4, 0.0), ("fp16", 0.8, 2, 1e-7), ("int8", 0.5, 1, 1e-5))
WEIGHT_ONLY = (("int8_wo", 0.85, 1, 4e-6), ("int4_wo", 0.7, 0.5, 3e-5))


@dataclass(frozen=True, slots=True)
class Record:
    """One run."""

    ops: int
    options: int
    settings: int
    status: str
    objective_us: float | None
    bound_us: float | None
    gap: float | None
    first_plan_s: float | None
    seconds: float
    solver: str


def _latency(expected_us: float) -> Latency:
    return Latency(0.95 * expected_us, expected_us, 1.05 * expected_us)


def _row(rng: random.Random, base_us: float, settings: int) -> tuple[tuple[Latency, ...], ...]:
    return tuple(
        (_latency(base_us * (1 + 0.1 * s) * rng.uniform(0.9, 1.1)),) for s in range(settings)
    )


def _options(rng: random.Random, op: int, sources: list[int], settings: int) -> list[Option]:
    base_us, params, harm = (
        rng.lognormvariate(3, 1),
        rng.randrange(10**4, 10**6),
        rng.expovariate(1),
    )
    found = []
    for label, factor, size, error in (*FORMATS, *WEIGHT_ONLY):
        form = "q8" if label == "int8" else "plain"
        found.append(
            Option(
                f"op{op}:{label}",
                (f"op{op}",),
                label,
                _row(rng, base_us * factor, settings),
                needs=tuple(State(f"t{source}", form) for source in sources),
                makes=(State(f"t{op}", form),),
                weight_size_bytes=int(params * size),
                workspace_size_bytes=rng.randrange(10**5),
                error=error * harm,
            )
        )
    return found


def _fused(rng: random.Random, first: Option, second: Option, settings: int) -> Option:
    """Two neighbours in one kernel, 15 % faster than apart."""
    base = [
        0.85 * (a[0].expected_us + b[0].expected_us)
        for a, b in zip(first.latency, second.latency, strict=True)
        if a[0] and b[0]
    ]
    inner = set(first.makes)
    return Option(
        f"{first.name}+{second.name}",
        (*first.ops, *second.ops),
        first.format,
        tuple((_latency(us * rng.uniform(0.95, 1.05)),) for us in base[:settings]),
        needs=(*first.needs, *(state for state in second.needs if state not in inner)),
        makes=(*first.makes, *second.makes),
        weight_size_bytes=first.weight_size_bytes + second.weight_size_bytes,
        error=first.error + second.error,
    )


def generate(ops: int, options: int = 6, settings: int = 4, seed: int = 0) -> Problem:
    """A problem of the given size; `options` per operator counts formats and fused pairs."""
    rng = random.Random(seed)
    sources = [[op - 1] + ([op - 3] if op >= 3 and op % 4 == 0 else []) for op in range(ops)]
    sources[0] = []
    per_op = [_options(rng, op, sources[op], settings)[: options - 1] for op in range(ops)]
    found = [option for members in per_op for option in members]
    for op in range(0, ops - 1, 2):
        found += [
            _fused(rng, a, b, settings)
            for a, b in zip(per_op[op], per_op[op + 1], strict=True)
            if a.format in ("fp32", "int8")
        ]
    conversions = [
        Conversion(
            f"t{op}:{a}->{b}", State(f"t{op}", a), State(f"t{op}", b), _row(rng, 2.0, settings)
        )
        for op in range(ops)
        for a, b in (("plain", "q8"), ("q8", "plain"))
    ]
    heaviest = sum(max(o.weight_size_bytes for o in members) for members in per_op)
    worst = sum(max(o.error for o in members) for members in per_op)
    return Problem(
        ops=tuple(f"op{op}" for op in range(ops)),
        edges=tuple((f"op{s}", f"op{op}") for op in range(ops) for s in sources[op]),
        options=tuple(found),
        settings=tuple(
            Setting(f"s{s}", (_latency(5.0),), tail_factors=(1.1,), price_per_hour=1.0)
            for s in range(settings)
        ),
        conversions=tuple(conversions),
        wanted=(State(f"t{ops - 1}", "plain"),),
        limits=Limits(error=0.3 * worst, memory_size_bytes=int(0.6 * heaviest)),
        objectives=(Objective.LATENCY, Objective.ERROR),
    )


def measure(ops: int, options: int, settings: int, time_limit_s: float) -> Record:
    """Generates and solves one problem."""
    problem = generate(ops, options, settings)
    first: list[float] = []

    def note(progress: Progress) -> None:
        first.append(progress.seconds)

    solution = solve(problem, time_limit_s=time_limit_s, reporter=note)
    return Record(
        ops=ops,
        options=len(problem.options),
        settings=settings,
        status=solution.status.value,
        objective_us=solution.objective[0] if solution.objective else None,
        bound_us=solution.bound[0] if solution.bound else None,
        gap=solution.gap,
        first_plan_s=first[0] if first else None,
        seconds=solution.seconds,
        solver=solution.solver,
    )


def main() -> None:
    """Prints one line a size; `--json FILE` writes the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ops", type=int, nargs="+", default=[200, 2000, 20000])
    parser.add_argument("--options", type=int, default=6)
    parser.add_argument("--settings", type=int, default=4)
    parser.add_argument("--time-limit", type=float, default=120.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    records = []
    for ops in arguments.ops:
        record = measure(ops, arguments.options, arguments.settings, arguments.time_limit)
        records.append(asdict(record))
        gap = "-" if record.gap is None else f"{record.gap:.2e}"
        sys.stdout.write(
            f"{record.ops:>6} ops {record.options:>7} options {record.status:<9} gap {gap}"
            f"  first plan {record.first_plan_s or 0:.2f} s  total {record.seconds:.2f} s\n"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    main()
