"""Where a kernel's time goes adds up to what it takes."""

from __future__ import annotations

import pytest

from planner import resources
from planner.cost.predictor import Predictor
from planner.cost.work import Product, Recurrence, Traffic, Work
from planner.place.spending import Spending
from planner.spec.profile import read_profile

PREDICTOR = Predictor(read_profile(resources.folder("profiles") / "v100-sxm2-16gb.yaml"))
STEPS = Recurrence(steps=500, batch=1, inputs=1024, hidden=1024, gates=3, directions=2)


@pytest.mark.parametrize(
    ("work", "largest"),
    [
        (Product(4096, 4096, 4096), "compute_us"),
        (Product(1, 4096, 4096), "memory_us"),
        (Traffic(1e9, 1e9), "memory_us"),
        (Traffic(1e2, 1e2), "launch_us"),
        (STEPS, "memory_us"),
    ],
)
def test_parts_add_up_and_the_bound_is_the_largest(work: Work, largest: str) -> None:
    expected_us = PREDICTOR.kernel(work).expected_us
    parts = Spending(PREDICTOR).parts(work, expected_us)
    found = {name: getattr(parts, name) for name in ("compute_us", "memory_us", "launch_us")}
    assert sum(found.values()) == pytest.approx(expected_us)
    assert max(found, key=lambda name: found[name]) == largest
    assert parts.floor_us <= expected_us


def test_every_step_of_a_recurrence_is_launched() -> None:
    parts = Spending(PREDICTOR).parts(STEPS, 100_000.0)
    assert parts.launch_us == pytest.approx(500 * PREDICTOR.launch_us)
    assert 0 < parts.compute_us < parts.memory_us
