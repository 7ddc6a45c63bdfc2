"""Plans with known answers, and what a solve does when it cannot finish."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from planner.ir.problem import Conversion, Latency, Limits, Objective, Option, Problem, Setting
from planner.ir.solution import Solution, Status
from planner.solve.check import check
from planner.solve.progress import Progress
from planner.solve.solve import solve
from tests.solve.problems import SETTING, chain, circular, flat, interleaved, plain, q8

ROOT = Path(__file__).parents[2]


def same(a: Solution, b: Solution) -> bool:
    """Equal apart from the time it took."""
    return replace(a, seconds=0.0) == replace(b, seconds=0.0)


def test_pays_conversions_once() -> None:
    solution = solve(chain(3))
    # 1 overhead + quantise x + 3 x 4 + dequantise t2
    assert solution.objective[0] == pytest.approx(15.0)
    assert solution.conversions == ("quantise:x", "dequantise:t2")
    assert solution.status is Status.OPTIMAL
    assert solution.gap == pytest.approx(0.0, abs=1e-9)


def test_one_conversion_serves_all_consumers() -> None:
    consumers = tuple(
        Option(f"{op}:int8", (op,), "int8", flat(1.0), needs=(q8("x"),)) for op in ("a", "b", "c")
    )
    problem = Problem(
        ops=("a", "b", "c"),
        edges=(),
        options=consumers,
        settings=(SETTING,),
        conversions=(Conversion("cast", plain("x"), q8("x"), flat(5.0)),),
        given=(plain("x"),),
    )
    solution = solve(problem)
    assert solution.conversions == ("cast",)
    assert solution.objective[0] == pytest.approx(1 + 3 + 5)


def test_chained_conversions() -> None:
    problem = circular()
    solution = solve(replace(problem, wanted=(q8("t"),)))
    assert set(solution.chosen) == {"a", "b", "c"}
    assert solution.conversions == ("1",)


def test_error_budget_limits_compression() -> None:
    solution = solve(chain(4, Limits(error=0.002)))
    assert sum("int8" in name for name in solution.chosen) == 2
    # neighbours share the conversions
    assert solution.objective[0] == pytest.approx(1 + 2 * 4 + 2 * 10 + 2)


def test_memory_counts_the_largest_workspace_once() -> None:
    solution = solve(chain(3, Limits(memory_size_bytes=10 + 3 * 100 + 50)))
    assert solution.totals is not None
    assert solution.totals.memory_size_bytes == 360
    assert solve(chain(3, Limits(memory_size_bytes=359))).status is Status.INFEASIBLE


def test_throughput() -> None:
    assert solve(chain(3, Limits(throughput_per_s=1e6 / 15.0))).status is Status.OPTIMAL
    assert solve(chain(3, Limits(throughput_per_s=1e6 / 14.9))).status is Status.INFEASIBLE


@pytest.mark.parametrize(
    ("slo_us", "status", "is_uncertain"),
    [(17.0, Status.OPTIMAL, False), (14.0, Status.OPTIMAL, True), (12.0, Status.INFEASIBLE, False)],
)
def test_latency_between_the_ends_is_uncertain(
    slo_us: float, status: Status, is_uncertain: bool
) -> None:
    # 1 + 14 ± 10 %: 13.6 .. 16.4
    solution = solve(chain(3, Limits(latency_us=slo_us), spread=0.1))
    assert solution.status is status
    assert solution.is_uncertain is is_uncertain


def test_tail_factor_counts() -> None:
    problem = chain(1, Limits(latency_us=10.9))
    assert not solve(problem).is_uncertain
    slow = Setting("s0", (Latency(1.0, 1.0, 1.0),), tail_factors=(2.0,))
    assert solve(replace(problem, settings=(slow,))).status is Status.INFEASIBLE


def test_tied_operators_share_a_format() -> None:
    solution = solve(replace(chain(3, Limits(error=0.0025)), tied=(("o0", "o2"),)))
    formats = {name.split(":")[0]: name.split(":")[1] for name in solution.chosen}
    assert formats["o0"] == formats["o2"]
    assert not check(chain(3), replace(solution, totals=None))


def test_forbidden_sets_cut() -> None:
    problem = chain(2)
    first = solve(problem)
    second = solve(replace(problem, forbidden=(frozenset(first.chosen),)))
    assert set(second.chosen) != set(first.chosen)
    assert second.objective[0] > first.objective[0]


def test_exactly_one_setting() -> None:
    options = (
        Option("a:1", ("a",), "fp32", ((Latency(5, 5, 5),), (None,))),
        Option("a:2", ("a",), "fp32", ((None,), (Latency(1, 1, 1),))),
        Option("b", ("b",), "fp32", flat(1.0, 9.0)),
    )
    settings = (SETTING, Setting("s1", (Latency(1, 1, 1),)))
    problem = Problem(ops=("a", "b"), edges=(), options=options, settings=settings)
    solution = solve(problem)
    assert solution.setting == "s0"
    assert solution.objective[0] == pytest.approx(7.0)


def test_cost_falls_through_to_latency() -> None:
    settings = (
        Setting("dear", (Latency(0, 0, 0),), price_per_hour=2.0),
        Setting("cheap", (Latency(9, 9, 9),), price_per_hour=1.0),
    )
    option = Option("a", ("a",), "fp32", flat(1.0, 1.0))
    order = (Objective.COST, Objective.LATENCY)
    solution = solve(Problem(("a",), (), (option,), settings, objectives=order))
    assert solution.setting == "cheap"
    assert solution.objective == pytest.approx((1.0, 10.0))


def test_groups_that_wait_for_each_other_are_cut() -> None:
    solution = solve(interleaved())
    assert solution.status is Status.OPTIMAL
    assert solution.objective[0] == pytest.approx(1 + 1 + 20)


def test_conversions_cannot_feed_each_other() -> None:
    solution = solve(circular())
    assert set(solution.chosen) == {"a", "b", "c"}
    assert solution.conversions == ()


def test_a_cyclic_only_problem_is_infeasible() -> None:
    problem = interleaved()
    groups = tuple(option for option in problem.options if len(option.ops) > 1)
    assert solve(replace(problem, options=groups)).status is Status.INFEASIBLE


def test_twelve_orders_of_magnitude() -> None:
    options = [Option("big", ("big",), "fp32", flat(1e9))]
    for n in range(5):
        name = f"o{n}"
        options += [
            Option(f"{name}:{k}", (name,), k, flat(us)) for k, us in (("a", 2e-3), ("b", 1e-3))
        ]
    ops = ("big", *(f"o{n}" for n in range(5)))
    solution = solve(Problem(ops, (), tuple(options), (SETTING,)))
    assert solution.status is Status.OPTIMAL
    assert solution.objective[0] == pytest.approx(1e9 + 1.005, rel=1e-9)
    assert solution.rounding <= 1e-8
    assert solution.bound[0] <= solution.objective[0]


def test_empty_problem_is_trivially_optimal() -> None:
    assert solve(Problem((), (), (), ())).status is Status.OPTIMAL
    with_setting = solve(Problem((), (), (), (SETTING,)))
    assert (with_setting.status, with_setting.objective[0]) == (Status.OPTIMAL, 1.0)


def test_one_operator_and_disconnected_graphs() -> None:
    assert solve(chain(1)).objective[0] == pytest.approx(7.0)
    options = tuple(Option(op, (op,), "fp32", flat(1.0)) for op in ("a", "b"))
    assert solve(Problem(("a", "b"), (), options, (SETTING,))).objective[0] == pytest.approx(3.0)


def test_same_answer_every_time() -> None:
    problem = chain(30, Limits(error=0.0135, memory_size_bytes=9000))
    first = solve(problem, workers=2)
    assert not first.hit_time_limit
    for _ in range(4):
        assert same(solve(problem, workers=2), first)


def test_time_limit_zero_returns_the_seed_with_its_gap() -> None:
    solution = solve(chain(30, Limits(error=0.0135)), time_limit_s=0.0)
    assert solution.status is Status.FEASIBLE
    assert solution.hit_time_limit
    assert solution.gap is not None
    assert 0.0 < solution.gap < 1.0
    assert not check(chain(30, Limits(error=0.0135)), solution)


def test_gap_stops_early_and_is_kept() -> None:
    solution = solve(chain(30, Limits(error=0.0135)), gap=0.2)
    assert solution.gap is not None
    assert solution.gap <= 0.2


def test_progress_is_reported() -> None:
    seen: list[Progress] = []
    solution = solve(chain(30, Limits(error=0.0135)), reporter=seen.append)
    values = [step.incumbent for step in seen if step.objective == "latency" and step.incumbent]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(solution.objective[0])


INTERRUPTED = """
    import os, signal
    from planner.ir.problem import Latency, Limits, Option, Problem, Setting
    from planner.solve.solve import solve
    import random
    rng = random.Random(0)
    def cell():
        us = rng.uniform(1, 100)
        return ((Latency(us, us, us),),)
    ops = tuple(f"o{n}" for n in range(400))
    options = tuple(
        Option(f"{op}:{k}", (op,), str(k), cell(), weight_size_bytes=rng.randrange(1, 10**9),
               workspace_size_bytes=rng.randrange(1, 10**9), error=rng.random(),
               energy_j=rng.random())
        for op in ops for k in range(20)
    )
    problem = Problem(ops, (), options, (Setting("s", (Latency(0, 0, 0),)),),
                      limits=Limits(memory_size_bytes=15 * 10**10, error=150.0))
    told = []
    def tell(step):  # as soon as there is a plan: how fast that is depends on the machine
        if step.incumbent is not None and not told:
            told.append(step)
            os.kill(os.getpid(), signal.SIGINT)
    solution = solve(problem, time_limit_s=100, reporter=tell)
    print(solution.status, solution.is_interrupted, len(solution.chosen), solution.seconds < 50)
"""


def test_ctrl_c_still_works_after_a_solve() -> None:
    solve(chain(3))
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_interruption_returns_the_incumbent() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["feasible", "True", "400", "True"]
