"""Operators that may not stay as they are: the request pins them to a compressed format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.compress.base import NATIVE, Format
from planner.ir.problem import Option

Bound = Mapping[str, frozenset[Format]]
"""Operator -> the formats that it must take one of."""


def without_others(
    options: Sequence[Option], formats: Mapping[str, Mapping[str, str]], bound: Bound
) -> tuple[Option, ...]:
    """The options that keep every pin; where no option keeps an operator's, that pin is void.

    Args:
        formats: option -> operator -> format; native ones are absent.
    """

    def broken(option: Option) -> set[str]:
        taken = formats[option.name]
        wanted = {op: bound[op] for op in option.ops if op in bound}
        return {op for op, forms in wanted.items() if Format(taken.get(op, NATIVE)) not in forms}

    breaks = {option.name: broken(option) for option in options}
    possible = {op for option in options for op in {*option.ops} - breaks[option.name]}
    return tuple(option for option in options if not breaks[option.name] & possible)
