"""How a model follows the machine's state: exponents, the fast state, another state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.cost.state import State
from planner.cost.tempo import (
    USUAL_PACE,
    Beside,
    Feeling,
    Floats,
    at_state,
    fast_us,
    late_felt,
    pace_felt,
    slowness,
)
from planner.spec.estimate import Estimate

_INTERRUPTED = 0.05
"""Share of turns."""


def _turns(
    true: Feeling,
    fast: float,
    *,
    paces: Sequence[float] = (1.0,),
    lates: Sequence[float] = (1.0,),
    seed: int,
    rounds: int = 300,
) -> Beside:
    """Turns in randomly changing states of the machine; a twentieth of them interrupted. Spells may
    end between two turns: own turns and the probes' see the same states, not at the same time."""
    rng = np.random.default_rng(seed)

    def states(of: Sequence[float]) -> Floats:
        return rng.choice(np.array(of), rounds)

    def noise() -> Floats:
        return np.exp(rng.normal(0, 0.02, rounds))

    own = fast * states(paces) ** true.pace * states(lates) ** true.late * noise()
    own = np.where(rng.random(rounds) < _INTERRUPTED, 10 * own, own)
    pool = 35.0 * states(paces) * states(lates) * noise()
    return Beside(list(own), list(pool), list(37.0 * states(paces) * noise()))


_FAST = State(37.0, 35.0)


@given(st.floats(0.3, 1.1), st.integers(0, 2**16))
def test_the_pace_shows_where_the_machine_was_in_two_states(true: float, seed: int) -> None:
    felt = Feeling(true, 0.0)
    pairs = [
        _turns(felt, fast, paces=(1.0, 1.6), seed=seed + n) for n, fast in enumerate((100, 3000))
    ]
    found = pace_felt(pairs)
    assert found == pytest.approx(true, abs=0.15)
    assert fast_us(pairs[0], _FAST, Feeling(found, 0.0)) == pytest.approx(100.0, rel=0.06)
    assert fast_us(pairs[1], _FAST, Feeling(found, 0.0)) == pytest.approx(3000.0, rel=0.06)


@given(st.floats(0.3, 1.1), st.sampled_from([0.5, 0.9]), st.integers(0, 2**16))
def test_threads_that_meet_late_show_beside_cores_that_are_slow(
    true: float, pace: float, seed: int
) -> None:
    felt = Feeling(pace, true)
    pair = _turns(felt, 500.0, paces=(1.0, 1.3), lates=(1.0, 2.0), seed=seed)
    assert late_felt([pair], pace, usual=0.6, shared=1.0) == pytest.approx(true, abs=0.2)


@given(st.floats(0.3, 1.1), st.floats(0.1, 0.9), st.integers(0, 2**16))
def test_one_state_tells_nothing_and_the_prior_holds(true: float, usual: float, seed: int) -> None:
    pair = _turns(Feeling(true, true), 100.0, seed=seed)
    assert pace_felt([pair]) == pytest.approx(USUAL_PACE, abs=0.1)
    assert late_felt([pair], 0.8, usual, shared=1.0) == pytest.approx(usual, abs=0.15)
    assert fast_us(pair, _FAST, Feeling(0.8, usual)) == pytest.approx(100.0, rel=0.05)


@given(st.integers(0, 2**16))
def test_what_a_model_does_in_a_quiet_hour_tells_nothing_of_neighbours(seed: int) -> None:
    """Its threads meet late now and then; the probe did not change."""
    calm = _turns(Feeling(0.7, 0.7), 100.0, seed=seed)
    late = np.exp(np.abs(np.random.default_rng(seed).normal(0, 0.2, len(calm.own_us))))
    assert pace_felt([replace(calm, own_us=list(late * calm.own_us))]) < 0.95


@given(st.integers(0, 2**16))
def test_what_is_alone_and_a_probe_of_two_may_both_spread_and_not_be_of_one_cause(
    seed: int,
) -> None:
    """Late threads double the probe; what runs on one has troubles of its own."""
    own = _turns(Feeling(1.0, 0.0), 8.0, paces=(1.0, 1.5), seed=seed).own_us
    other = _turns(Feeling(0.0, 1.0), 8.0, lates=(1.0, 1.2), seed=seed + 1)
    found = late_felt([replace(other, own_us=own)], 0.8, usual=0.0, shared=0.0)
    assert slowness(State(37.0, 80.0), State(37.0, 40.0), Feeling(0.8, found)) < 1.1


@given(st.integers(0, 2**16), st.floats(0.2, 1.0))
def test_what_kept_its_pace_while_the_probe_did_not_follows_no_more(
    seed: int, shared: float
) -> None:
    """Threads that hear of each other late, and a model that hardly needs them."""
    pair = _turns(Feeling(0.8, 0.0), 900.0, lates=(1.0, 2.0), seed=seed)
    found = late_felt([pair], 0.8, usual=0.6, shared=shared)
    assert slowness(State(37.0, 80.0), State(37.0, 40.0), Feeling(0.8, found)) < 1.12


def test_a_slow_race_still_tells_of_the_fast_state() -> None:
    felt = Feeling(0.7, 0.4)
    slow = _turns(felt, 100.0, paces=(1.5, 1.7), seed=1)
    assert fast_us(slow, _FAST, felt) == pytest.approx(100.0, rel=0.05)
    late = _turns(felt, 100.0, lates=(1.8, 2.0), seed=1)
    assert fast_us(late, _FAST, felt) == pytest.approx(100.0, rel=0.05)


def test_an_estimate_moves_with_the_machine_and_widens_with_the_distance() -> None:
    planned = Estimate(low=90.0, expected=100.0, high=110.0, source="measured")
    fast, slow, late = State(40.0, 40.0), State(80.0, 80.0), State(40.0, 80.0)
    felt = Feeling(0.5, 0.25)
    here = at_state(planned, slow, fast, felt)
    assert here.expected == pytest.approx(100.0 * 2**0.5)
    assert here.low < 90.0 * 2**0.5 < 110.0 * 2**0.5 < here.high
    assert at_state(planned, late, fast, felt).expected == pytest.approx(100.0 * 2**0.25)
    assert at_state(planned, fast, fast, felt) == planned
    back = at_state(planned, fast, late, felt)
    assert back.low < back.expected < back.high
    assert slowness(late, slow, felt) * slowness(slow, late, felt) == pytest.approx(1.0)


def test_what_was_not_looked_at_is_taken_for_alike() -> None:
    felt = Feeling(0.5, 0.25)
    nothing, here = State(0.0, 0.0), State(40.0, 80.0)
    assert slowness(here, nothing, felt) == slowness(nothing, here, felt) == 1.0
    assert slowness(here, State(0.0, 40.0), felt) == pytest.approx(2**0.25)  # an older plan
    assert slowness(here, State(20.0, 0.0), felt) == pytest.approx(2**0.5)
    pair = Beside([100.0] * 20, [70.0] * 20, [])
    assert fast_us(pair, State(37.0, 35.0), felt) == pytest.approx(100.0 / 2**0.25)
