"""Cuts of large pipelines: where little crosses, memory shared out, estimates that rank places."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from planner.ir.devices import Device, Link, Place
from planner.ir.problem import Latency, Limits, Objective, Option, Problem, State, Transfer
from planner.solve.scale.bounds import Bounds
from planner.solve.scale.crossing import crossing
from planner.solve.scale.cuts import Cut, Cutter
from planner.solve.scale.prepared import prepared
from planner.solve.scale.stages import sequences
from tests.solve.problems import SETTING, flat

OPS = 40
WEIGHT = 10


def chain(narrow: int, memory: int) -> Problem:
    """A chain of equal operators, on one device or split over two; only one tensor is small."""
    ops = tuple(f"o{n}" for n in range(OPS))
    before = dict(zip(ops, ("in", *ops), strict=False))
    options = tuple(
        Option(
            f"{op}@{place}",
            (op,),
            "fp16",
            flat(10.0 / degree),
            (State(before[op], "plain"),),
            (State(op, "plain"),),
            weight_size_bytes=WEIGHT // degree,
            place=place,
        )
        for op in ops
        for place, degree in (("one", 1), ("two", 2))
    )
    return Problem(
        ops=ops,
        edges=tuple(pairwise(ops)),
        options=options,
        settings=(SETTING,),
        given=(State("in", "plain"),),
        wanted=(State(ops[-1], "plain"),),
        limits=Limits(devices=2),
        objectives=(Objective.LATENCY,),
        places=(Place("one", "a", 1), Place("two", "a", 2)),
        devices=(Device("a", memory, 2),),
        links=(Link("a", "a", 1.0, 1.0),),
        stages=2,
        transfers=tuple(
            Transfer(f"send:{op}", state, state, (5 if n == narrow else 50,))
            for n, op in enumerate(ops)
            for state in (State(op, "plain"),)
        ),
    )  # fmt: skip


def cuts(problem: Problem) -> list[Cut]:
    """Of all sequences of places, best estimates first."""
    found = prepared(problem, 0, "high_us")
    dual = Bounds(found.labelled, found.graph, Objective.LATENCY, 1.0).whole
    none = np.zeros(len(dual.rows.rows))
    capacity = np.full(2, float(problem.devices[0].memory_size_bytes or 0))
    crossed = crossing(found.labelled)
    cutter = Cutter(found.labelled, dual.costs(none), capacity, crossed, dual.offset(none))
    every = [cutter.cut(sequence) for sequence in sequences(problem)]
    return sorted((cut for cut in every if cut is not None), key=lambda cut: cut.estimate)


def test_cuts_lie_where_little_crosses() -> None:
    for narrow in (12, 19, 27):
        found = cuts(chain(narrow, 300))
        halves = next(cut for cut in found if [p.name for p in cut.stages.places] == ["one", "one"])
        assert (halves.stages.of == (np.arange(OPS) > narrow)).all()
        overhead: Latency = SETTING.overhead[0]
        assert halves.estimate == OPS * 10.0 + 6.0 + overhead.expected_us


def test_cuts_share_out_memory() -> None:
    found = cuts(chain(3, 210))
    halves = next(cut for cut in found if [p.name for p in cut.stages.places] == ["one", "one"])
    sizes = np.bincount(halves.stages.of) * WEIGHT
    assert (sizes <= 210).all()


def test_one_stage_on_all_devices_ranks_by_what_it_takes() -> None:
    found = cuts(chain(19, 300))
    assert [place.name for place in found[0].stages.places] == ["two"]
    assert found[0].estimate == OPS * 5.0 + SETTING.overhead[0].expected_us
    too_small = next(cut for cut in found if [p.name for p in cut.stages.places] == ["one"])
    assert too_small.estimate > found[0].estimate
