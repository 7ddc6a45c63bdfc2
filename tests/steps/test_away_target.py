"""The target of a large plan: whose price counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.errors import EnvironmentMismatchError
from planner.spec.constraints import Constraints
from planner.spec.target import Target
from planner.steps.away.target import find_target


def _constraints(price_per_hour: float | None = None, device: str = "a100-sxm-80gb") -> Constraints:
    target = Target(device=device, price_per_hour=price_per_hour)
    return Constraints(model=Path("m.onnx"), target=target)


def test_a_given_price_replaces_the_profiles() -> None:
    assert find_target(_constraints(None)).price_source.startswith("estimate")
    own = find_target(_constraints(1.25))
    assert own.machine.price_per_hour == 1.25
    assert own.price_source == "given by the user"


@pytest.mark.parametrize(
    ("device", "why"), [("mi300x-192gb", "nothing is planned"), ("amd-epyc-2-cores", "is no GPU")]
)
def test_only_nvidia_gpus_are_planned_for_elsewhere(device: str, why: str) -> None:
    with pytest.raises(EnvironmentMismatchError, match=why):
        find_target(_constraints(device=device))
