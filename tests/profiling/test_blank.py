"""Short kernels on a machine of two states: what surrounds them is subtracted as it is then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from planner.profiling import blank as blank_module
from planner.profiling import measure as measure_module
from planner.profiling import reference as reference_module
from planner.profiling import timing as timing_module
from planner.profiling.item import Item, Request
from planner.profiling.measure import Meter
from planner.profiling.timing import Run, Sample, calm_interval, fast_interval, is_torn

_SLOW = 1.7
_CALL_US, _READER_US, _PROBE_US, _COPIES = 2.0, 0.4, 50.0, 16


class Machine:
    """A clock that runs advance, by more in spells of load."""

    def __init__(self, seed: int) -> None:
        self.now_us = 0.0
        self._random = np.random.default_rng(seed)
        self._until_us, self._is_slow = 0.0, False

    def spend(self, fast_us: float) -> None:
        if self.now_us >= self._until_us:
            self._is_slow = not self._is_slow
            self._until_us = self.now_us + self._random.uniform(2e3, 8e3)
        self.now_us += fast_us * (_SLOW if self._is_slow else 1.0)

    def run(self, fast_us: float) -> Run:
        return lambda: self.spend(fast_us)


@pytest.mark.parametrize("seed", range(6))
def test_short_kernels_are_not_free_because_a_neighbour_was_busy_for_a_moment(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(seed)
    readers = {b"1": 1, b"33": 33}
    clock = SimpleNamespace(
        perf_counter_ns=lambda: machine.now_us * 1e3, perf_counter=lambda: machine.now_us / 1e6
    )
    for module in (timing_module, measure_module):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(Meter, "_session", lambda _, content: content)
    monkeypatch.setattr(reference_module, "runner", lambda *_: machine.run(_PROBE_US))
    monkeypatch.setattr(blank_module, "shapes_model", lambda count: str(count).encode())

    def reading(content: bytes, _: Any) -> Run:
        return machine.run(_CALL_US + _READER_US * readers[content])

    monkeypatch.setattr(blank_module, "runner", reading)
    wanted = {"a": 0.3, "b": 0.6, "c": 4.0}
    meter = Meter()
    items = [_item(machine, name, kernel_us) for name, kernel_us in wanted.items()]
    found = dict(meter._run(items, budget_s=0.02))
    assert len(found) == len(wanted)
    for request, timed in found.items():
        assert not isinstance(timed, str)
        slow = timed.reference_us / _PROBE_US
        assert timed.latency_us / slow == pytest.approx(wanted[request.key], rel=0.05)


def _item(machine: Machine, name: str, kernel_us: float) -> Item:
    whole_us = _CALL_US + _COPIES * (_READER_US + kernel_us)
    sample = Sample(name, machine.run(whole_us), warm_up=1)
    return Item(Request(0, name, 0), sample, _COPIES, whole_us)


def test_times_of_which_hardly_any_were_undisturbed_count_as_the_least_of_them() -> None:
    """As of a convolution of 34 us that two threads shared while another program ran."""
    times = [54.9, 170.0, 175.0, 181.0, 190.0, 200.0, 220.0, 230.0, 240.0, 244.8]
    assert is_torn(times)
    assert fast_interval(times).median > 150.0
    found = calm_interval(times)
    assert (found.median, found.low) == (54.9, 54.9)
    assert found.high > 150.0


def test_what_stands_beside_a_kernel_is_of_the_rounds_that_it_ran_in() -> None:
    """A kernel whose interval was tight at once ran no more when the machine became fast."""
    item = Item(Request(0, "k", 0), Sample("k", lambda: None, [170.0] * 20), 16, 170.0)
    probe = Sample("probe", lambda: None, [95.0] * 20 + [56.0] * 80)
    assert item.counted(probe) == 95.0
    torn = Item(Request(0, "k", 0), Sample("k", lambda: None, [100.0, *[170.0] * 19]), 16, 170.0)
    assert torn.counted(Sample("probe", lambda: None, [57.0, *[95.0] * 19])) == 57.0


def test_times_of_one_state_count_as_they_did() -> None:
    times = cast("list[float]", np.random.default_rng(0).normal(40.0, 0.4, 40).tolist())
    assert not is_torn(times)
    assert calm_interval(times) == fast_interval(times)
