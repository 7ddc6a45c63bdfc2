"""A Solution's names looked up in its Problem: what runs where, as the checker sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from planner.ir.devices import Device, Place, Store
from planner.ir.problem import Conversion, Option, Problem, Setting, Transfer
from planner.ir.solution import Solution, Stage


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise: the constraint's id, what, and by how much (in its units)."""

    constraint: str
    what: str
    excess: float = 0.0


@dataclass(frozen=True, slots=True)
class Running:
    """What runs on one stage; the whole of a problem without places is one stage."""

    place: Place | None
    device: Device | None
    options: tuple[Option, ...]
    """In the order they run: that of their first operators."""
    positions: tuple[int, ...]
    """Of these first operators, in `Problem.ops`."""
    conversions: tuple[Conversion, ...]
    transfers: tuple[tuple[Transfer, int], ...]
    """With the number of the stage it comes from."""
    stored: dict[str, Store]
    """By option's name: where weights that are not resident live."""

    @property
    def degree(self) -> int:
        """Devices of this stage."""
        return self.place.degree if self.place else 1


@dataclass(frozen=True, slots=True)
class Chosen:
    """Everything that was chosen."""

    stages: tuple[Running, ...]
    setting: Setting
    row: int
    """The setting's number: which row of every latency table counts."""

    @property
    def options(self) -> tuple[Option, ...]:
        """All options, stage after stage."""
        return tuple(option for stage in self.stages for option in stage.options)


class _NamesError(Exception):
    """Names that mean nothing."""


@dataclass(frozen=True, slots=True)
class Names:
    """The problem by name."""

    options: dict[str, Option]
    conversions: dict[str, Conversion]
    transfers: dict[str, Transfer]
    places: dict[str, Place]
    devices: dict[str, Device]
    stores: dict[str, Store]
    position: dict[str, int]


def names_of(problem: Problem) -> Names:
    """Every part of a problem by its name. O(size of the problem)."""
    return Names(
        {option.name: option for option in problem.options},
        {conversion.name: conversion for conversion in problem.conversions},
        {transfer.name: transfer for transfer in problem.transfers},
        {place.name: place for place in problem.places},
        {device.name: device for device in problem.devices},
        {store.name: store for store in problem.stores},
        {name: number for number, name in enumerate(problem.ops)},
    )


def look_up(problem: Problem, solution: Solution, names: Names | None = None) -> Chosen | Violation:
    """What a solution chose; a violation where a name means nothing.

    Args:
        names: the problem's, where they are known: then this is O(size of the plan).
    """
    rows = {setting.name: row for row, setting in enumerate(problem.settings)}
    if solution.setting not in rows:
        return Violation("names", f"unknown setting {solution.setting!r}")
    row = rows[solution.setting]
    known = names or names_of(problem)
    try:
        stages = tuple(_stage(known, stage, problem) for stage in _stages(problem, solution))
        _refuse_different_lists(solution)
    except _NamesError as refusal:
        return Violation("names", str(refusal))
    return Chosen(stages, problem.settings[row], row)


def _stages(problem: Problem, solution: Solution) -> tuple[Stage, ...]:
    if problem.places:
        return solution.stages
    if solution.stages:
        raise _NamesError("stages, but the problem has no places")
    return (Stage("", solution.chosen, solution.conversions),)


def _refuse_different_lists(solution: Solution) -> None:
    """`chosen` and `conversions` of a staged solution are those of its stages."""
    if not solution.stages:
        return
    chosen = Counter(name for stage in solution.stages for name in stage.chosen)
    if chosen != Counter(solution.chosen):
        raise _NamesError("`chosen` is not what the stages run")
    if {name for stage in solution.stages for name in stage.conversions} != set(
        solution.conversions
    ):
        raise _NamesError("`conversions` is not what the stages run")


def _stage(names: Names, stage: Stage, problem: Problem) -> Running:
    for name in _repeated(stage):
        raise _NamesError(f"{name!r} is chosen more than once")
    place = names.places.get(stage.place)
    if place is None and problem.places:
        raise _NamesError(f"unknown place {stage.place!r}")
    known = (
        ("option", stage.chosen, names.options),
        ("conversion", stage.conversions, names.conversions),
        ("transfer", tuple(name for name, _ in stage.transfers), names.transfers),
    )
    for what, used, offered in known:
        for name in used:
            if name not in offered:
                raise _NamesError(f"unknown {what} {name!r}")
    chosen = set(stage.chosen)
    for option, store in stage.stored:
        if option not in chosen or store not in names.stores:
            raise _NamesError(f"the weights of {option!r} cannot be in {store!r}")
    options = [names.options[name] for name in stage.chosen]
    firsts = [min(names.position[op] for op in option.ops) for option in options]
    order = sorted(range(len(options)), key=firsts.__getitem__)
    return Running(
        place,
        names.devices[place.device] if place else None,
        tuple(options[n] for n in order),
        tuple(firsts[n] for n in order),
        tuple(names.conversions[name] for name in stage.conversions),
        tuple((names.transfers[name], source) for name, source in stage.transfers),
        {option: names.stores[store] for option, store in stage.stored},
    )


def _repeated(stage: Stage) -> Iterator[str]:
    lists = (
        stage.chosen,
        stage.conversions,
        tuple(name for name, _ in stage.transfers),
        tuple(option for option, _ in stage.stored),
    )
    for members in lists:
        yield from (name for name, times in Counter(members).items() if times > 1)
