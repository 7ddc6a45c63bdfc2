"""Prices: brought to one state of the machine, added with errors in quadrature."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.cost.state import Sharing, State
from planner.cost.table import CostTable
from planner.ir.cost import Source
from planner.profiling.store import KernelTime


def _time(us: float, low: float, high: float, reference_us: float = 100.0) -> KernelTime:
    return KernelTime(us, low, high, reference_us, 20)


def _state(us: float) -> State:
    return State(us, us)


def test_a_price_is_scaled_to_the_state_of_its_own_pool() -> None:
    table = CostTable(
        {"k": _time(10.0, 9.0, 12.0, reference_us=50.0)}, {1: _state(100.0), 2: _state(1.0)}
    )
    found = table.cost("k")
    assert (found.low_us, found.expected_us, found.high_us) == (18.0, 20.0, 24.0)
    assert found.source == Source.MEASURED


def test_a_measurement_without_its_moment_is_taken_as_it_is() -> None:
    table = CostTable({"k": _time(10.0, 9.0, 12.0, reference_us=0.0)}, {1: _state(100.0)})
    assert table.cost("k").expected_us == 10.0


def _pair() -> dict[str, KernelTime]:
    """A kernel timed with one thread and with two, where the probe took 100 us with either."""
    alone = _time(10.0, 9.0, 12.0)
    return {"alone": alone, "together": replace(alone, threads=2, alone_us=100.0)}


def test_what_one_thread_runs_follows_the_probe_with_one_in_every_pool() -> None:
    table = CostTable(_pair(), {1: _state(110.0), 2: State(110.0, 500.0)})
    assert table.cost("alone").expected_us == pytest.approx(11.0)
    assert table.cost("together").expected_us == pytest.approx(11.0)


def test_threads_that_meet_late_cost_a_region_each_time() -> None:
    """With 16 regions the probe took 16 us longer: this kernel took one longer, not 16 %."""
    table = CostTable(
        _pair(), {1: _state(100.0), 2: State(100.0, 84.0)}, sharing={"together": Sharing.ONCE}
    )
    assert table.cost("together").expected_us == pytest.approx(9.0)
    assert table.cost("alone").expected_us == 10.0


def test_another_state_is_felt_as_far_as_one_thread_feels_it() -> None:
    table = CostTable(
        _pair(), {1: _state(100.0), 2: _state(100.0)}, sharing={"together": Sharing.ONCE}
    )
    found = table.in_state({1: _state(81.0), 2: State(81.0, 90.0)}, felt=0.5)
    assert found.cost("alone").expected_us == pytest.approx(9.0)
    assert found.cost("together").expected_us == pytest.approx(9.0)  # the probe's pace: no region
    more = found.extended({"more": _pair()["alone"]}, {})
    assert more.cost("more").expected_us == pytest.approx(9.0)
    assert more.cost("together") == found.cost("together")
    assert table.cost("alone").expected_us == 10.0


def test_a_kernel_among_others_takes_longer_than_among_its_copies() -> None:
    times = {"a": _time(10.0, 9.0, 12.0), "b": _time(5.0, 5.0, 5.0)}
    table = CostTable(times, {1: _state(100.0)}).in_state(
        {1: _state(200.0)}, felt=1.0, change_us=1.0
    )
    found = table.cost("a")
    assert (found.low_us, found.expected_us, found.high_us) == (19.0, 21.0, 25.0)
    assert table.extended({}, {}).total(["a", "b", "b"]).expected_us == 43.0
    assert table.brought(times["a"]).expected_us == 20.0


def test_what_was_never_measured_has_no_price() -> None:
    table = CostTable({}, {1: _state(100.0)})
    assert "k" not in table
    with pytest.raises(KeyError):
        table.cost("k")


def test_errors_of_different_kernels_add_in_quadrature() -> None:
    table = CostTable({"a": _time(10, 7, 13), "b": _time(20, 16, 24)}, {1: _state(100.0)})
    found = table.total(["a", "b"])
    assert (found.low_us, found.expected_us, found.high_us) == (25.0, 30.0, 35.0)


def test_errors_of_one_kernel_run_twice_are_the_same_error() -> None:
    table = CostTable({"a": _time(10, 7, 14)}, {1: _state(100.0)})
    found = table.total(["a", "a"])
    assert (found.low_us, found.expected_us, found.high_us) == (14.0, 20.0, 28.0)


def test_nothing_costs_nothing() -> None:
    found = CostTable({}, {1: _state(100.0)}).total([])
    assert (found.low_us, found.expected_us, found.high_us) == (0.0, 0.0, 0.0)


_TIMES = st.lists(
    st.tuples(st.floats(0.1, 1e4), st.floats(0, 0.5), st.floats(0, 2.0), st.integers(1, 3)),
    min_size=1,
    max_size=6,
)


@given(_TIMES, st.floats(0.5, 2.0))
def test_totals_lie_between_the_sums_of_ends_and_scale(
    parts: list[tuple[float, float, float, int]], speed: float
) -> None:
    times = {
        str(index): _time(us, us * (1 - below), us * (1 + above))
        for index, (us, below, above, _) in enumerate(parts)
    }
    keys = [str(index) for index, part in enumerate(parts) for _ in range(part[3])]
    found = CostTable(times, {1: _state(100.0)}).total(keys)
    lowest = sum(times[key].low_us for key in keys)
    highest = sum(times[key].high_us for key in keys)
    tiny = 1e-9 * highest
    assert lowest - tiny <= found.low_us <= found.expected_us <= found.high_us <= highest + tiny
    assert found.expected_us == pytest.approx(sum(times[key].latency_us for key in keys))
    faster = CostTable(times, {1: _state(100.0 * speed)}).total(keys)
    for end in ("low_us", "expected_us", "high_us"):
        assert math.isclose(getattr(faster, end), speed * getattr(found, end), rel_tol=1e-9)


def test_tables_grow_without_changing() -> None:
    table = CostTable({"a": _time(1, 1, 1)}, {1: _state(100.0)})
    assert "a" in table
    assert "b" not in table
    more = table.extended({"b": _time(2, 2, 2, reference_us=200.0)}, {})
    assert more.total(["a", "b"]).expected_us == 2.0
    assert "b" not in table
