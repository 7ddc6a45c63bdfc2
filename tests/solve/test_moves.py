"""Moves of large pipelines: what the batch says of a change is what the checker finds after it."""

from __future__ import annotations

import random
from itertools import pairwise
from time import monotonic

import numpy as np
import pytest

from planner.ir.devices import Device, Hold, Link, Place, Store
from planner.ir.problem import (
    Conversion,
    Latency,
    Limits,
    Objective,
    Option,
    Problem,
    Setting,
    State,
    Transfer,
)
from planner.ir.solution import Solution
from planner.solve.check import check, priced
from planner.solve.scale.complete import Choice, Completer
from planner.solve.scale.layout import Layout
from planner.solve.scale.solve import search_large
from planner.solve.scale.tabu import Tabu
from planner.solve.stages.exact import Exact

OPS = 12
FORMATS = (("fp16", "plain", 40, 0.0), ("int8", "q8", 20, 0.01), ("int4", "plain", 10, 0.05))
MEMORY, ERROR = 300, 0.65


def table(rng: random.Random) -> tuple[tuple[Latency, ...], ...]:
    """Two shapes, in quarters."""
    times = [rng.randint(4, 40) / 4 for _ in range(2)]
    return (tuple(Latency(us, us, us) for us in times),)


def option(
    rng: random.Random, ops: tuple[str, ...], before: str, kind: tuple[str, str, int, float]
) -> Option:
    """One variant of one operator or of two."""
    name, form, size, error = kind
    at = int(ops[0][1:])
    return Option(
        f"{'+'.join(ops)}:{name}",
        ops,
        name,
        table(rng),
        (State(before, form),),
        (State(ops[-1], "plain"),),
        weight_size_bytes=size * rng.randint(1, 2),
        workspace_size_bytes=rng.randint(0, 8),
        error=error,
        holds=(Hold(at, at + 1 + len(ops), rng.randint(1, 9)),),
        cache_size_bytes=rng.randint(0, 3),
    )


def chain(seed: int, stages: int) -> Problem:
    """A chain whose operators have formats, fuse in pairs, and stream from two stores."""
    rng = random.Random(seed)
    ops = tuple(f"o{n}" for n in range(OPS))
    before = dict(zip(ops, ("in", *ops), strict=False))
    options = [option(rng, (op,), before[op], kind) for op in ops for kind in FORMATS]
    for n in range(0, OPS - 1, 3):
        pair = ops[n], ops[n + 1]
        options += [option(rng, pair, before[pair[0]], kind) for kind in FORMATS]
    casts = tuple(
        Conversion(f"cast:{op}", State(op, "plain"), State(op, "q8"), table(rng)) for op in ops
    )
    return Problem(
        ops=ops,
        edges=tuple(pairwise(ops)),
        options=tuple(options),
        settings=(Setting("only", (Latency(1.0, 1.0, 1.0),) * 2),),
        shape_weights=(1.0, 3.0),
        conversions=casts,
        given=(State("in", "plain"), State("in", "q8")),
        wanted=(State(ops[-1], "plain"),),
        limits=Limits(error=ERROR),
        objectives=(Objective.LATENCY, Objective.ERROR),
        places=(Place("one", "a", 1),),
        devices=(Device("a", MEMORY, stages),),
        links=(Link("a", "a", 1.0, 8.0),),
        stages=stages,
        stores=(
            Store("host", 0.5, 4.0, ahead=2),
            Store("peer", 0.25, 16.0, ahead=3, memory_size_bytes=60),
        ),
        transfers=tuple(
            Transfer(f"send:{op}", State(op, "plain"), State(op, "plain"), (8, 2)) for op in ops
        ),
    )  # fmt: skip


def start(problem: Problem) -> Solution:
    """The least weights everywhere, half of the operators on each stage."""
    small = [g for g, o in enumerate(problem.options) if o.format == "int4" and len(o.ops) == 1]
    stage = [n * problem.stages // OPS for n in range(OPS)]
    places = problem.places * problem.stages
    store = [0 if n % 4 == 2 else -1 for n in range(OPS)]
    plan = Completer(problem, 0).complete(Choice(places, small, stage, store))
    assert plan is not None
    return plan


@pytest.mark.parametrize("stages", [1, 2])
def test_moves_are_priced_as_the_checker_does(stages: int) -> None:
    compared = 0
    for seed in range(6):
        problem = chain(seed, stages)
        plan = start(problem)
        layout = Layout(problem, 0, "high_us", plan)
        assert layout.value_us == pytest.approx(priced(problem, plan).weighted_latency_us)
        rng = np.random.default_rng(seed)
        for p in range(stages):
            moves = layout.price(p, layout.moves(p))
            for m in rng.choice(moves.moved.count, 25, replace=False).tolist():
                after = Layout(problem, 0, "high_us", plan)
                after.apply(p, moves.moved.only(m))
                found = after.plan()
                assert found is not None
                totals = priced(problem, found)
                expected = layout.value_us - moves.gain_us[m]
                assert totals.weighted_latency_us == pytest.approx(expected)
                assert totals.stage_memory_size_bytes[p] == pytest.approx(MEMORY * moves.use[0, m])
                assert totals.error == pytest.approx(ERROR * moves.use[1, m])
                compared += 1
    assert compared == 150 * stages


@pytest.mark.parametrize("stages", [1, 2])
def test_search_ends_in_better_plans_that_keep_the_limits(stages: int) -> None:
    gained = 0
    for seed in range(2):
        problem = chain(seed, stages)
        state = Exact(problem, monotonic() + 20.0, 0.0, 0, 1, None)
        plan = start(problem)
        if not state.offer(plan, "start", 0.0, 0):
            continue
        first = state.values[0]
        moves = Tabu(state, 0, 0, 0.0)
        moves.descend(0.0)
        descended = state.values[0]
        moves.search(0.0)
        assert state.best is not None
        assert not check(problem, state.best)
        assert state.values[0] <= descended <= first
        gained += descended < first
    assert gained == 2


def test_same_seed_same_plan() -> None:
    found = []
    for _ in range(2):
        state = Exact(chain(5, 2), monotonic() + 60.0, 0.0, 7, 1, None)
        search_large(state)
        assert state.best is not None
        assert not state.is_clocked
        found.append(state.best)
    assert found[0] == found[1]
