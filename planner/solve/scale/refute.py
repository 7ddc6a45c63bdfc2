"""Proofs that no plan of a large problem keeps its limits: rays of the dual.

With nothing to minimise the dual is L(λ) = min over forests of Σ λ·use + min over y of the rest -
λ·rhs, and every plan that keeps the limits makes it 0 or less (Farkas' lemma). A λ with L(λ) > 0
therefore refutes all vectors y of the fleet for which it is positive; when every vector is refuted,
nothing is feasible. What duality cannot see (a single operator too large for any stage's rest, say)
stays open.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planner.solve.data import BoolArray
from planner.solve.scale.clock import OutOfTimeError
from planner.solve.scale.dual import Dual
from planner.solve.scale.fleet import Fleet
from planner.solve.scale.forest import Forest
from planner.solve.scale.labels import Labelled
from planner.solve.scale.rows import Rows

MARGIN = 1e-6
"""L(λ) over Σ λ above which λ refutes: rows are scaled to about 1, sums lose 1e-12 of it."""
TURNS = 6
"""How often refuted vectors are dropped and the dual of the others goes on."""
ROUNDS = 10
"""Evaluations in each turn."""


def aimless(found: Rows) -> Rows:
    """The rows with nothing to minimise."""
    return replace(
        found,
        aim=[np.zeros_like(aim) for aim in found.aim],
        aim_metric=0.0,
        aim_stage=np.zeros_like(found.aim_stage),
        aim_exposed=np.zeros_like(found.aim_exposed),
        constant=0.0,
    )


def is_refuted(
    labelled: Labelled, graph: Forest, found: Rows, stages: Fleet, deadline: float
) -> bool:
    """Whether no way to man the stages keeps the rows; False where that stays open."""
    if any(not len(kind.rank) for kind in labelled.kinds):
        return True
    if stages.vectors is not None and not len(stages.vectors):
        return True
    plain = aimless(found)
    try:
        return all(
            _refutes(labelled, graph, plain, stages.within(support), support, deadline)
            for support in stages.supports()
        )
    except OutOfTimeError:
        return False


def _refutes(
    labelled: Labelled,
    graph: Forest,
    plain: Rows,
    stages: Fleet,
    support: BoolArray,
    deadline: float,
) -> bool:
    """One largest set of places; then, for vectors that are left, exactly their own."""
    left = _left(labelled, graph, plain, stages, support, deadline)
    if stages.vectors is None or left is None:
        return left is None
    for own in np.unique(left.vectors > 0, axis=0) if left.vectors is not None else ():
        if (own == support).all():
            return False
        exact = left.within(own)
        assert exact.vectors is not None
        exact = exact.keeping(np.asarray((exact.vectors[:, own] > 0).all(axis=1)))
        if _left(labelled, graph, plain, exact, own, deadline) is not None:
            return False
    return True


def _left(
    labelled: Labelled,
    graph: Forest,
    plain: Rows,
    stages: Fleet,
    support: BoolArray,
    deadline: float,
) -> Fleet | None:
    """The vectors that no ray refutes; None where there are none."""
    dual = Dual(labelled, graph, plain, stages, 1.0, support, deadline=deadline, enough=0.0)
    dual.evaluate(np.ones(len(plain.rows)))
    for _ in range(TURNS):
        if dual.is_impossible or not _open(dual).any():
            return None
        if stages.vectors is not None:
            dual.narrow(_open(dual))
        before = len(dual.points)
        dual.solve(deadline, ROUNDS, max(dual.points, key=lambda point: point.bound))
        if len(dual.points) == before:
            break
    return dual.fleet if _open(dual).any() else None


def _open(dual: Dual) -> BoolArray:
    """Which vectors no point refutes yet; one entry for a fleet without list."""
    assert dual.fleet is not None
    vectors = dual.fleet.vectors
    kept = np.ones(1 if vectors is None else len(vectors), dtype=np.bool_)
    for point in dual.points:
        value = point.bound if vectors is None else point.forest + vectors @ point.value
        kept &= value <= MARGIN * float(point.multipliers.sum())
    return kept
