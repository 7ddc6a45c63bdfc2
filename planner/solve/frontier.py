"""The frontier of three objectives: boxes in the plane of the last two.

Kirlik and Sayın, "A new algorithm for generating all nondominated solutions of multiobjective
discrete optimization problems", EJOR 232 (2014). Minimising (f1, f2, f3) lexicographically under
f2 < u2 and f3 < u3 gives an efficient point or shows that none lies below the corner u. A point y
splits every box it lies in at y2 and y3, and no other point hides in [y2, u2) x [y3, u3). The box
of the largest area is searched next, so that few points spread well; when no box is left the
frontier is complete.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.ir.problem import Objective, Problem
from planner.ir.solution import Solution
from planner.solve.bounded import below, bounded

Solver = Callable[[Problem, tuple[Objective, ...]], Solution]
Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Box:
    """low <= (f2, f3) < high may still hold efficient points."""

    low: Pair
    high: Pair

    def area(self, scale: Pair) -> float:
        """Relative to the largest values seen, beyond which nothing counts."""
        sides = (
            max(min(high, size) - low, 0.0) / size
            for low, high, size in zip(self.low, self.high, scale, strict=True)
        )
        return math.prod(sides)

    def lies_in(self, low: Pair, high: Pair) -> bool:
        """Whether every point of it has low <= point < high."""
        above = low[0] <= self.low[0] and low[1] <= self.low[1]
        return above and self.high[0] <= high[0] and self.high[1] <= high[1]


def three(
    problem: Problem, axes: tuple[Objective, ...], points: int, solver: Solver
) -> tuple[list[Solution], bool]:
    """At most `points` efficient plans, and whether these are all."""
    found: list[Solution] = []
    boxes = [_Box((0.0, 0.0), (math.inf, math.inf))]
    while boxes and len(found) < points:
        tops = [max((s.objective[n] for s in found), default=1.0) for n in (1, 2)]
        scale = (tops[0] * 1.01 + 1e-12, tops[1] * 1.01 + 1e-12)
        box = max(boxes, key=lambda one: (one.area(scale), one.low))
        point = solver(_under(problem, axes, box.high), axes)
        if point.totals is None:
            boxes = _without(boxes, (-math.inf, -math.inf), box.high)
            continue
        y = (point.objective[1], point.objective[2])
        if all(point.objective != known.objective for known in found):
            found.append(point)
        boxes = _without(_split(boxes, y), y, box.high)
    return _efficient(found), not boxes


def _under(problem: Problem, axes: tuple[Objective, ...], high: Pair) -> Problem:
    for axis, value in zip(axes[1:], high, strict=True):
        if value < math.inf:
            problem = bounded(problem, axis, below(axis, value))
    return problem


def _split(boxes: list[_Box], y: Pair) -> list[_Box]:
    """Every box cut at y in both directions."""
    for direction in (0, 1):
        cut: list[_Box] = []
        for box in boxes:
            if not box.low[direction] < y[direction] < box.high[direction]:
                cut.append(box)
                continue
            middle_high = (y[0], box.high[1]) if direction == 0 else (box.high[0], y[1])
            middle_low = (y[0], box.low[1]) if direction == 0 else (box.low[0], y[1])
            cut += [_Box(box.low, middle_high), _Box(middle_low, box.high)]
        boxes = cut
    return boxes


def _without(boxes: list[_Box], low: Pair, high: Pair) -> list[_Box]:
    return [box for box in boxes if not box.lies_in(low, high)]


def _efficient(found: Sequence[Solution]) -> list[Solution]:
    """Without points that another one dominates (a time limit may have left such)."""
    kept = []
    for one in found:
        others = (o.objective for o in found if o is not one and o.objective != one.objective)
        if not any(all(a <= b for a, b in zip(o, one.objective, strict=True)) for o in others):
            kept.append(one)
    return kept
