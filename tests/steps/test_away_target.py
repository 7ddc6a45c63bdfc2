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


def test_a_machine_that_ships_is_a_target_of_its_own() -> None:
    """Where several have the device, who names the device alone gets one of them."""
    target = Target.model_validate({"device": "a100-pairs-x4", "gpus": "1..2"})
    found = find_target(Constraints(model=Path("m.onnx"), target=target))
    assert found.node is not None
    assert found.node.name == "a100-pairs-x4"
    assert found.device.name == found.node.device
    alone = find_target(Constraints(model=Path("m.onnx"), target=Target(device=found.device.name)))
    assert alone.device == found.device


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
