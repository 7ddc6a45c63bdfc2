"""Problems that make no sense: each is refused with the name of the thing."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import pytest

from planner.errors import UsageError
from planner.ir.problem import Conversion, Latency, Limits, Option, Problem, Setting
from planner.solve.validate import validate
from tests.solve.problems import chain, flat, plain, q8

BASE = chain(3)
FIRST = BASE.options[0]


def option(**changes: object) -> Problem:
    """The base with its first option changed."""
    changed = replace(FIRST, **changes)  # type: ignore[arg-type]
    return replace(BASE, options=(changed, *BASE.options[1:]))


def limits(**changes: object) -> Problem:
    """The base with limits."""
    return replace(BASE, limits=Limits(**changes))  # type: ignore[arg-type]


def setting(**changes: object) -> Problem:
    """The base with its setting changed."""
    return replace(BASE, settings=(replace(BASE.settings[0], **changes),))  # type: ignore[arg-type]


BAD: list[tuple[Problem, str]] = [
    (replace(BASE, options=BASE.options[2:]), "operator 'o0' has no option"),
    (option(latency=((Latency(nan, 1, 1),),)), "option 'o0:fp32' has the latency nan"),
    (option(latency=((Latency(0, 1, inf),),)), "option 'o0:fp32' has the latency"),
    (option(latency=((Latency(-1, 1, 1),),)), "option 'o0:fp32' has the latency -1"),
    (option(latency=((Latency(2, 1, 3),),)), "low <= expected <= high"),
    (option(latency=()), "option 'o0:fp32' has latencies for 0 settings, not 1"),
    (option(latency=((),)), "option 'o0:fp32' has latencies for 0 workload shapes"),
    (option(weight_size_bytes=-1), "weight_size_bytes of option 'o0:fp32' is -1"),
    (option(workspace_size_bytes=-1), "workspace_size_bytes of option 'o0:fp32'"),
    (option(error=nan), "error of option 'o0:fp32' is nan"),
    (option(energy_j=inf), "energy_j of option 'o0:fp32' is inf"),
    (option(ops=()), "option 'o0:fp32' computes no operator"),
    (option(ops=("o9",)), "option 'o0:fp32' covers the unknown operator 'o9'"),
    (option(ops=("o0", "o0")), "in option 'o0:fp32', operator 'o0' is named 2 times"),
    (
        option(ops=("o0", "o2")),
        "option 'o0:fp32' is not convex: a path leaves it, runs through 'o1'",
    ),
    (option(needs=(plain("y"),)), "option 'o0:fp32' needs 'y' as 'plain', which nobody makes"),
    (option(name="o1:fp32"), "option 'o1:fp32' is named 2 times"),
    (replace(BASE, ops=("o0", "o0", "o1", "o2")), "operator 'o0' is named 2 times"),
    (replace(BASE, edges=(*BASE.edges, ("o2", "o0"))), "wait for a cycle of edges"),
    (replace(BASE, edges=(("o0", "o9"),)), "names the unknown operator 'o9'"),
    (replace(BASE, edges=(("o2", "o1"),)), "operator 'o1' is listed before 'o2'"),
    (replace(BASE, settings=()), "the problem has no setting"),
    (setting(tail_factors=(0.9,)), "tail_factors[0] of setting 's0' is 0.9"),
    (setting(tail_factors=(1.0, 1.0)), "not one tail factor per workload shape"),
    (setting(size_bytes=-1), "size_bytes of setting 's0'"),
    (setting(price_per_hour=nan), "price_per_hour of setting 's0'"),
    (setting(overhead=()), "setting 's0' has latencies for 0 workload shapes"),
    (replace(BASE, shape_weights=()), "the workload has no shape"),
    (replace(BASE, shape_weights=(-1.0,)), "the weight of workload shape 0 is -1"),
    (replace(BASE, activation_size_bytes=-1), "activation_size_bytes is -1"),
    (replace(BASE, objectives=()), "the problem has no objective"),
    (replace(BASE, objectives=(BASE.objectives[0],) * 2), "objective 'latency' is named 2 times"),
    (limits(latency_us=nan), "the limit latency_us is nan"),
    (limits(memory_size_bytes=-1), "the limit memory_size_bytes is -1"),
    (limits(error=-1.0), "the limit error is -1"),
    (limits(throughput_per_s=0.0), "the limit throughput_per_s is 0"),
    (replace(BASE, tied=(("o0", "o9"),)), "a tied group names the unknown operator 'o9'"),
    (replace(BASE, forbidden=(frozenset(),)), "a forbidden set is empty"),
    (replace(BASE, forbidden=(frozenset({"?"}),)), "a forbidden set names the unknown option '?'"),
    (replace(BASE, wanted=(plain("y"),)), "'y' as 'plain' is wanted, but nobody makes it"),
    (
        replace(
            BASE, conversions=(Conversion("c", plain("y"), q8("y"), flat(1.0)), *BASE.conversions)
        ),
        "conversion 'c' reads 'y' as 'plain', which nobody makes",
    ),
    (
        replace(
            BASE, conversions=(Conversion("c", plain("x"), q8("t0"), flat(1.0)), *BASE.conversions)
        ),
        "conversion 'c' turns 'x' as 'plain' into another tensor",
    ),
    (
        replace(
            BASE,
            conversions=(Conversion("c", plain("x"), plain("x"), flat(1.0)), *BASE.conversions),
        ),
        "conversion 'c' makes what it reads",
    ),
]


@pytest.mark.parametrize(("problem", "message"), BAD, ids=[message for _, message in BAD])
def test_refuses_and_names_the_thing(problem: Problem, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        validate(problem)
    assert message in str(refusal.value)


def test_accepts() -> None:
    validate(BASE)
    validate(Problem((), (), (), ()))
    skip = Problem(
        ("a", "b", "c"),
        (("a", "b"), ("b", "c"), ("a", "c")),
        (Option("abc", ("a", "b", "c"), "fp32", flat(1.0)),),
        (Setting("s0", (Latency(0, 0, 0),)),),
    )
    validate(skip)


def test_parts_that_were_found_valid_are_not_read_again_and_others_are() -> None:
    """Limits and objectives are, whatever was read before."""
    validate(BASE)
    validate(replace(BASE, limits=Limits(error=1.0)))
    with pytest.raises(UsageError, match="error"):
        validate(replace(BASE, limits=Limits(error=-1.0)))
    with pytest.raises(UsageError, match="objective"):
        validate(replace(BASE, objectives=()))
    wrong = replace(BASE.options[0], weight_size_bytes=-1)
    with pytest.raises(UsageError, match="weight_size_bytes"):
        validate(replace(BASE, options=(wrong, *BASE.options[1:])))
    validate(BASE)


def test_operators_repeat_only_where_there_are_places() -> None:
    """One device's way computes every operator once: it would call another plan the best."""
    with pytest.raises(UsageError, match="repeatable operators, but no place"):
        validate(replace(BASE, repeatable=frozenset(BASE.ops[:1])))
