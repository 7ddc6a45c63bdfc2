"""Strategies of a group that no other beats in everything."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from planner.place.price import Priced
from planner.place.strategy import Spread


@dataclass(frozen=True)
class Costed:
    """A strategy at one degree with its price in every format."""

    spread: Spread
    by_format: Mapping[str, Priced]


def undominated(costed: Sequence[Costed]) -> list[Costed]:
    """Strategies that no other with the same ends beats in time, weights and scratch memory."""
    by_ends: dict[Hashable, list[Costed]] = {}
    for each in costed:
        if each.by_format:
            ends = (tuple(each.spread.needs.items()), tuple(each.spread.makes.items()))
            by_ends.setdefault(ends, []).append(each)
    return [
        one
        for same in by_ends.values()
        for n, one in enumerate(same)
        if not any(_beats(other, one, m < n) for m, other in enumerate(same) if m != n)
    ]


def _beats(one: Costed, other: Costed, is_earlier: bool) -> bool:
    """Whether one has every format of the other, is no worse in any, better in one or earlier."""
    if not one.by_format.keys() >= other.by_format.keys():
        return False
    pairs = [
        (_figures(one.by_format[form]), _figures(price)) for form, price in other.by_format.items()
    ]
    no_worse = all(a <= b for left, right in pairs for a, b in zip(left, right, strict=True))
    better = any(a < b for left, right in pairs for a, b in zip(left, right, strict=True))
    return no_worse and (better or is_earlier)


def _figures(price: Priced) -> tuple[float, ...]:
    times = [end for cell in price.latency for end in (cell.low_us, cell.expected_us, cell.high_us)]
    return (*times, price.weight_size_bytes, price.workspace_size_bytes)
