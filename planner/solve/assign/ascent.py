"""The prices that say most: cutting planes in a box that moves with the best prices and shrinks
(boxstep; Marsten, Hogan and Blankenship, Operations Research 23, 1975).

A value that is concave in the prices lies below a plane at each of them; the next prices are those
within a factor of the best ones for which all planes promise most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from planner.solve.data import BoolArray, FloatArray
from planner.solve.lp import LinearProgram, NoVertex, minimise

WIDE, NARROW = 3.0, 1.0005
"""Factors by which prices may differ from the best ones: at first, and at last."""
LEAST = 1e-9
"""Of a price."""
ENOUGH = 2e-6
"""Relative distance of the planes to the best value at which prices count as settled."""


@dataclass(frozen=True, slots=True)
class Plane:
    """A value at some prices, and the plane above all values: slope·prices + offset."""

    prices: FloatArray
    value: float
    slope: FloatArray
    offset: float
    chain: Sequence[BoolArray]
    """The boundaries that cost least at these prices."""


def ascend(
    ask: Callable[[FloatArray], Plane],
    start: FloatArray,
    enough: float,
    rounds: int,
    is_over: Callable[[], bool],
    shares: FloatArray | None = None,
) -> Plane:
    """The best of some evaluations that begin with given prices; stops at a value that is enough.

    Args:
        shares: prices times these sum to one, as they do at the start.
    """
    found = ask(start)
    planes, width = [found], WIDE
    for _ in range(rounds):
        if found.value >= enough or width < NARROW or is_over():
            break
        proposed, hoped = _proposal(planes, found.prices, width, shares)
        if hoped - found.value <= ENOUGH * (abs(found.value) + abs(hoped)):
            break
        planes.append(ask(proposed))
        if planes[-1].value > found.value:
            found = planes[-1]
        else:
            width = width**0.5
    return found


def _proposal(
    planes: Sequence[Plane], center: FloatArray, width: float, shares: FloatArray | None
) -> tuple[FloatArray, float]:
    """The prices within a factor of the best ones that all planes promise most for, and what."""
    slopes = -np.array([plane.slope for plane in planes])
    rows = np.column_stack((slopes, np.ones(len(planes))))
    rhs = np.array([plane.offset for plane in planes])
    if shares is not None:
        rows = np.vstack((rows, np.append(shares, 0.0)))
        rhs = np.append(rhs, 1.0)
    vertex = minimise(
        LinearProgram(
            costs=np.append(np.zeros(len(center)), -1.0),
            matrix=rows,
            rhs=rhs,
            lower=np.append(center / width, -np.inf),
            upper=np.append(center * width, np.inf),
            is_equality=np.arange(len(rhs)) >= len(planes),
        )
    )
    if isinstance(vertex, NoVertex):
        return center, -np.inf
    return np.maximum(vertex.values[:-1], LEAST), float(vertex.values[-1])
