"""Intra-operator sharding: instances of the ASPLOS 2025 / EuroSys 2025 contest, or like them.

    python benchmarks/sharding.py DIR [--instance NAME] [--time-limit S] [--seed N] [--json FILE]

Reads every `*.json` and `*.json.gz` of DIR in the contest's format (google/iopddl) and solves it
with `planner.solve.pairwise`. Without `--time-limit` each instance gets its official limit, as the
table in DIR's README.md states it (reading included), else 60 s; best known costs come from the
same table. Every answer is evaluated again by plain arithmetic on the raw problem.

A record of `--json`: instance, problem, value, bound, gap, status, seconds (all of it, reading
included), build_seconds (reading and presolve), best_known, peak_size_bytes, hit_time_limit.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from planner.errors import InfoptError, UsageError
from planner.solve.data import IntArray
from planner.solve.pairwise.data import FORBIDDEN, Pairwise
from planner.solve.pairwise.solve import PairwiseSolution, solve_pairwise
from planner.solve.progress import Progress

INFINITE = 10**18
"""What the format writes for a strategy or pair that is forbidden."""
LIMIT_S = 60.0
"""Where neither the command line nor README.md says otherwise: the contest's shortest."""
FINISH_S, FINISH_SHARE = 1.0, 0.1
"""Kept back from the limit for the way back, the check and printing: a share of it at most."""


@dataclass(frozen=True, slots=True)
class Known:
    """What README.md says of an instance."""

    limit_s: float | None = None
    best: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One instance."""

    instance: str
    problem: str
    value: int | None
    bound: float | None
    gap: float | None
    status: str
    seconds: float
    build_seconds: float
    best_known: int | None
    peak_size_bytes: int
    hit_time_limit: bool


def read(path: Path) -> Pairwise:
    """An instance of the contest's format.

    Raises:
        UsageError: the file is not of this format.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as handle:
            problem = json.load(handle)["problem"]
        return _problem(problem)
    except (OSError, EOFError, KeyError, TypeError, ValueError, OverflowError, IndexError) as error:
        raise UsageError(
            f"not an instance of the contest's format ({type(error).__name__}: {error})",
            where=str(path),
            fix="JSON with problem.nodes and problem.edges, as google/iopddl describes it",
        ) from error


def _problem(problem: dict[str, Any]) -> Pairwise:
    nodes, edges = problem["nodes"], problem.get("edges", {"nodes": [], "costs": []})
    sizes = np.array([len(row) for row in nodes["costs"]], dtype=np.int64)
    usages = nodes["usages"]
    if [len(row) for row in usages] != sizes.tolist():
        raise ValueError("usages and costs differ in length")
    ends = np.array(edges["nodes"], dtype=np.int64).reshape(-1, 2)
    costs, pairs = _costs(nodes["costs"]), _costs(edges["costs"])
    is_loop = ends[:, 0] == ends[:, 1]
    if is_loop.any():
        raise ValueError(f"edge {int(is_loop.argmax())} joins a node with itself")
    limit = problem.get("usage_limit")
    return Pairwise(
        sizes,
        costs,
        ends,
        pairs,
        np.arange(len(sizes)),
        np.array(nodes["intervals"], dtype=np.int64).reshape(-1, 2),
        np.fromiter(chain.from_iterable(usages), dtype=np.int64),
        None if limit is None else int(limit),
    )


def _costs(rows: Iterable[Sequence[int]]) -> IntArray:
    found = np.fromiter(chain.from_iterable(rows), dtype=np.int64)
    found[found >= INFINITE] = FORBIDDEN
    return found


def known(folder: Path) -> dict[str, Known]:
    """Official limits and best costs by instance, from the table of the folder's README.md."""
    try:
        lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    header: list[str] = []
    found = {}
    for row in rows:
        if row[0].lower() == "instance":
            header = [cell.lower() for cell in row]
        elif header and len(row) == len(header):
            cells = dict(zip(header, row, strict=True))
            limit = _number(cells, "limit", r"([\d.]+)\s*min")
            best = _number(cells, "best", r"(\d[\d,]*)")
            found[row[0]] = Known(None if limit is None else 60 * limit, best and int(best))
    return found


def _number(cells: dict[str, str], title: str, pattern: str) -> float | None:
    for name, cell in cells.items():
        match = re.search(pattern, cell) if title in name else None
        if match:
            return float(match[1].replace(",", ""))
    return None


def _name(path: Path) -> str:
    """`asplos-2025-iopddl-B.json.gz` -> `asplos-2025-iopddl-B`."""
    return path.name.removesuffix(".gz").removesuffix(".json")


def _facts(name: str, table: dict[str, Known]) -> Known:
    return table.get(name) or table.get(name.rpartition("-")[2]) or Known()


def _report(progress: Progress) -> None:
    gap = "" if progress.gap is None else f", gap {progress.gap:.2%}"
    cost = "no plan" if progress.incumbent is None else f"{progress.incumbent:,.0f}"
    print(
        f"  {progress.seconds:6.1f} s  {cost}, bound {progress.bound:,.0f}{gap}"
        f"  ({progress.strategy})",
        file=sys.stderr,
    )


def run(path: Path, facts: Known, time_limit_s: float | None, seed: int, verbose: bool) -> Record:
    """Reads, solves, evaluates."""
    started = perf_counter()
    problem = read(path)
    read_s = perf_counter() - started
    limit_s = time_limit_s if time_limit_s is not None else facts.limit_s or LIMIT_S
    left_s = max(limit_s - read_s - min(FINISH_S, FINISH_SHARE * limit_s), 0.0)
    solution = solve_pairwise(
        problem, time_limit_s=left_s, seed=seed, reporter=_report if verbose else None
    )
    seconds = perf_counter() - started
    return _record(_name(path), solution, facts, seconds, read_s + solution.presolve_seconds)


def _record(
    name: str, solution: PairwiseSolution, facts: Known, seconds: float, build_s: float
) -> Record:
    return Record(
        instance=name,
        problem="sharding",
        value=solution.cost,
        bound=solution.bound if math.isfinite(solution.bound) else None,
        gap=solution.gap,
        status=solution.status.value,
        seconds=round(seconds, 3),
        build_seconds=round(build_s, 3),
        best_known=facts.best,
        peak_size_bytes=solution.peak,
        hit_time_limit=solution.hit_time_limit,
    )


def line(record: Record) -> str:
    """One row of the table."""
    ratio = record.best_known / record.value if record.best_known and record.value else None
    cells = (
        f"{record.instance:24}",
        f"{record.value:>20,}" if record.value is not None else f"{'-':>20}",
        f"{record.best_known:>20,}" if record.best_known else f"{'-':>20}",
        f"{ratio:8.4f}" if ratio else f"{'-':>8}",
        f"{record.gap:9.4%}" if record.gap is not None else f"{'-':>9}",
        f"{record.status:10}",
        f"{record.build_seconds:7.1f}",
        f"{record.seconds:7.1f}",
    )
    return "  ".join(cells)


def _paths(folder: Path, names: Sequence[str] | None) -> list[Path]:
    paths = sorted(p for p in folder.iterdir() if p.name.endswith((".json", ".json.gz")))
    if names is None:
        found = paths
    else:
        found = [p for p in paths if _name(p) in names or _name(p).rpartition("-")[2] in names]
    if not found:
        known_names = ", ".join(_name(p) for p in paths) or "none"
        raise UsageError(
            "no such instance", where=str(folder), fix=f"instances here: {known_names}"
        )
    return found


def main() -> int:
    """Parses, runs, prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--instance", action="append", help="name, or its last part (repeats)")
    parser.add_argument("--time-limit", type=float, metavar="S", help="instead of the official one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--verbose", action="store_true", help="progress on stderr")
    arguments = parser.parse_args()
    try:
        return _run_all(arguments)
    except (InfoptError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, InfoptError) else 2


def _run_all(arguments: argparse.Namespace) -> int:
    table = known(arguments.folder)
    records = []
    titles = ("instance", "cost", "best known", "best/own", "gap", "status", "build s", "total s")
    widths = (-24, 20, 20, 8, 9, -10, 7, 7)
    print(
        "  ".join(
            f"{t:<{-w}}" if w < 0 else f"{t:>{w}}" for t, w in zip(titles, widths, strict=True)
        )
    )
    for path in _paths(arguments.folder, arguments.instance):
        facts = _facts(_name(path), table)
        record = run(path, facts, arguments.time_limit, arguments.seed, arguments.verbose)
        records.append(record)
        print(line(record), flush=True)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps([asdict(r) for r in records], indent=1) + "\n")
    ratios = [r.best_known / r.value if r.value else 0.0 for r in records if r.best_known]
    if ratios:
        print(f"mean of best known / own: {math.fsum(ratios) / len(ratios):.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
