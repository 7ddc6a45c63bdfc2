"""One decision after another: what a step of a sequential planner sees, and what it fixes.

A step opens one family of decisions. Families decided before stay as they are, those not yet
decided are at their default: fp16, one tensor-parallel stage on all devices of the first type,
resident weights, every operator a kernel of its own. Costs and options are those of the joint
problem, whose options the step's problem filters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from planner.ir.devices import Place
from planner.ir.problem import Conversion, Objective, Option, Problem
from planner.ir.solution import Solution, Stage

FAMILIES = ("compress", "place", "swap", "fuse")
MARK = "#"
"""Between the name of a part and the number of the stage that it was copied for."""


@dataclass(frozen=True, slots=True)
class Step:
    """One decision of a sequential planner."""

    family: str
    keeps_memory: bool
    """Whether the devices' memory is a limit of this step: earlier ones may leave it to later
    ones, which will save some."""
    is_for_size: bool = False
    """Compression for the fewest bytes; otherwise for the least time."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What earlier steps have fixed; None: not yet decided."""

    formats: dict[str, str] | None = None
    stages: tuple[str, ...] | None = None
    """Places, in order; with the next two what placement decides."""
    stage_of: dict[str, int] | None = None
    splits: dict[str, str] | None = None
    stores: dict[str, str] | None = None
    """Of operators whose weights stream."""
    groups: frozenset[tuple[str, ...]] | None = None
    """Operators that run as one kernel."""

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for equal decisions."""
        tables = (self.formats, self.stage_of, self.splits, self.stores)
        frozen = tuple(None if t is None else tuple(sorted(t.items())) for t in tables)
        return (*frozen, self.stages, self.groups)


def plain_name(name: str) -> str:
    """The name of the part that a stage's copy was made from."""
    return name.split(MARK)[0]


def split_of(option: Option) -> str:
    """How an option of `joint_models` is sharded: a group as its first operator."""
    return plain_name(option.name).split("+")[0].split(":")[3]


def posed(problem: Problem, decided: Decided, step: Step) -> Problem:
    """The problem of one step."""
    largest = max(
        (p for p in problem.places if p.device == problem.places[0].device),
        key=lambda place: place.degree,
    )
    stages = decided.stages
    if stages is None and step.family != "place":
        stages = (largest.name,)
    options = [option for option in problem.options if _is_open(problem, option, decided, step)]
    parts = tuple(_with_stores(option, decided) for option in options)
    changes, places = problem.conversions, problem.places
    if stages is not None:
        parts = tuple(_copies(parts, stages, decided.stage_of))
        changes = tuple(_conversion_copies(changes, stages))
        places = _numbered(problem, stages)
    is_streaming = step.family == "swap" or bool(decided.stores)
    devices = problem.devices
    if not step.keeps_memory:
        devices = tuple(replace(device, memory_size_bytes=None) for device in devices)
    objectives = (Objective.MEMORY,) if step.is_for_size else problem.objectives
    return replace(
        problem,
        options=parts,
        conversions=changes,
        places=places,
        devices=devices,
        stages=len(stages) if stages is not None else problem.stages,
        stores=problem.stores if is_streaming else (),
        objectives=objectives,
    )


def _is_open(problem: Problem, option: Option, decided: Decided, step: Step) -> bool:
    """Whether decisions, or defaults of what is undecided, leave an option."""
    if decided.groups is not None:
        grouped = {op for group in decided.groups for op in group}
        if len(option.ops) > 1 and option.ops not in decided.groups:
            return False
        if len(option.ops) == 1 and option.ops[0] in grouped:
            return False
    elif len(option.ops) > 1 and step.family != "fuse":
        return False
    if decided.formats is not None:
        if option.format != decided.formats[option.ops[0]]:
            return False
    elif step.family != "compress" and option.format != problem.options[0].format:
        return False
    return decided.splits is None or split_of(option) == decided.splits[option.ops[0]]


def _with_stores(option: Option, decided: Decided) -> Option:
    """What streams may stream, and nothing else may."""
    if decided.stores is None:
        return option
    found = tuple(dict.fromkeys(decided.stores[op] for op in option.ops if op in decided.stores))
    return replace(option, stores=found)


def _copies(
    parts: tuple[Option, ...], stages: tuple[str, ...], stage_of: dict[str, int] | None
) -> Iterator[Option]:
    """Options for the stages that they may run in: a place of its own for each stage keeps
    operators where they were put."""
    for option in parts:
        for number, place in enumerate(stages):
            is_there = stage_of is None or all(stage_of[op] == number for op in option.ops)
            if option.place == place and is_there:
                mark = f"{MARK}{number}"
                yield replace(option, name=option.name + mark, place=place + mark)


def _conversion_copies(
    changes: tuple[Conversion, ...], stages: tuple[str, ...]
) -> Iterator[Conversion]:
    for change in changes:
        for number, place in enumerate(stages):
            if change.place == place:
                mark = f"{MARK}{number}"
                yield replace(change, name=change.name + mark, place=place + mark)


def _numbered(problem: Problem, stages: tuple[str, ...]) -> tuple[Place, ...]:
    known = {place.name: place for place in problem.places}
    return tuple(
        replace(known[name], name=f"{name}{MARK}{number}") for number, name in enumerate(stages)
    )


def translated(plan: Solution) -> Solution:
    """A step's plan in the names of the joint problem; without certificate."""
    stages = tuple(
        Stage(
            plain_name(stage.place),
            tuple(map(plain_name, stage.chosen)),
            tuple(map(plain_name, stage.conversions)),
            stage.transfers,
            tuple((plain_name(option), store) for option, store in stage.stored),
        )
        for stage in plan.stages
    )
    return Solution(
        plan.status,
        tuple(map(plain_name, plan.chosen)),
        tuple(dict.fromkeys(map(plain_name, plan.conversions))),
        plan.setting,
        stages=stages,
        is_uncertain=plan.is_uncertain,
    )


def fixed(problem: Problem, decided: Decided, step: Step, plan: Solution) -> Decided:
    """What is decided after a step; the plan is in the names of the joint problem."""
    options = {option.name: option for option in problem.options}
    chosen = [(options[name], number) for number, s in enumerate(plan.stages) for name in s.chosen]
    if step.family == "compress":
        return replace(decided, formats={op: o.format for o, _ in chosen for op in o.ops})
    if step.family == "swap":
        stored = [(options[name], store) for s in plan.stages for name, store in s.stored]
        return replace(decided, stores={op: store for o, store in stored for op in o.ops})
    if step.family == "fuse":
        return replace(decided, groups=frozenset(o.ops for o, _ in chosen if len(o.ops) > 1))
    return replace(
        decided,
        stages=tuple(stage.place for stage in plan.stages),
        stage_of={op: number for o, number in chosen for op in o.ops},
        splits={op: split_of(o) for o, _ in chosen for op in o.ops},
    )
