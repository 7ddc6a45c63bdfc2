"""Public device-placement problems (Tarnawski et al., NeurIPS 2020): loads and schedules (C12).

    python benchmarks/placement.py DIR [--problem max-load-contiguous|max-load|latency]
        [--instance NAME] [--time-limit S] [--seed N] [--json FILE]

DIR holds `max_load/*.json` and `latency/*.json` in the format of msr-fiddle/dnn-partitioning, and
perhaps a `README.md` whose tables state best known values. Prints and saves one record an instance
and problem: value, bound, gap, status, seconds, and seconds of reading and building.

Training: operators with `isBackwardNode` follow the forward operators of their colour class, and
only forward operators are contiguous; a colour class without a forward operator takes the place in
the order that its backward edges have when turned round (as the authors' dynamic program does).
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from planner.errors import InfoptError, UsageError
from planner.ir.assignment import Assignment, Contiguity, Crossing, Slot
from planner.ir.devices import Device, Place
from planner.ir.problem import Latency, Objective, Option, Problem, Setting
from planner.solve.solve import solve

FOLDERS = {"max-load-contiguous": "max_load", "max-load": "max_load", "latency": "latency"}
TABLES = {
    "max-load-contiguous": r"^Contiguous max-load",
    "max-load": r"^Non-contiguous max-load",
    "latency": r"^Single-sample latency \(",
}
"""How the README's tables of best known values begin; name and value are their first columns."""


@dataclass(frozen=True, slots=True)
class Record:
    """One solve. Times of the instance in its authors' unit."""

    instance: str
    problem: str
    value: float | None
    bound: float | None
    gap: float | None
    status: str
    seconds: float
    build_seconds: float
    best_known: float | None


def read_instance(path: Path, problem: str) -> Problem:
    """One instance as a `Problem`; a unit of time of the file is a microsecond here.

    Raises:
        UsageError: the file is not of this format.
    """
    try:
        graph = json.loads(path.read_text())
        return build(graph, problem)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"not a placement instance: {error!r}", where=str(path)) from error


def build(graph: dict[str, Any], problem: str) -> Problem:
    """The `Problem` of one parsed instance."""
    nodes = _sorted(graph)
    names = {node["id"]: str(node["id"]) for node in nodes}
    edges = sorted({(edge["sourceId"], edge["destId"]) for edge in graph["edges"]})
    costs = {edge["sourceId"]: float(edge["cost"]) for edge in graph["edges"]}
    is_latency = problem == "latency"
    assignment = Assignment(
        slots=_slots(graph, is_latency),
        crossings=tuple(Crossing(names[i], cost) for i, cost in sorted(costs.items())),
        together=_classes(nodes, names),
        contiguity=_contiguity(problem),
        order=_order(nodes, edges, names),
        is_scheduled=is_latency,
    )
    return Problem(
        ops=tuple(names[node["id"]] for node in nodes),
        edges=tuple((names[a], names[b]) for a, b in edges),
        options=tuple(option for node in nodes for option in _options(node)),
        settings=(Setting("any", (Latency(0.0, 0.0, 0.0),)),),
        objectives=(Objective.LATENCY if is_latency else Objective.PERIOD,),
        places=(Place("accelerator", "accelerator"), Place("cpu", "cpu")),
        devices=(Device("accelerator", math.floor(graph["maxSizePerFPGA"])), Device("cpu")),
        assignment=assignment,
    )


def _contiguity(problem: str) -> Contiguity:
    return Contiguity.FREE if problem == "max-load" else Contiguity.CHAIN


def _sorted(graph: dict[str, Any]) -> list[dict[str, Any]]:
    """Nodes in topological order."""
    after: dict[int, list[int]] = {node["id"]: [] for node in graph["nodes"]}
    waiting = dict.fromkeys(after, 0)
    for edge in graph["edges"]:
        after[edge["sourceId"]].append(edge["destId"])
        waiting[edge["destId"]] += 1
    ready = [node for node in waiting if not waiting[node]]
    found = []
    for node in ready:
        found.append(node)
        for target in after[node]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    if len(found) < len(after):
        raise ValueError("the edges form a cycle")
    by_id = {node["id"]: node for node in graph["nodes"]}
    return [by_id[node] for node in found]


def _slots(graph: dict[str, Any], is_latency: bool) -> tuple[Slot, ...]:
    accelerators = [Slot(f"accelerator {n}", "accelerator") for n in range(graph["maxFPGAs"])]
    if is_latency:
        return (*accelerators, Slot("cpu", "cpu", pays_crossings=False, is_unlimited=True))
    cpus = [Slot(f"cpu {n}", "cpu", pays_crossings=False) for n in range(graph["maxCPUs"])]
    return (*accelerators, *cpus)


def _classes(nodes: list[dict[str, Any]], names: dict[int, str]) -> tuple[tuple[str, ...], ...]:
    classes: dict[Any, list[str]] = {}
    for node in nodes:
        if node.get("colorClass") is not None:
            classes.setdefault(node["colorClass"], []).append(names[node["id"]])
    return tuple(tuple(members) for members in classes.values() if len(members) > 1)


def _order(
    nodes: list[dict[str, Any]], edges: list[tuple[int, int]], names: dict[int, str]
) -> tuple[tuple[str, str], ...] | None:
    """Edges between forward operators, and reversed ones at backward operators on their own."""
    backward = {node["id"] for node in nodes if node.get("isBackwardNode")}
    if not backward:
        return None
    colour = {node["id"]: node.get("colorClass", ("alone", node["id"])) for node in nodes}
    accompanied = {colour[node] for node in colour if node not in backward}
    orphans = {node for node in backward if colour[node] not in accompanied}
    followed = [(a, b) for a, b in edges if a not in backward and b not in backward]
    followed += [
        (b, a)
        for a, b in edges
        if a in backward and b in backward and (a in orphans or b in orphans)
    ]
    return tuple((names[a], names[b]) for a, b in followed)


def _options(node: dict[str, Any]) -> Iterator[Option]:
    name = str(node["id"])
    time = float(node["cpuLatency"])
    yield Option(f"{name} on cpu", (name,), "plain", ((Latency(time, time, time),),), place="cpu")
    if not node["supportedOnFpga"]:
        return
    time = float(node["fpgaLatency"])
    yield Option(
        f"{name} on accelerator",
        (name,),
        "plain",
        ((Latency(time, time, time),),),
        weight_size_bytes=math.ceil(node.get("size", 0)),
        place="accelerator",
    )


def best_known(folder: Path, problem: str) -> dict[str, float]:
    """Values by instance: the table of `README.md` for a problem; empty where there is none."""
    path = folder / "README.md"
    if not path.is_file():
        return {}
    parts = re.split(TABLES[problem], path.read_text(), maxsplit=1, flags=re.MULTILINE)
    table = re.search(r"(?:^\|.*\n)+", parts[-1], re.MULTILINE) if len(parts) > 1 else None
    rows = re.findall(r"^\| *(\S+) *\| *([0-9.]+)", table.group(), re.MULTILINE) if table else []
    return {name: float(value) for name, value in rows}


def measure(
    path: Path, problem: str, time_limit_s: float, seed: int, known: dict[str, float]
) -> Record:
    """Reads and solves one instance, both within the limit."""
    started = monotonic()
    built = read_instance(path, problem)
    build_s = monotonic() - started
    solution = solve(built, time_limit_s=max(time_limit_s - build_s, 0.0), seed=seed)
    name = path.stem
    aliases = (name, name.removesuffix("_inference"))
    return Record(
        instance=name,
        problem=problem,
        value=solution.objective[0] if solution.objective else None,
        bound=solution.bound[0] if solution.bound else None,
        gap=solution.gap,
        status=solution.status.value,
        seconds=monotonic() - started,
        build_seconds=build_s,
        best_known=next((known[alias] for alias in aliases if alias in known), None),
    )


def _paths(folder: Path, problem: str, instance: str | None) -> list[Path]:
    inside = folder / FOLDERS[problem]
    paths = sorted((inside if inside.is_dir() else folder).rglob("*.json"))
    if instance is None:
        return paths
    wanted = {instance, f"{instance}_inference", f"{instance}.json"}
    return [path for path in paths if path.stem in wanted or path.name in wanted]


def _line(record: Record) -> str:
    def text(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return (
        f"{record.instance:<28} {record.problem:<20} {record.status:<10}"
        f" value {text(record.value, '.6f'):>12} bound {text(record.bound, '.6f'):>12}"
        f" gap {text(record.gap, '.2e'):>8} best known {text(record.best_known, '.6f'):>12}"
        f" {record.seconds:7.2f} s (build {record.build_seconds:.2f} s)\n"
    )


def main() -> int:
    """Prints one line a solve; `--json FILE` writes the records."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--problem", choices=tuple(FOLDERS))
    parser.add_argument("--instance")
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    records = []
    try:
        for problem in [arguments.problem] if arguments.problem else FOLDERS:
            known = best_known(arguments.folder, problem)
            for path in _paths(arguments.folder, problem, arguments.instance):
                record = measure(path, problem, arguments.time_limit, arguments.seed, known)
                records.append(asdict(record))
                sys.stdout.write(_line(record))
                sys.stdout.flush()
    except InfoptError as error:
        sys.stderr.write(f"{error.text}\n")
        return error.exit_code
    if not records:
        sys.stderr.write(f"no instance found in {arguments.folder}\n")
        return 2
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
