"""How a model follows the machine's state: the exponent, the fast state, another state."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.cost.tempo import Beside, at_state, exponent, fast_us, slowness
from planner.spec.estimate import Estimate


def _turns(
    true: float, fast: float, states: list[float], *, seed: int, rounds: int = 300
) -> Beside:
    """Turns in randomly changing states of the machine; a twentieth of them interrupted."""
    rounds, rng = 300, np.random.default_rng(seed)
    state, later = rng.choice(states, (2, rounds))  # a spell may end between the two turns
    probe = 40.0 * later * np.exp(rng.normal(0, 0.02, rounds))
    own = fast * state**true * np.exp(rng.normal(0, 0.02, rounds))
    own = np.where(rng.random(rounds) < 0.05, 10 * own, own)
    return Beside(list(own), list(probe))


@given(st.floats(0.3, 1.1), st.integers(0, 2**16))
def test_the_exponent_shows_where_the_machine_was_in_two_states(true: float, seed: int) -> None:
    pairs = [_turns(true, fast, [1.0, 1.6], seed=seed + n) for n, fast in enumerate((100, 3000))]
    found = exponent(pairs)
    assert found == pytest.approx(true, abs=0.15)
    assert fast_us(pairs[0], 40.0, found) == pytest.approx(100.0, rel=0.1)
    assert fast_us(pairs[1], 40.0, found) == pytest.approx(3000.0, rel=0.1)


@given(st.floats(0.3, 1.1), st.integers(0, 2**16))
def test_one_state_tells_nothing_and_the_prior_holds(true: float, seed: int) -> None:
    pair = _turns(true, 100.0, [1.0], seed=seed)
    assert exponent([pair]) == pytest.approx(0.8, abs=0.1)
    assert fast_us(pair, 40.0, exponent([pair])) == pytest.approx(100.0, rel=0.04)


@given(st.integers(0, 2**16))
def test_what_a_model_does_in_a_quiet_hour_tells_nothing_of_neighbours(seed: int) -> None:
    """Its threads meet late now and then; the probe did not change."""
    calm = _turns(0.7, 100.0, [1.0], seed=seed)
    late = np.exp(np.abs(np.random.default_rng(seed).normal(0, 0.2, len(calm.own_us))))
    assert exponent([Beside(list(late * calm.own_us), calm.probe_us)]) < 0.95


def test_what_one_thread_does_does_not_follow_a_probe_of_two() -> None:
    """Its second core was taken by a neighbour; the model works on one."""
    quiet = _turns(0.8, 100.0, [1.0], seed=3)
    alone, together = exponent([quiet], 0.0), exponent([quiet], 1.0)
    assert alone == pytest.approx(0.1, abs=0.05)
    assert together == pytest.approx(0.8, abs=0.1)
    planned = Estimate(low=6.0, expected=6.8, high=7.5, source="measured")
    assert at_state(planned, 44.0, 22.0, alone).expected < 1.1 * 6.8


@given(st.integers(0, 2**16))
def test_what_is_alone_and_a_probe_of_two_may_both_spread_and_not_be_of_one_cause(
    seed: int,
) -> None:
    """A core that is taken doubles the probe; what runs on the other has troubles of its own."""
    own = _turns(1.0, 8.0, [1.0, 1.5], seed=seed).own_us
    probe = _turns(1.0, 8.0, [1.0, 1.2], seed=seed + 1).probe_us
    found = exponent([Beside(own, probe)], shared=0.0)
    assert slowness(80.0, 40.0, found) < 1.1


@given(st.integers(0, 2**16), st.floats(0.2, 1.0))
def test_what_kept_its_pace_while_the_probe_did_not_follows_no_more(
    seed: int, shared: float
) -> None:
    """Threads that hear of each other late, and a model that hardly needs them."""
    probe = _turns(1.0, 8.0, [1.0, 2.0], seed=seed).probe_us
    own = _turns(0.0, 900.0, [1.0], seed=seed + 1).own_us
    found = exponent([Beside(own, probe)], shared=shared)
    assert slowness(80.0, 40.0, found) < 1.12


def test_a_slow_race_still_tells_of_the_fast_state() -> None:
    pair = _turns(0.7, 100.0, [1.5, 1.7], seed=1)
    assert fast_us(pair, 40.0, 0.7) == pytest.approx(100.0, rel=0.03)


def test_an_estimate_moves_with_the_machine_and_widens_with_the_distance() -> None:
    planned = Estimate(low=90.0, expected=100.0, high=110.0, source="measured")
    here = at_state(planned, 80.0, 40.0, 0.5)
    assert here.expected == pytest.approx(100.0 * 2**0.5)
    assert here.low < 90.0 * 2**0.5 < 110.0 * 2**0.5 < here.high
    assert at_state(planned, 40.0, 40.0, 0.5) == planned
    back = at_state(planned, 40.0, 80.0, 0.5)
    assert back.low < back.expected < back.high
    assert slowness(80.0, 40.0, 0.5) * slowness(40.0, 80.0, 0.5) == pytest.approx(1.0)
