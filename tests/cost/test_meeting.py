"""What threads lose where they meet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.cost.meeting import met_us

_TIMES = st.floats(0.1, 1e5)


@given(_TIMES, _TIMES)
def test_threads_that_sleep_lose_more_and_no_one_waits_for_what_he_can_do_himself(
    alone_us: float, pool_us: float
) -> None:
    spinning, sleeping = (met_us(alone_us, pool_us, is_spinning=each) for each in (True, False))
    assert 0 < spinning <= sleeping <= max(alone_us - pool_us, 0.0) + 4.0


def test_as_measured() -> None:
    assert met_us(900.0, 450.0, is_spinning=True) == pytest.approx(1.5)
    assert met_us(900.0, 450.0, is_spinning=False) == pytest.approx(20.0)
    assert met_us(12.0, 8.0, is_spinning=False) == pytest.approx(8.0)
