"""What a device takes for parts of a fused schedule: its clock and its size count once each."""

from __future__ import annotations

import pytest

from planner import resources
from planner.cost.rates import rates_of
from planner.kernels.estimate import Rates
from planner.spec.profile import DeviceProfile, Quantity, read_profile

KNOWN = read_profile(resources.folder("profiles") / "h200-sxm-141gb.yaml")
CLOCK = Quantity(value=1.98e9, unit="Hz", source="estimate: of the test")


def device(clock: float, units: float) -> DeviceProfile:
    """An H200 with so much of its clock and its multiprocessors, and the peaks that follow."""
    peak = {
        name: rate.model_copy(update={"value": rate.value * clock * units})
        for name, rate in KNOWN.peak.items()
    }
    changed = {
        "peak": peak,
        "sustained": {},
        "units": int(KNOWN.units * units),
        "clock": CLOCK.model_copy(update={"value": CLOCK.value * clock}),
    }
    return KNOWN.model_copy(update=changed)


def multiplied_us(rates: Rates) -> float:
    """A multiply-add of a multiprocessor's matrix units."""
    chip = rates.chip("float16")
    return chip.product_factor * chip.pace.wide_us_per_flop


@pytest.mark.parametrize(("clock", "units"), [(1, 1), (0.5, 1), (1, 0.5), (0.5, 0.5), (0.25, 0.5)])
def test_a_device_with_another_clock_is_priced_once(clock: float, units: float) -> None:
    known, other = rates_of(device(1, 1)), rates_of(device(clock, units))
    assert multiplied_us(other) == pytest.approx(multiplied_us(known) / clock)
    assert other.pace.worked_us == pytest.approx(known.pace.worked_us / clock)
    assert other.pace.sector_us == pytest.approx(known.pace.sector_us / clock / units)
    assert other.l2_bytes_per_us == pytest.approx(known.l2_bytes_per_us * clock * units)
