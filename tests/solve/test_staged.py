"""Stages of a large pipeline: the room for weights that a dual counts on."""

from __future__ import annotations

from time import monotonic

import numpy as np

from benchmarks.joint_models import Case, make
from planner.ir.devices import Device, Place, Store
from planner.ir.problem import (
    Conversion,
    Latency,
    Limits,
    Objective,
    Option,
    Problem,
    Setting,
    State,
)
from planner.solve.check import judge
from planner.solve.scale.labels import Stages
from planner.solve.scale.staged import Staged
from planner.solve.stages.exact import Exact

OPS = 60
ZERO = Latency(0.0, 0.0, 0.0)


def option(op: int, name: str, us: float, weight: int, error: float) -> Option:
    return Option(
        f"o{op}:{name}",
        (f"o{op}",),
        name,
        ((Latency(us, us, us),),),
        needs=(State(f"t{op}", "plain" if name == "exact" else "rough"),),
        makes=(State(f"t{op + 1}", "plain"),),
        weight_size_bytes=weight,
        error=error,
    )


def streaming() -> Problem:
    """Half of the operators may be rough. Exact weights stream for nothing, but behind exact
    operators only: beside rough ones alone there is no time for them. Slow ones need no memory."""
    names = tuple(f"o{op}" for op in range(OPS))
    return Problem(
        ops=names,
        edges=tuple((names[op], names[op + 1]) for op in range(OPS - 1)),
        options=tuple(
            made
            for op in range(OPS)
            for made in (
                option(op, "rough", 1.0 + op / 128.0, 10, 1.0),
                option(op, "exact", 2.0 + op / 64.0, 200, 0.0),
                option(op, "slow", 8.0, 20, 0.0),
            )
        ),
        settings=(Setting("s", (ZERO,)),),
        conversions=tuple(
            Conversion(
                f"c{op}",
                State(f"t{op}", "plain"),
                State(f"t{op}", "rough"),
                ((Latency(0.125, 0.125, 0.125),),),
            )
            for op in range(OPS)
        ),
        given=(State("t0", "plain"),),
        limits=Limits(error=OPS / 2),
        objectives=(Objective.LATENCY,),
        places=(Place("gpu", "gpu"),),
        devices=(Device("gpu", memory_size_bytes=1_700),),
        stores=(Store("host", 0.0, 150.0, ahead=4),),
    )


def test_the_room_is_what_the_duals_own_labels_leave() -> None:
    problem = streaming()
    state = Exact(problem, monotonic() + 30.0, 0.0, 0, 1, None)
    stages = Stages(problem.places, np.zeros(OPS, dtype=np.int64))
    Staged(state, 0, stages, 0, 0.0).run(20, 1, 0.0)
    assert state.best is not None
    assert not judge(problem, state.best).broken
    slow = sum(name.endswith("slow") for name in state.best.chosen)
    assert slow <= OPS / 6


def test_where_one_plan_is_asked_for_labels_change_until_there_is_one() -> None:
    """Sharded sums of a ResNet read shortcuts in forms that nobody can make from others', and the
    forest sees a shortcut's first reader only."""
    problem = make(Case("resnet", 80, 8))
    state = Exact(problem, monotonic() + 60.0, 0.0, 0, 1, None)
    widest = max(problem.places, key=lambda place: place.degree)
    stages = Stages((widest,), np.zeros(len(problem.ops), dtype=np.int64))
    Staged(state, 0, stages, 0, 0.0).run(12, 1, 0.0)
    assert state.best is not None
    assert not judge(problem, state.best).broken
