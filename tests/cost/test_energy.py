"""Energy and memory: what follows from the model, whatever its shares are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import resources
from planner.cost import memory
from planner.cost.curves import Library, shipped
from planner.cost.energy import Power
from planner.ir.cost import Source
from planner.spec.fits import Curve, FitFile
from planner.spec.profile import read_profile

TIMES = st.floats(0, 1e9)


def _power(name: str) -> Power | None:
    return Power.of(read_profile(resources.folder("profiles") / f"{name}.yaml"))


@given(TIMES, TIMES, TIMES)
def test_energy_is_between_idle_and_board_power(compute: float, busy: float, idle: float) -> None:
    power = _power("a100-sxm-80gb")
    assert power is not None
    found = power.joules(compute_us=compute, memory_us=busy, waiting_us=idle, devices=2)
    seconds = (compute + busy + idle) / 1e6
    assert 0 <= found.low_j <= found.expected_j <= found.high_j <= 2 * 400 * seconds + 1e-6
    again = power.joules(compute_us=compute, memory_us=busy, waiting_us=idle)
    assert (again + again).expected_j == pytest.approx(found.expected_j)


def test_energy_names_its_source_and_needs_a_stated_power() -> None:
    power = _power("t4-16gb")
    assert power is not None
    second = power.joules(compute_us=1e6, memory_us=0, waiting_us=0)
    assert second.expected_j == pytest.approx(0.95 * 70)
    assert second.source.startswith("estimate")
    assert "datasheet" in second.source
    profile = read_profile(resources.folder("profiles") / "t4-16gb.yaml")
    assert Power.of(profile.model_copy(update={"power": None})) is None


def test_memory_is_learnt_per_software_and_typical_elsewhere() -> None:
    curve = Curve(
        source="a test",
        points=9,
        median_error=0.0,
        p90_error=0.0,
        parameters={"weights": 1.0, "cache": 2.0, "activations": 3.0, "context": 0.5},
        bands=((1e12, 0.9, 1.1),),
    )
    library = Library([FitFile(device="memory", curves={"soft": curve})])
    known = memory.find(library, "soft").occupied(4e9, 1e9, 1e9)
    assert known.expected_bytes == pytest.approx(4e9 + 2e9 + 3e9 + 0.5e9)
    assert known.high_bytes == pytest.approx(1.1 * known.expected_bytes)
    assert known.source is Source.INTERPOLATED
    other = memory.find(library, "else")
    assert other.source is Source.MODELLED
    assert other.occupied(4e9).low_bytes < 4e9 + other.context_bytes
    assert memory.find(shipped("t4-16gb", "sm_75")).context_bytes > 0
