"""The target of a large plan: whose price counts."""

from __future__ import annotations

from pathlib import Path

from planner.spec.constraints import Constraints
from planner.spec.target import Target
from planner.steps.away.target import find_target


def _constraints(price_per_hour: float | None) -> Constraints:
    target = Target(device="a100-sxm-80gb", price_per_hour=price_per_hour)
    return Constraints(model=Path("m.onnx"), target=target)


def test_a_given_price_replaces_the_profiles() -> None:
    assert find_target(_constraints(None)).price_source.startswith("estimate")
    own = find_target(_constraints(1.25))
    assert own.machine.price_per_hour == 1.25
    assert own.price_source == "given by the user"
