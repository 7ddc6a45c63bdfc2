"""A draft as a record: groups, configurations and edges, so that it can be made again anywhere.

What it was made from (program, numbers) is given again when it is read.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from planner.fuse.ahead import as_told
from planner.fuse.build import Draft, drafted
from planner.fuse.schedule import plan_part
from planner.kernels.source import Numbers, Part, let_go
from planner.kernels.stage import Config, Stage
from planner.ops.nest import Program

Record = dict[str, Any]


def as_record(plan: Draft) -> Record:
    """Every launch in order."""
    return {
        "launches": [
            {
                "kernel": item.name,
                "lets_go_early": item.lets_go_early,
                "waits": item.name in plan.waiting,
                "stages": [_stage(part) for part in parts],
            }
            for parts, item in plan.launches
        ],
        "loops": [list(one) for one in plan.loops],
        "remarks": list(plan.remarks),
    }


def _stage(part: Part) -> Record:
    stage = part.stage
    return {
        "root": stage.root,
        "internal": sorted(stage.internal),
        "reads": list(stage.reads),
        "also": list(stage.also),
        "config": asdict(part.tiling.config),
    }


def draft_of(record: Record, program: Program, numbers: Numbers) -> Draft:
    """The draft that was recorded, its kernels generated anew."""
    listed = record["launches"]
    chosen = [tuple(part_of(program, stage) for stage in one["stages"]) for one in listed]
    made = drafted(program, numbers, chosen)
    early = {one["stages"][0]["root"]: bool(one["lets_go_early"]) for one in listed}
    waits = {one["stages"][0]["root"]: bool(one["waits"]) for one in listed}
    launches = tuple(
        (parts, let_go(item, early=early[parts[0].stage.root])) for parts, item in made.launches
    )
    waiting = frozenset(item.name for parts, item in launches if waits[parts[0].stage.root])
    plan = replace(made, launches=launches, waiting=waiting)
    loops = tuple((int(first), int(last)) for first, last in record.get("loops", ()))
    remarks = tuple(str(one) for one in record.get("remarks", ()))
    told = as_told(plan, [one["kernel"] for one in listed])
    return replace(told, loops=loops, remarks=remarks)


def part_of(program: Program, given: Record) -> Part:
    """The stage of a record, in its configuration."""
    stage = Stage(
        given["root"], frozenset(given["internal"]), tuple(given["reads"]), tuple(given["also"])
    )
    return plan_part(program, stage, Config(**given["config"]))
