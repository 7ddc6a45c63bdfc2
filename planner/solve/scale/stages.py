"""Sequences of places that a pipeline's stages may have."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from planner.ir.problem import Problem


def sequences(problem: Problem) -> Iterator[tuple[int, ...]]:
    """Sequences of places worth trying: one place repeated, or one after another place."""
    places = problem.places
    counts = range(1, problem.stages + 1)
    for k, n in product(range(len(places)), counts):
        if is_affordable(problem, (k,) * n):
            yield (k,) * n
    for a, b in product(range(len(places)), repeat=2):
        if a == b:
            continue
        for n, m in product(counts, counts):
            found = (a,) * n + (b,) * m
            if n + m <= problem.stages and is_affordable(problem, found):
                yield found


def is_affordable(problem: Problem, sequence: tuple[int, ...]) -> bool:
    """C11: counts by type, devices in all, price."""
    limits, places = problem.limits, problem.places
    devices = {device.name: device for device in problem.devices}
    used: dict[str, int] = {}
    for k in sequence:
        used[places[k].device] = used.get(places[k].device, 0) + places[k].degree
    if any((count := devices[name].count) is not None and n > count for name, n in used.items()):
        return False
    price = sum(devices[name].price_per_hour * n for name, n in used.items())
    total = sum(used.values())
    within = limits.price_per_hour is None or price <= limits.price_per_hour
    return within and (limits.devices is None or total <= limits.devices)
