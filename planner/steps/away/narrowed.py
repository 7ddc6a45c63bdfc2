"""The one Problem with fewer devices, other limits, or only some of its options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from planner.ir.problem import Limits, Option, Problem
from planner.place.tied import is_tied, tied_needs


def narrowed(
    problem: Problem, limits: Limits, keep: Callable[[Option], bool] | None = None
) -> Problem:
    """The problem with other limits, places that these allow, and only some options."""
    devices = limits.devices or 1
    there = {place.name for place in problem.places if place.degree <= devices}
    options = tuple(
        option
        for option in problem.options
        if option.place in there and (keep is None or keep(option))
    )
    made = {*problem.given, *(state for option in options for state in option.makes)}
    options = tuple(
        option for option in options if not is_tied(option) or made >= tied_needs(option)
    )
    conversions = tuple(
        each for each in problem.conversions if each.place in there and each.source in made
    )
    sent = made | {each.target for each in conversions}
    transfers = tuple(each for each in problem.transfers if each.source in sent)
    types = tuple(replace(device, count=devices) for device in problem.devices)
    return replace(
        problem,
        options=options,
        limits=limits,
        devices=types,
        stages=min(problem.stages, devices),
        places=tuple(place for place in problem.places if place.name in there),
        conversions=conversions,
        transfers=transfers if devices > 1 else (),
        stores=tuple(store for store in problem.stores if store.extra_devices < devices),
    )
