"""What a kernel takes in another state of the machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.cost.state import PROBE_REGIONS, Sharing, State, moved_us, sharing_of

_TIMES = st.floats(1.0, 1e4)
_SHARINGS = st.sampled_from(Sharing)
_STATES = st.builds(State, st.floats(20.0, 80.0), st.floats(20.0, 200.0))


@given(_TIMES, st.floats(0.5, 2.0), st.floats(0.0, 5.0), st.floats(0.0, 5.0))
def test_both_kinds_of_slowness_are_taken_back(
    own_us: float, pace: float, seen_us: float, wanted_us: float
) -> None:
    """Cores that take `pace` times as long, threads that meet later: one region and the probe."""

    def state(pace: float, late_us: float) -> State:
        return State(37.0 * pace, 35.0 * pace + PROBE_REGIONS * late_us)

    seen, wanted = state(pace, seen_us), state(1.0, wanted_us)
    took_us, takes_us = own_us * pace + seen_us, own_us + wanted_us
    found = moved_us(took_us, Sharing.ONCE, seen=seen, wanted=wanted, felt=1.0)
    share = wanted.pool_us / seen.pool_us
    if min(1 / pace, share) * took_us < takes_us < max(1 / pace, share) * took_us:
        assert found == pytest.approx(takes_us, rel=1e-6)
    alone = moved_us(own_us * pace, Sharing.ALONE, seen=seen, wanted=wanted, felt=1.0)
    assert alone == pytest.approx(own_us)


@given(_TIMES, _STATES, _STATES, _SHARINGS, st.floats(0.0, 1.2))
def test_no_kernel_changes_by_more_than_a_probe(
    us: float, seen: State, wanted: State, sharing: Sharing, felt: float
) -> None:
    found = moved_us(us, sharing, seen=seen, wanted=wanted, felt=felt)
    pace = (wanted.alone_us / seen.alone_us) ** felt
    low, high = sorted((pace, wanted.pool_us / seen.pool_us))
    assert us * low * (1 - 1e-9) <= found <= us * high * (1 + 1e-9) or sharing == Sharing.ALONE
    assert found > 0
    more = moved_us(2 * us, sharing, seen=seen, wanted=wanted, felt=felt)
    assert more > found


@given(_TIMES, _STATES, _SHARINGS)
def test_the_same_state_changes_nothing(us: float, state: State, sharing: Sharing) -> None:
    found = moved_us(us, sharing, seen=state, wanted=state, felt=0.8)
    assert found == pytest.approx(us)


def test_a_state_that_is_not_known_changes_nothing() -> None:
    nothing, wanted = State(0.0, 0.0), State(40.0, 70.0)
    assert moved_us(5.0, Sharing.ONCE, seen=nothing, wanted=wanted, felt=1.0) == 5.0
    one = moved_us(5.0, Sharing.ONCE, seen=State(0.0, 38.0), wanted=wanted, felt=1.0)
    assert one == pytest.approx(7.0)  # the pool alone is known: by the region


def test_a_kernel_of_many_tasks_meets_more_often_the_longer_it_takes() -> None:
    """768 pairs of timings: 16 us longer where it takes 12, 115 where it takes 600."""
    seen, wanted = State(37.0, 35.0), State(37.0, 71.0)

    def longer_us(us: float, sharing: Sharing) -> float:
        return moved_us(us, sharing, seen=seen, wanted=wanted, felt=1.0) - us

    assert longer_us(12.0, Sharing.ONCE) == longer_us(600.0, Sharing.ONCE) == pytest.approx(2.25)
    assert longer_us(12.0, Sharing.TASKS) == pytest.approx(12.0, rel=0.2)
    assert longer_us(600.0, Sharing.TASKS) == pytest.approx(115.0, rel=0.2)
    assert longer_us(600.0, Sharing.ALONE) == 0.0


@pytest.mark.parametrize(
    ("op_type", "is_alike", "wanted"),
    [
        ("Conv", False, Sharing.ONCE),
        ("Conv", True, Sharing.ALONE),
        ("QLinearConv", False, Sharing.TASKS),
        ("MatMulNBits", True, Sharing.TASKS),  # two threads that gain nothing still meet
    ],
)
def test_who_takes_with_one_thread_what_it_takes_with_all_is_run_by_one(
    op_type: str, is_alike: bool, wanted: Sharing
) -> None:
    assert sharing_of(op_type, is_alike=is_alike) == wanted
