"""Runs of equal launches in a draft that become one with a loop (`planner.kernels.rolled`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from planner.errors import InfoptError
from planner.fuse.drafts import Draft
from planner.fuse.schedule import plan_part
from planner.kernels.arena import aligned
from planner.kernels.pack import storage_dtype
from planner.kernels.rolled import COUNTER_SPACING, MAX_AWAITED, Moves, rolled
from planner.kernels.source import Kernel, Numbers, Parameter, Part, kernel, let_go
from planner.kernels.stage import Stage
from planner.ops.expr import number
from planner.ops.index import Var
from planner.ops.nest import Nest, Program, TensorType

MIN_STEPS = 8
"""Fewer are not worth a kernel that is launched without its predecessor's help."""


@dataclass(slots=True)
class Strips:
    """Which tensor lies behind which, over all runs of a draft."""

    after: dict[str, str] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)

    def allows(self, one: str, other: str) -> bool:
        """Whether `other` may lie right behind `one`."""
        return self.after.get(one, other) == other and self.before.get(other, one) == one

    def take(self, one: str, other: str) -> None:
        """It does."""
        self.after[one], self.before[other] = other, one


@dataclass(frozen=True, slots=True)
class Run:
    """Launches `first` to `last`, the last one included."""

    first: int
    last: int
    moves: Moves


def rolled_up(plan: Draft) -> Draft:
    """The draft with its loops as launches; the draft itself without any. O(launches)."""
    if not plan.loops:
        return plan
    launches = list(plan.launches)
    program, numbers = plan.program, plan.numbers
    zeros = []
    for first, last in reversed(plan.loops):
        moves = _moves(plan, first, last)
        if moves is None:
            raise InfoptError(f"launches {first} to {last} are no loop")
        parts, _ = plan.launches[first]
        name = f"steps done~{first}"
        program, numbers = _with_zeros(program, numbers, name, len(parts) * COUNTER_SPACING)
        zeros.append(plan_part(program, Stage(name, frozenset(), ())))
        every = tuple(p for listed, _ in plan.launches[first : last + 1] for p in listed)
        made = rolled(program, parts, numbers, moves, name)
        launches[first : last + 1] = [(every, made)]
    old = launches[0][1]
    parts = (*launches[0][0], *reversed(zeros))
    item = let_go(kernel(program, parts, numbers), early=old.lets_go_early)
    launches[0] = parts, item
    waiting = plan.waiting | {item.name} if old.name in plan.waiting else plan.waiting
    return replace(
        plan,
        program=program,
        numbers=numbers,
        launches=tuple(launches),
        stages=tuple(part.stage for listed, _ in launches for part in listed),
        waiting=waiting,
        loops=(),
    )


def kept(plan: Draft) -> Draft:
    """The draft with those of its loops that its launches, changed since, still are."""
    return replace(plan, loops=tuple(loop for loop in plan.loops if _is_loop(plan, *loop)))


def _is_loop(plan: Draft, first: int, last: int) -> bool:
    kernels = [plan.launches[at][1] for at in range(first, last + 1)]
    if len({item.name for item in kernels}) > 1:
        return False
    steps = {_step(plan, one, other, Strips()) for one, other in pairwise(kernels)}
    return len(steps) == 1 and None not in steps and _moves(plan, first, last) is not None


def steps_of(plan: Draft) -> dict[int, tuple[tuple[tuple[Part, ...], Kernel], ...]]:
    """Launch of the rolled draft that is a loop -> the launches of the draft it stands for."""
    found, gone = {}, 0
    for first, last in plan.loops:
        found[first - gone] = plan.launches[first : last + 1]
        gone += last - first
    return found


def loops_of(edges: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """First and last launch of each loop, from how launches follow each other."""
    found: list[tuple[int, int]] = []
    for at, edge in enumerate(edges):
        if edge != "loop":
            continue
        begins = edges[at - 1] != "loop"
        found[len(found) if begins else -1 :] = [(at - 1 if begins else found[-1][0], at)]
    return tuple(found)


def _with_zeros(
    program: Program, numbers: Numbers, name: str, size: int
) -> tuple[Program, Numbers]:
    type_ = TensorType("int32", (size,))
    nest = Nest(name, type_, (Var("z", size),), number(0))
    changed = replace(program, nests=(*program.nests, nest), types={**program.types, name: type_})
    return changed, replace(numbers, storage={**numbers.storage, name: "int32"})


# ---------------------------------------------------------------------- runs
def runs(plan: Draft) -> Iterator[Run]:
    """Runs of launches that can be loops, in order."""
    strips = Strips()
    at, end = 1, len(plan.launches)
    while at < end - 1:
        last = _reach(plan, at, strips)
        moves = _moves(plan, at, last) if last - at + 1 >= MIN_STEPS else None
        if moves is None:
            at += 1
            continue
        for strip in moves.strips:
            for one, other in pairwise(strip):
                strips.take(one, other)
        yield Run(at, last, moves)
        at = last + 1


def _reach(plan: Draft, first: int, strips: Strips) -> int:
    """The last launch that moves on from the one before as the second does from the first."""
    name = plan.launches[first][1].name
    before: tuple[int | None, ...] | None = None
    at = first
    while at + 1 < len(plan.launches) and plan.launches[at + 1][1].name == name:
        step = _step(plan, plan.launches[at][1], plan.launches[at + 1][1], strips)
        if step is None or (before is not None and step != before):
            break
        before, at = step, at + 1
    return at


def _step(plan: Draft, one: Kernel, other: Kernel, strips: Strips) -> tuple[int | None, ...] | None:
    """How each address moves: elements, or None for the next of a strip; None for neither."""
    found: list[int | None] = []
    for a, b in zip(one.parameters, other.parameters, strict=True):
        if a.tensor == b.tensor:
            found.append(b.offset - a.offset)
        elif a.offset == b.offset and _may_follow(plan, a.tensor, b.tensor, strips):
            found.append(None)
        else:
            return None
    return tuple(found)


def _may_follow(plan: Draft, one: str, other: str, strips: Strips) -> bool:
    program = plan.program
    fixed = {*program.inputs, *program.outputs, *program.constants}
    same = program.types[one] == program.types[other]
    return one not in fixed and other not in fixed and same and strips.allows(one, other)


def _moves(plan: Draft, first: int, last: int) -> Moves | None:
    """Strides, strips and who waits for whom; None where the steps cannot be one loop."""
    kernels = [plan.launches[at][1] for at in range(first, last + 1)]
    strides: dict[Parameter, int] = {}
    following: dict[str, str] = {}
    for position, parameter in enumerate(kernels[0].parameters):
        listed = [item.parameters[position] for item in kernels]
        if listed[0].tensor == listed[1].tensor:
            strides[parameter] = listed[1].offset - listed[0].offset
            continue
        kind = storage_dtype(plan.numbers.storage[parameter.tensor])
        size_bytes = plan.program.types[parameter.tensor].size * kind.itemsize
        strides[parameter] = aligned(size_bytes) // kind.itemsize
        for a, b in pairwise(listed):
            if following.setdefault(a.tensor, b.tensor) != b.tensor:
                return None
    if len(set(following.values())) != len(following):
        return None
    if any(strides[p] and p.tensor in plan.program.constants for p in strides):
        return None
    awaited = _awaited(plan, first, last)
    if awaited is None:
        return None
    return Moves(strides, tuple(_chains(following)), awaited, last - first + 1)


def _chains(following: dict[str, str]) -> Iterator[tuple[str, ...]]:
    later = set(following.values())
    for start in (name for name in following if name not in later):
        chain = [start]
        while chain[-1] in following:
            chain.append(following[chain[-1]])
        yield tuple(chain)


def _awaited(plan: Draft, first: int, last: int) -> tuple[tuple[int, ...], ...] | None:
    """Part -> parts of which it reads what an earlier step made; None where those are too many."""
    made: dict[str, tuple[int, int]] = {}
    found: list[set[int]] = [set() for _ in plan.launches[first][0]]
    for at in range(first, last + 1):
        parts = plan.launches[at][0]
        for own, part in enumerate(parts):
            found[own] |= {made[name][1] for name in part.stage.reads if name in made}
        for own, part in enumerate(parts):
            made.update(dict.fromkeys(part.stage.makes, (at, own)))
    if any(len(one) > MAX_AWAITED for one in found):
        return None
    return tuple(tuple(sorted(one)) for one in found)
