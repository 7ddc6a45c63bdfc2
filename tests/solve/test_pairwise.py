"""Pairwise choice under memory over time: against brute force, and against bad input."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import UsageError
from planner.ir.solution import Status
from planner.solve import cpsat
from planner.solve.backend import Answer
from planner.solve.pairwise import contract as contracting
from planner.solve.pairwise import presolve as presolving
from planner.solve.pairwise.bound import certify
from planner.solve.pairwise.check import evaluate
from planner.solve.pairwise.contract import contract
from planner.solve.pairwise.data import FORBIDDEN, LARGEST, Pairwise, validate
from planner.solve.pairwise.dual import Dual
from planner.solve.pairwise.forests import Forests
from planner.solve.pairwise.linear import Marginals, Outcome, Solver, ask_cpsat, ask_highs, minimise
from planner.solve.pairwise.memory import at_maximal_moments, fitting, memory
from planner.solve.pairwise.messages import Messages
from planner.solve.pairwise.presolve import presolve
from planner.solve.pairwise.solve import solve_pairwise
from planner.solve.progress import Progress

Rows = list[list[int]]


def make(
    costs: Rows,
    edges: list[tuple[int, int, list[int]]] | None = None,
    holds: list[tuple[int, int, int, list[int]]] | None = None,
    limit: int | None = None,
) -> Pairwise:
    """A problem from lists: edges are (a, b, row-major costs), holds (node, start, end, bytes)."""
    edges, holds = edges or [], holds or []
    return Pairwise(
        np.array([len(row) for row in costs], dtype=np.int64),
        np.array(list(itertools.chain(*costs)), dtype=np.int64),
        np.array([(a, b) for a, b, _ in edges], dtype=np.int64).reshape(-1, 2),
        np.array(list(itertools.chain(*(m for _, _, m in edges))), dtype=np.int64),
        np.array([node for node, _, _, _ in holds], dtype=np.int64),
        np.array([(start, end) for _, start, end, _ in holds], dtype=np.int64).reshape(-1, 2),
        np.array(list(itertools.chain(*(row for *_, row in holds))), dtype=np.int64),
        limit,
    )


def drawn(rng: random.Random, nodes: int = 5) -> Pairwise:
    """Random and small: followers, parallel edges, forbidden options, long and empty holds."""
    sizes = [rng.choice((1, 2, 2, 3)) for _ in range(nodes)]
    costs = [[_cost(rng, 0.1) for _ in range(size)] for size in sizes]
    edges = []
    for _ in range(rng.randrange(2 * nodes)) if nodes > 1 else ():
        a, b = rng.sample(range(nodes), 2)
        edges.append((a, b, _matrix(rng, sizes[a], sizes[b])))
    holds = []
    for _ in range(rng.randrange(2 * nodes)):
        node, start = rng.randrange(nodes), rng.randrange(6)
        size = [rng.randrange(10) for _ in range(sizes[node])]
        holds.append((node, start, start + rng.randrange(5), size))
    return make(costs, edges, holds, rng.choice((None, 0, 5, 10, 20)))


def _cost(rng: random.Random, forbidden: float) -> int:
    if rng.random() < forbidden:
        return FORBIDDEN
    return rng.choice((0, rng.randrange(-5, 20), rng.randrange(20), 10**12 + rng.randrange(9)))


def _matrix(rng: random.Random, rows: int, columns: int) -> list[int]:
    kind = rng.randrange(4)
    if kind == 0 and rows == columns:
        follows = rng.sample(range(columns), columns)
        return [
            rng.randrange(9) if follows[k] == c else FORBIDDEN for k, c in _cells(rows, columns)
        ]
    if kind == 1:
        follows = [rng.randrange(columns) for _ in range(rows)]
        return [
            rng.randrange(9) if follows[k] == c else FORBIDDEN for k, c in _cells(rows, columns)
        ]
    if kind == 2:
        row, column = [rng.randrange(9) for _ in range(rows)], [3 * c for c in range(columns)]
        return [row[k] + column[c] for k, c in _cells(rows, columns)]
    return [_cost(rng, 0.2) for _ in _cells(rows, columns)]


def _cells(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    return itertools.product(range(rows), range(columns))


def plans(problem: Pairwise) -> Iterator[tuple[tuple[int, ...], int]]:
    """Every feasible plan with its cost."""
    for chosen in itertools.product(*(range(size) for size in problem.sizes.tolist())):
        found = evaluate(problem, chosen)
        if not found.complaint:
            yield chosen, found.cost


def best(problem: Pairwise) -> int | None:
    """The least cost, by trying everything."""
    return min((cost for _, cost in plans(problem)), default=None)


seeds = st.integers(0, 2**32)


@settings(max_examples=250, deadline=None)
@given(seeds)
def test_equals_brute_force(seed: int) -> None:
    """Value, status and bound agree with trying everything."""
    problem = drawn(random.Random(seed), nodes=random.Random(seed).randrange(1, 7))
    least = best(problem)
    solution = solve_pairwise(problem, time_limit_s=30, seed=seed)
    if least is None:
        assert solution.status is Status.INFEASIBLE
        assert solution.chosen == ()
        return
    assert solution.status is Status.OPTIMAL
    assert solution.cost == least
    assert evaluate(problem, solution.chosen).cost == least
    assert solution.bound <= least
    assert not solution.hit_time_limit


@settings(max_examples=150, deadline=None)
@given(seeds, st.sampled_from([math.inf, 0.0, 1.0, 2.0, 3.0, 5.0]))
def test_presolve_keeps_every_plan(seed: int, deadline: float) -> None:
    """The core has exactly the feasible plans of the original, at the same costs, wherever time
    ends it."""
    problem = drawn(random.Random(seed))
    ticks = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        for module in (contracting, presolving):
            patch.setattr(module, "monotonic", lambda: float(next(ticks)))
        core = presolve(problem, deadline)
    expected = sorted(plans(problem))
    if not core.is_feasible:
        assert expected == []
        return
    found = [
        (tuple(core.lift(np.array(chosen, dtype=np.int64)).tolist()), cost)
        for chosen, cost in plans(core.problem)
    ]
    assert sorted(found) == expected


@settings(max_examples=150, deadline=None)
@given(seeds)
def test_any_prices_and_messages_give_a_bound(seed: int) -> None:
    """The integer certificate is below every feasible plan; so is what it says of options."""
    rng = random.Random(seed)
    core = presolve(drawn(rng))
    if not core.is_feasible:
        return
    problem, held = core.problem, memory(core.problem)
    messages = Messages(problem)
    messages.sweep(rng.randrange(1, 4))
    prices = {t: rng.random() * 3 for t in range(held.count)} if held is not None else {}
    found = certify(messages, held, prices)
    assert found is not None
    for _, cost in plans(problem):
        assert found.value <= cost


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_what_is_left_holds_every_cheaper_plan(seed: int) -> None:
    """Options and pairs that are dropped are in no plan cheaper than the value."""
    rng = random.Random(seed)
    core = presolve(drawn(rng))
    if not core.is_feasible:
        return
    dual = Dual(core.problem, seed)
    dual.round()
    found = sorted(plans(core.problem), key=lambda plan: plan[1])
    value = found[len(found) // 2][1] if found else 10
    left = dual.below(value)
    begins = np.append(0, np.cumsum(core.problem.sizes))[:-1]
    for chosen, cost in found:
        if cost < value:
            assert left.options[begins + np.array(chosen)].all()
            assert evaluate(left.problem, chosen).cost == cost


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_forest_moves_are_exact(seed: int) -> None:
    """No other choice of the forest's nodes, the rest held, is cheaper."""
    rng = random.Random(seed)
    problem = replace(drawn(rng), limit=None)
    problem = replace(problem, costs=np.where(problem.costs >= FORBIDDEN, 7, problem.costs))
    forests = Forests(problem)
    order = np.random.default_rng(seed).permutation(forests.problem.nodes)
    forest = forests.over(order.tolist())
    start = np.array([rng.randrange(size) for size in problem.sizes.tolist()], dtype=np.int64)
    moved = forests.improve(forest, start, problem.costs.astype(np.float64))
    held = sorted(set(range(problem.nodes)) - set(forest.members.tolist()))
    assert (moved[held] == start[held]).all()
    costs = [
        evaluate(problem, chosen)
        for chosen in itertools.product(*(range(size) for size in problem.sizes.tolist()))
        if all(chosen[node] == start[node] for node in held)
    ]
    least = min((found.cost for found in costs if not found.complaint), default=None)
    if least is not None:
        assert evaluate(problem, moved.tolist()).cost == least


@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("solver", [ask_highs, ask_cpsat])
@given(seed=seeds)
def test_solvers_agree(solver: Solver, seed: int) -> None:
    """The integer program alone, with memory rows added as they are needed.

    Without costs of 10^12: HiGHS does not see ones beside them.
    """
    problem = drawn(random.Random(seed))
    costs, pairs = (np.where(c > 10**9, FORBIDDEN, c) for c in (problem.costs, problem.pairs))
    core = presolve(replace(problem, costs=costs, pairs=pairs))
    if not core.is_feasible:
        return
    outcome = minimise(core.problem, [], 30.0, solver)
    least = best(core.problem)
    if least is None:
        assert outcome.answer is Answer.INFEASIBLE
        return
    assert outcome.answer is Answer.OPTIMAL
    assert outcome.plan is not None
    assert evaluate(core.problem, outcome.plan.tolist()).cost == pytest.approx(least, rel=1e-6)


def test_a_plan_that_was_shown_before_a_late_answer_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = cpsat.run_solver

    def late(*given: Any) -> None:
        honest(*given)
        raise TimeoutError

    monkeypatch.setattr(cpsat, "run_solver", late)
    found = 0
    for seed in range(20):
        core = presolve(drawn(random.Random(seed)))
        least = best(core.problem) if core.is_feasible else None
        if least is None or not core.problem.nodes:
            continue
        outcome = minimise(core.problem, [], 30.0, ask_cpsat)
        assert outcome.answer is Answer.TIME
        assert outcome.bound == -math.inf
        if outcome.plan is not None:
            found += 1
            assert evaluate(core.problem, outcome.plan.tolist()).cost >= least
    assert found >= 5


def test_followers_merge() -> None:
    """A chain of nodes that decide each other is one node."""
    costs = [[1, 2, 3]] * 6
    shift = [0 if (k + 1) % 3 == c else FORBIDDEN for k, c in _cells(3, 3)]
    chain = [(i, i + 1, shift) for i in range(5)]
    assert contract(make(costs, chain)).problem.nodes == 1


def test_moments_are_maximal() -> None:
    """[0, 3) and [2, 5) meet at one moment; [6, 7) stands alone; empty spans vanish."""
    holds = [(0, 0, 3, [1]), (0, 2, 5, [1]), (0, 6, 7, [1]), (0, 4, 4, [9])]
    found = at_maximal_moments(make([[0]], [], holds, limit=5))
    assert found.spans.tolist() == [[0, 1], [0, 1], [1, 2]]


def test_what_cannot_fit_is_dropped() -> None:
    """Beside the 6 bytes that node 1 needs at least, 5 do not fit into 10."""
    problem = make([[0, 0], [0, 0]], [], [(0, 0, 2, [4, 5]), (1, 1, 3, [6, 9])], limit=10)
    assert fitting(at_maximal_moments(problem)).tolist() == [True, False, True, False]


def test_same_seed_same_answer() -> None:
    """Two runs agree in everything but the clock."""
    problem = drawn(random.Random(5), nodes=9)
    first, second = (solve_pairwise(problem, seed=3) for _ in range(2))
    assert replace(first, seconds=0, presolve_seconds=0) == replace(
        second, seconds=0, presolve_seconds=0
    )


def test_costs_stay_exact() -> None:
    """A difference of one in 10^17 decides, where floating point sees none."""
    big = 10**17
    problem = make([[big + 1, big], [big, big + 1]], [(0, 1, [0, 3, 3, 0])])
    solution = solve_pairwise(problem)
    assert (solution.status, solution.cost) == (Status.OPTIMAL, 2 * big + 1)


def test_no_time_is_no_error() -> None:
    """A limit of 0 returns at once, and says so."""
    problem = make([[1, 2], [1, 2]], [(0, 1, [5, 0, 0, 5])])
    solution = solve_pairwise(problem, time_limit_s=0)
    assert solution.hit_time_limit
    assert solution.status in (Status.UNKNOWN, Status.FEASIBLE)


def test_ctrl_c_returns_the_incumbent() -> None:
    """Interrupted at the first news: what is known until then comes back, checked."""

    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    rng = random.Random(1)
    costs = [[rng.randrange(9) for _ in range(3)] for _ in range(8)]
    edges = [(i, j, [rng.randrange(9) for _ in range(9)]) for i in range(8) for j in range(i)]
    solution = solve_pairwise(make(costs, edges), reporter=interrupt)
    assert solution.is_interrupted
    assert solution.status in (Status.UNKNOWN, Status.FEASIBLE, Status.OPTIMAL)


def test_a_solver_that_lies_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One solver claims a plan over the limit, the other crashes: our own incumbent stays."""

    def lie(program: Marginals, time_limit_s: float, seed: int) -> Outcome:
        lies.append(True)
        return Outcome(Answer.OPTIMAL, np.zeros(program.problem.nodes, dtype=np.int64), 1e18)

    def crash(program: Marginals, time_limit_s: float, seed: int) -> Outcome:
        raise RuntimeError("boom")

    lies: list[bool] = []
    monkeypatch.setattr("planner.solve.pairwise.solve.ask_highs", lie)
    monkeypatch.setattr("planner.solve.pairwise.solve.ask_cpsat", crash)
    rng = random.Random(2)
    costs = [[0, rng.randrange(1, 9)] for _ in range(12)]
    edges = [(i, j, [0, 3, 3, 0]) for i in range(12) for j in range(i) if (i + j) % 3]
    holds = [(i, 0, 1, [rng.randrange(3, 9), 1]) for i in range(12)]
    problem = make(costs, edges, holds, limit=30)
    solution = solve_pairwise(problem, time_limit_s=1)
    assert lies
    assert solution.status is Status.FEASIBLE
    assert solution.bound < 1e18
    assert evaluate(problem, solution.chosen).complaint == ""


GOOD = make([[0, 1], [2]], [(0, 1, [3, 4])], [(0, 0, 1, [5, 6])], limit=6)


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (replace(GOOD, sizes=np.array([3, 0])), "node 1 has no option"),
        (replace(GOOD, costs=np.array([1])), "1 node costs for 3 options"),
        (replace(GOOD, edges=np.array([[0, 2]])), "edge 0 names a node that does not exist"),
        (replace(GOOD, edges=np.array([[0, 0]])), "edge 0 joins a node with itself"),
        (replace(GOOD, pairs=np.array([1])), "1 pair costs, not 2"),
        (replace(GOOD, hold_nodes=np.array([7])), "hold 0 names a node that does not exist"),
        (replace(GOOD, hold_sizes=np.array([5, -6])), "hold 0 has a negative size"),
        (replace(GOOD, hold_sizes=np.array([1])), "1 sizes of holds, not 2"),
        (replace(GOOD, costs=np.array([0, LARGEST, 0])), "2^60 or more"),
    ],
)
def test_bad_problems_are_refused(problem: Pairwise, words: str) -> None:
    """One message each, naming the thing."""
    with pytest.raises(UsageError, match=words.replace("^", r"\^")):
        validate(problem)


def test_nothing_to_choose() -> None:
    """No node at all: an empty plan, proved."""
    solution = solve_pairwise(make([]))
    assert (solution.status, solution.chosen, solution.cost) == (Status.OPTIMAL, (), 0)


def test_everything_forbidden() -> None:
    """Proved infeasible, without a plan."""
    problem = make([[0, 1], [0, 1]], [(0, 1, [FORBIDDEN] * 4)])
    assert solve_pairwise(problem).status is Status.INFEASIBLE


def test_more_memory_than_there_is() -> None:
    """Proved infeasible by memory alone."""
    holds = [(0, 0, 2, [4, 5]), (1, 1, 2, [3])]
    assert solve_pairwise(make([[0, 0], [0]], [], holds, limit=6)).status is Status.INFEASIBLE


def test_progress_is_reported() -> None:
    """Values fall, bounds rise, both in order."""
    seen: list[Progress] = []
    rng = random.Random(4)
    costs = [[rng.randrange(99) for _ in range(4)] for _ in range(10)]
    edges = [(i, j, [rng.randrange(99) for _ in range(16)]) for i in range(10) for j in range(i)]
    solution = solve_pairwise(make(costs, edges), reporter=seen.append)
    assert seen
    bounds = [progress.bound for progress in seen]
    values = [progress.incumbent for progress in seen if progress.incumbent is not None]
    assert bounds == sorted(bounds)
    assert values == sorted(values, reverse=True)
    assert values[-1] == solution.cost
    assert json.dumps([progress.seconds for progress in seen])
