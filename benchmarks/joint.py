"""Joint planning problems of real structures: value, bound, gap and time, growth, and pipelines.

    python benchmarks/joint.py [--instance bert-2000-8 gpt-2000-8 ...] [--options 30]
                               [--time-limit 60] [--gap 0.01] [--seed 0] [--json FILE]
    python benchmarks/joint.py --growth growth.png      time and gap against operators, options and
                                                        devices (needs matplotlib)
    python benchmarks/joint.py --pipelines [bert ...]   joint optimum against every sequential order
                               [--levels fits ...] [--seeds 0 1] [--step-limit 2]

An instance is STRUCTURE-OPERATORS-GPUS; structures are bert, gpt, switch, conformer and resnet.
Costs, options and limits: `joint_models.py`; those of the comparison: `joint_scarcity.py`, its
orders: `joint_pipelines.py`. Every value printed was re-priced by the checker.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.joint_growth import Measured, draw, sizes
from benchmarks.joint_models import STRUCTURES, Case, make
from benchmarks.joint_pipelines import compare
from benchmarks.joint_scarcity import LEVELS, SLICES, instances
from planner.solve.progress import Progress
from planner.solve.solve import solve

if TYPE_CHECKING:
    from planner.ir.problem import Problem

INSTANCES = tuple(f"{name}-2000-8" for name in STRUCTURES)


@dataclass(frozen=True, slots=True)
class Record:
    """One run."""

    instance: str
    problem: str
    value: float | None
    bound: float | None
    gap: float | None
    status: str
    seconds: float
    build_seconds: float
    best_known: float | None
    first_plan_seconds: float | None
    operators: int
    options: int


def parse(name: str, options: int, seed: int) -> Case:
    """An instance by its name.

    Raises:
        SystemExit: the name is not STRUCTURE-OPERATORS-GPUS.
    """
    parts = name.split("-")
    if len(parts) != 3 or parts[0] not in STRUCTURES or not (parts[1] + parts[2]).isdigit():
        known = ", ".join(STRUCTURES)
        raise SystemExit(f"{name!r} is not STRUCTURE-OPERATORS-GPUS with one of {known}")
    return Case(parts[0], int(parts[1]), int(parts[2]), options, seed)


def run(case: Case, time_limit_s: float, gap: float, seed: int) -> Record:
    """Makes and solves one instance."""
    started = monotonic()
    problem: Problem = make(case)
    built = monotonic() - started
    first: list[float] = []

    def hear(progress: Progress) -> None:
        if progress.incumbent is not None and not first:
            first.append(monotonic() - started - built)

    solution = solve(problem, time_limit_s=time_limit_s, gap=gap, seed=seed, reporter=hear)
    return Record(
        f"{case.structure}-{case.ops}-{case.gpus}",
        "joint latency",
        solution.objective[0] if solution.objective else None,
        solution.bound[0] if solution.bound else None,
        solution.gap,
        solution.status.value,
        round(solution.seconds, 2),
        round(built, 2),
        None,
        round(first[0], 2) if first else None,
        len(problem.ops),
        len(problem.options),
    )


def show(record: Record) -> None:
    """One line of the table."""
    gap = "-" if record.gap is None else f"{100 * record.gap:.2f} %"
    value = "-" if record.value is None else f"{record.value:.1f}"
    first = "-" if record.first_plan_seconds is None else f"{record.first_plan_seconds:.1f}"
    print(
        f"{record.instance:18} {record.operators:7} {record.options:8} {value:>14} {gap:>8}"
        f" {record.status:10} {first:>7} {record.seconds:8.1f}",
        flush=True,
    )


def grow(seed: int, time_limit_s: float, gap: float, path: Path, kept: Path | None) -> None:
    """Measures every size of the growth figure and draws it; records are saved as they come."""
    measured: list[Measured] = []
    found: list[dict[str, object]] = []
    for size in sizes(seed):
        record = run(size.case, time_limit_s, gap, seed)
        show(record)
        amount = record.options / record.operators if size.axis == "options" else size.amount
        amount = record.operators if size.axis == "operators" else amount
        point = Measured(size.axis, amount, size.case.structure, record.seconds, record.gap)
        measured.append(point)
        found.append({"axis": size.axis, "amount": round(amount, 2), **asdict(record)})
        save(found, kept)
    draw(measured, path)


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instance", nargs="+", default=list(INSTANCES), metavar="NAME")
    parser.add_argument("--options", type=int, default=30, help="formats: a sixth of this")
    parser.add_argument("--time-limit", type=float, default=60.0, metavar="S")
    parser.add_argument("--gap", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--growth", type=Path, metavar="PICTURE")
    parser.add_argument("--pipelines", nargs="*", choices=tuple(SLICES), metavar="STRUCTURE")
    names = tuple(level.name for level in LEVELS)
    parser.add_argument("--levels", nargs="+", choices=names, default=names, metavar="LEVEL")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1), metavar="N")
    parser.add_argument("--step-limit", type=float, default=2.0, metavar="S")
    args = parser.parse_args()
    if args.pipelines is not None:
        found = []
        chosen = tuple(args.pipelines) or tuple(SLICES)
        for instance in instances(chosen, args.levels, args.seeds):
            problem = instance.make()
            found.append(compare(instance.name, problem, args.time_limit, args.step_limit))
            print(found[-1].line(), flush=True)
            save([asdict(each) for each in found], args.json)
        return
    print(
        "instance               ops  options        value us      gap status       first  seconds"
    )
    if args.growth is not None:
        grow(args.seed, args.time_limit, args.gap, args.growth, args.json)
        return
    records = []
    for name in args.instance:
        records.append(
            run(parse(name, args.options, args.seed), args.time_limit, args.gap, args.seed)
        )
        show(records[-1])
    save([asdict(record) for record in records], args.json)


def save(records: Sequence[dict[str, object]], path: Path | None) -> None:
    """Writes the records where a file was asked for."""
    if path is not None:
        path.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
