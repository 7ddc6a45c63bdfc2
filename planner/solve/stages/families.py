"""Families of decisions: formats, groups, streams and homes of operators, kept or free.

A part of a problem keeps some families as they were decided and leaves the others free; all its
plans are plans of the problem. Planning one family after another walks from part to part, and so
do neighbourhoods of a plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from planner.ir.devices import Place
from planner.ir.problem import Option, Problem
from planner.ir.solution import Solution
from planner.solve.stages.model import Homes


class Family(StrEnum):
    """What is decided of an operator."""

    FORMAT = "format"
    GROUP = "group"
    """Which operators run as one kernel."""
    STREAM = "stream"
    """From where its weights may stream; whether they do stays open."""
    HOME = "home"
    """Its stage, and the places of all stages; shardings stay open."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What holds for each operator. An operator that is computed more than once has several."""

    formats: dict[str, set[str]]
    groups: set[tuple[str, ...]]
    streams: dict[str, set[str]]
    """Stores, of those operators that stream."""
    homes: Homes | None = None
    sequence: tuple[int, ...] | None = None
    """Numbers of the stages' places; None: open, as homes are."""


@dataclass(frozen=True, slots=True)
class Part:
    """A problem with fewer choices."""

    problem: Problem
    sequence: tuple[int, ...] | None = None
    homes: Homes | None = None


def decided(problem: Problem, plan: Solution) -> Decided:
    """What a plan has decided."""
    options = {option.name: option for option in problem.options}
    numbers = {place.name: k for k, place in enumerate(problem.places)}
    formats: dict[str, set[str]] = {}
    streams: dict[str, set[str]] = {}
    homes: dict[str, frozenset[int]] = {}
    for p, stage in enumerate(plan.stages):
        for option in (options[name] for name in stage.chosen):
            for op in option.ops:
                formats.setdefault(op, set()).add(option.format)
                homes[op] = homes.get(op, frozenset()) | {p}
        for name, store in stage.stored:
            for op in options[name].ops:
                streams.setdefault(op, set()).add(store)
    groups = {options[name].ops for name in plan.chosen}
    sequence = tuple(numbers[stage.place] for stage in plan.stages)
    return Decided(formats, groups, streams, homes, sequence)


def undecided(problem: Problem) -> Decided:
    """Before anything is decided: the least error, every operator alone, nothing streams."""
    formats: dict[str, set[str]] = {}
    errors: dict[str, float] = {}
    for option in problem.options:
        op = option.ops[0]
        if len(option.ops) == 1 and option.error < errors.get(op, float("inf")):
            formats[op], errors[op] = {option.format}, option.error
    return Decided(formats, {(op,) for op in problem.ops}, {})


def kept(problem: Problem, what: Decided, families: Collection[Family]) -> Part:
    """The problem with some families as decided."""
    options = problem.options
    if Family.FORMAT in families:
        options = tuple(o for o in options if _has_format(o, what))
    if Family.GROUP in families:
        options = tuple(o for o in options if o.ops in what.groups)
    if Family.STREAM in families:
        options = tuple(bound(o, what.streams) for o in options)
    posed = with_options(problem, options)
    return Part(posed, what.sequence, what.homes) if Family.HOME in families else Part(posed)


def around(problem: Problem, plan: Solution, free: Collection[str]) -> Part:
    """The problem with all operators but some as a plan has them."""
    what, chosen = decided(problem, plan), set(plan.chosen)
    options = (
        option if is_free else bound(option, what.streams)
        for option in problem.options
        if (is_free := set(option.ops) <= set(free)) or option.name in chosen
    )
    homes = {op: stages for op, stages in (what.homes or {}).items() if op not in free}
    return Part(with_options(problem, options), what.sequence, homes)


def alone(problem: Problem, place: Place) -> Problem | None:
    """The problem with one stage at one place; None where an operator cannot run there."""
    options = tuple(o for o in problem.options if o.place in (None, place.name))
    if {name for option in options for name in option.ops} != set(problem.ops) or problem.pairs:
        return None
    return replace(
        with_options(problem, options),
        conversions=tuple(c for c in problem.conversions if c.place in (None, place.name)),
        places=(place,),
        stages=1,
        transfers=(),
    )


def with_options(problem: Problem, options: Iterable[Option]) -> Problem:
    """The problem with some of its options."""
    left = tuple(options)
    names = {option.name for option in left}
    forbidden = tuple(cut for cut in problem.forbidden if cut <= names)
    return replace(problem, options=left, forbidden=forbidden)


def bound(option: Option, streams: dict[str, set[str]]) -> Option:
    """An option that may stream only from where its operators do."""
    stores = dict.fromkeys(store for op in option.ops for store in sorted(streams.get(op, ())))
    allowed = tuple(name for name in stores if option.stores is None or name in option.stores)
    return option if option.stores == allowed else replace(option, stores=allowed)


def _has_format(option: Option, what: Decided) -> bool:
    return option.format in what.formats.get(option.ops[0], ())
