"""What cannot be done here is refused, or told: nothing that was asked for is silently ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner import resources
from planner.errors import EnvironmentMismatchError, UsageError
from planner.spec.constraints import Constraints
from planner.spec.resolve import resolve
from planner.spec.yaml_source import load
from planner.steps.request import is_away, refuse_absent, unmet_wishes


def asked(**sections: Any) -> Constraints:
    return Constraints.model_validate({"model": "m.onnx", **sections})


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_this_machine_is_a_target(device: str) -> None:
    refuse_absent(asked(target={"device": device, "memory": 2**30}))


@pytest.mark.parametrize("path", resources.configs(), ids=lambda path: path.stem)
def test_what_shipped_configs_ask_for_can_be_planned(path: Path) -> None:
    """As they are: a first try that is refused is the last one."""
    constraints = resolve({}, {}, load(path)).constraints
    if not is_away(constraints):
        refuse_absent(constraints)


@pytest.mark.parametrize("device", ["cuda", "h100-sxm-80gb"])
def test_a_known_device_that_is_not_here(device: str) -> None:
    with pytest.raises(EnvironmentMismatchError, match=f"cannot be measured on '{device}'"):
        refuse_absent(asked(target={"device": device}))


def test_a_device_nobody_knows_has_a_nearest_one() -> None:
    with pytest.raises(UsageError, match=r"no device is called 'cpuu'\n  fix: did you mean 'cpu'"):
        refuse_absent(asked(target={"device": "cpuu"}))


@pytest.mark.parametrize("name", ["h100", "H100"])
def test_the_beginning_of_a_name_gets_all_that_begin_so(name: str) -> None:
    with pytest.raises(UsageError, match="did you mean 'h100-pcie-80gb' or 'h100-sxm-80gb'"):
        refuse_absent(asked(target={"device": name}))


@pytest.mark.parametrize("wish", [{"gpus": "1..4"}, {"offload": ["host"]}])
def test_wishes_that_need_a_gpu(wish: dict[str, Any]) -> None:
    with pytest.raises(EnvironmentMismatchError, match=f"target.{next(iter(wish))}"):
        refuse_absent(asked(target=wish))


def test_weights_are_needed() -> None:
    with pytest.raises(UsageError, match="no_weights"):
        refuse_absent(asked(no_weights=True))


def test_formats_and_pins_that_do_nothing_are_told() -> None:
    wishes = {"formats": ["fp8", "int8"], "pin": {"*head*": "fp32", "body*": "int8"}}
    found = unmet_wishes(asked(compression=wishes), ["body/Gemm", "tail/Gemm"])
    assert found == (
        "not among the formats of the CPU, so nothing gets it: fp8",
        "the pin '*head*' matches no operator (one is called 'body/Gemm')",
    )
