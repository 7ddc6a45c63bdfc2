"""What came second where another variant than the solver's plan ships: against known answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.compress.base import Format
from planner.ir.problem import Limits, Option, Problem, Setting, State
from planner.steps.choose import Posed
from planner.steps.rivals import rivals_of_variant
from tests.solve.problems import chain, flat, plain


def q4(tensor: str) -> State:
    """A tensor in a form that nothing converts from or to."""
    return State(tensor, "q4")


def _posed(problem: Problem) -> Posed:
    formats = {
        option.name: dict.fromkeys(option.ops, Format.INT8_STATIC)
        for option in problem.options
        if option.format == "int8"
    }
    every = {option.name: formats.get(option.name, {}) for option in problem.options}
    return Posed(problem, every, {setting.name: n for n, setting in enumerate(problem.settings)})


def test_a_change_of_the_plain_graph_is_priced_alone() -> None:
    problem = chain(3)
    found = rivals_of_variant(_posed(problem), problem, {}, 0)
    # 10 us become 4, and casts to and from int8 come on top: 4 us faster, each by itself
    assert [found[op].delta_us for op in ("o0", "o1", "o2")] == pytest.approx([-4.0] * 3)
    assert all("what ships was better" in rival.reason for rival in found.values())
    assert all(rival.format == "int8" and not rival.is_exact for rival in found.values())


def test_a_change_of_a_uniform_variant_is_priced_alone() -> None:
    problem = chain(3)
    everything = dict.fromkeys(problem.ops, Format.INT8_STATIC)
    found = rivals_of_variant(_posed(problem), problem, everything, 0)
    assert found["o1"].delta_us == pytest.approx(8.0)
    assert found["o1"].format == "fp32"


def test_limits_judge_the_change_and_not_what_ships() -> None:
    problem = chain(3, Limits(error=0.0, latency_us=1.0))
    found = rivals_of_variant(_posed(problem), problem, {}, 0)
    assert found["o1"].reason == "breaks the error budget with everything else unchanged"


def test_prices_are_those_of_the_setting_that_ships() -> None:
    problem = chain(2)
    doubled = replace(
        problem,
        settings=(*problem.settings, Setting("s1", problem.settings[0].overhead)),
        options=tuple(
            replace(one, latency=(*one.latency, *flat(30.0 if one.format == "fp32" else 4.0)))
            for one in problem.options
        ),
        conversions=tuple(replace(one, latency=one.latency * 2) for one in problem.conversions),
    )
    found = rivals_of_variant(_posed(doubled), doubled, {}, 1)
    assert found["o0"].delta_us == pytest.approx(4.0 + 2.0 - 30.0)


def test_what_kept_its_format_among_compressed_neighbours_is_no_rival_alone() -> None:
    # an operator that reads what only its compressed neighbour makes: useless without it
    problem = chain(2)
    lonely = Option("o1:lonely", ("o1",), "fp32", flat(9.0), (q4("t0"),), (plain("t1"),), 400)
    maker = Option("o0:int4", ("o0",), "int8", flat(3.0), (plain("x"),), (q4("t0"),), 50)
    wider = replace(problem, options=(*problem.options, maker, lonely))
    posed = _posed(wider)
    found = rivals_of_variant(posed, wider, {}, 0)
    assert found["o1"].delta_us == pytest.approx(-4.0)


def test_a_variant_that_no_options_make_has_no_rivals() -> None:
    problem = chain(2)
    kept = tuple(one for one in problem.options if one.name != "o1:fp32")
    wider = replace(problem, options=kept)
    assert rivals_of_variant(_posed(wider), wider, {}, 0) == {}
