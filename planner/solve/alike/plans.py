"""From counts to plans: which of the operators that look alike take which option.

Stages, places and forms of tensors stay as some plan has them, so conversions and transfers stay
as well; formats and where weights live are counted anew. What needs room for a while, such as the
buffer of a weight that streams in, is kept apart from its like: buffers of neighbours add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from planner.ir.problem import Option, Problem
from planner.ir.solution import Solution, Stage
from planner.solve.alike.counts import Frame, columns_of, count
from planner.solve.alike.kinds import COST, HELD, Kind, Rows, kinds, undominated
from planner.solve.check import check, priced
from planner.solve.scale.complete import Choice, Completer

TRIES = 6
"""Times that room is taken away after the checker found too little of it."""
INSIDE = 1 - 1e-5
"""Share of a limit that counts may use: the solver's tolerance stays below the rest."""
_ENDS = ("latency_low_us", "latency_expected_us", "latency_high_us")


def first_plan(problem: Problem, place: str, end: int, seconds: float) -> Solution | None:
    """All on one place, each kind with the forms at its ends that counts like best; it need not
    keep any limit."""
    rows = Rows(problem, charged=True)
    frame = Frame((room_of(problem, place),), problem.limits.error, limits_of(problem), end)
    found = kinds(problem, rows, lambda _, option: option.place == place)
    small = [undominated(kind, columns_of(frame)) for kind in found]
    counted = count(small, frame, seconds, 0.01)
    if counted.counts is None:
        return None
    chosen: dict[int, int] = {}
    for kind, numbers in zip(small, counted.counts, strict=True):
        best = _favourite(problem, kind, numbers)
        chosen.update((op, own[best]) for op, own in zip(kind.ops, kind.options, strict=True))
    _without_unmade(problem, found, chosen)
    here = next(each for each in problem.places if each.name == place)
    options = [chosen[op] for op in range(len(problem.ops))]
    nowhere = [-1] * len(options)
    choice = Choice((here,), options, [0] * len(options), nowhere)
    return Completer(problem, 0).complete(choice)


def _without_unmade(problem: Problem, found: Sequence[Kind], chosen: dict[int, int]) -> None:
    """Replaces what needs a state that none of the others makes and nothing converts to."""
    fixed = {state.tensor for change in problem.conversions for state in (change.source,)}
    fixed.update(move.source.tensor for move in problem.transfers)
    made = {*problem.given}
    made.update(state for number in chosen.values() for state in problem.options[number].makes)

    def is_there(number: int) -> bool:
        needs = problem.options[number].needs
        return all(state in made or state.tensor in fixed for state in needs)

    for kind in found:
        for op, own in zip(kind.ops, kind.options, strict=True):
            if not is_there(chosen[op]):
                left = [n for n, number in enumerate(own) if is_there(number)]
                if left:
                    chosen[op] = own[min(left, key=lambda n: kind.rows[n, COST])]


def _favourite(problem: Problem, kind: Kind, numbers: Sequence[int]) -> int:
    """The option that most take, of the forms that most have."""
    forms: dict[object, int] = {}
    own = [problem.options[n] for n in kind.options[0]]
    for option, many in zip(own, numbers, strict=True):
        key = (option.needs, option.makes)
        forms[key] = forms.get(key, 0) + many
    best = max(forms, key=lambda key: forms[key])
    among = [n for n, option in enumerate(own) if (option.needs, option.makes) == best]
    return max(among, key=lambda n: numbers[n])


def recounted(problem: Problem, plan: Solution, end: int, seconds: float) -> Solution | None:
    """The plan with formats and residency chosen anew, where that keeps every limit."""
    totals = priced(problem, plan)
    place = {name: number for number, name in enumerate(problem.ops)}
    options = {option.name: option for option in problem.options}
    now: dict[int, Option] = {}
    stage_of: dict[int, int] = {}
    for number, stage in enumerate(plan.stages):
        for name in stage.chosen:
            op = place[options[name].ops[0]]
            now[op], stage_of[op] = options[name], number
    cells = [[cell for cell in o.latency[0] if cell is not None] for o in now.values()]
    names = ("low_us", "expected_us", "high_us")
    spent = [sum(getattr(row[w], names[end]) for row in cells) for w in range(len(cells[0]))]
    rest = [whole - own for whole, own in zip(getattr(totals, _ENDS[end]), spent, strict=True)]
    latency = tuple(
        None if most is None else most * INSIDE - other
        for most, other in zip(limits_of(problem), rest, strict=True)
    )
    error = None if problem.limits.error is None else problem.limits.error * INSIDE

    def keep(op: int, option: Option) -> bool:
        mine = now[op]
        return (option.place, option.needs, option.makes) == (mine.place, mine.needs, mine.makes)

    rows = Rows(problem, charged=False)
    found = kinds(problem, rows, keep, stage_of.__getitem__)
    rooms = [room_of(problem, stage.place) for stage in plan.stages]
    for _ in range(TRIES):
        frame = Frame(tuple(rooms), error, latency, end)
        small = [undominated(kind, columns_of(frame)) for kind in found]
        counted = count(small, frame, seconds / TRIES, 1e-4)
        if counted.counts is None:
            return None
        chosen = _spread(small, counted.counts)
        made = _renamed(problem, plan, chosen, stage_of, end)
        broken = check(problem, made)
        if not broken:
            return made
        excess = _excess(problem, made)
        if not any(excess):
            return None
        rooms = [room - more for room, more in zip(rooms, excess, strict=True)]
    return None


def _excess(problem: Problem, plan: Solution) -> list[float]:
    """Bytes that are missing on all devices of each stage."""
    sizes = priced(problem, plan).stage_memory_size_bytes
    degrees = {place.name: place.degree for place in problem.places}
    return [
        degrees[stage.place] * max(size - capacity_of(problem, stage.place), 0.0)
        for stage, size in zip(plan.stages, sizes, strict=True)
    ]


def _spread(found: Sequence[Kind], counts: Sequence[Sequence[int]]) -> dict[int, int]:
    """Operator -> its option. What holds much takes even distances, and never two in a row where
    that can be had."""
    chosen: dict[int, int] = {}
    heavy: set[int] = set()
    for kind, numbers in sorted(zip(found, counts, strict=True), key=lambda pair: -sum(pair[1])):
        order = sorted(range(len(numbers)), key=lambda n: -kind.rows[n, HELD])
        lightest = kind.rows[[n for n in order if numbers[n]], HELD].min()
        free = dict(zip(kind.ops, kind.options, strict=True))
        for n in order:
            is_heavy = kind.rows[n, HELD] > lightest
            for op in _apart(list(free), numbers[n], heavy if is_heavy else set()):
                chosen[op] = free.pop(op)[n]
                if is_heavy:
                    heavy.add(op)
    return chosen


def _apart(ops: Sequence[int], many: int, heavy: set[int]) -> list[int]:
    """`many` of the operators at even distances, moved away from neighbours that are heavy."""
    left, taken, near = list(ops), [], set(heavy)
    for goal in np.linspace(0, len(ops) - 1, many + 2)[1:-1] if many else ():
        wanted = ops[round(float(goal))]
        alone = [op for op in left if not {op - 1, op, op + 1} & near]
        best = min(alone or left, key=lambda op: abs(op - wanted))
        left.remove(best)
        taken.append(best)
        if heavy is not None:
            near.add(best)
    return taken


def _renamed(
    problem: Problem, plan: Solution, chosen: dict[int, int], stage_of: dict[int, int], end: int
) -> Solution:
    stages: list[Stage] = []
    for number, stage in enumerate(plan.stages):
        own = sorted(op for op in chosen if stage_of[op] == number)
        names = tuple(problem.options[chosen[op]].name for op in own)
        stages.append(replace(stage, chosen=names))
    names = tuple(name for stage in stages for name in stage.chosen)
    is_uncertain = end != len(_ENDS) - 1
    return replace(
        plan, chosen=names, stages=tuple(stages), is_uncertain=is_uncertain,
        totals=None, objective=(), bound=(), gap=None,
    )  # fmt: skip


def capacity_of(problem: Problem, place: str) -> float:
    """Bytes of one device there that may be used."""
    kind = next(each.device for each in problem.places if each.name == place)
    device = next(each for each in problem.devices if each.name == kind)
    sizes = (device.memory_size_bytes, problem.limits.memory_size_bytes)
    return min((float(size) for size in sizes if size is not None), default=float("inf"))


def room_of(problem: Problem, place: str) -> float:
    """Bytes of all devices there, without what is there whatever is chosen."""
    degree = next(each.degree for each in problem.places if each.name == place)
    fixed = problem.activation_size_bytes + problem.settings[0].size_bytes
    return degree * min(capacity_of(problem, place) - fixed, 1e18)


def limits_of(problem: Problem) -> tuple[float | None, ...]:
    """What C8 leaves for groups, per workload shape."""
    setting, limit = problem.settings[0], problem.limits.latency_us
    return tuple(
        None
        if limit is None
        else limit / setting.tail(shape, is_low=True) - setting.overhead[shape].low_us
        for shape in range(len(problem.shape_weights))
    )
