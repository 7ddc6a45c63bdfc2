"""Targets by name and by file; files whose numbers cannot be right are refused with their line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from planner import resources
from planner.errors import InfoptError, SpecError
from planner.spec.devices import describe
from planner.spec.resolve import resolve
from planner.spec.yaml_source import loads

PROFILES = resources.folder("profiles")
A100 = PROFILES / "a100-sxm-80gb.yaml"
SHARED = "shared_memory_per_unit: {value"
RATE = "{value: 99e12, unit: flop/s, source: test}"


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = A100.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("memory_bandwidth: {value: 2.039e12", "memory_bandwidth: {value: -2e12", 13, "greater"),
        ("memory_bandwidth: {value: 2.039e12", "memory_bandwidth: {value: 0", 13, "more than 0"),
        ("memory_size: {value: 80e9", "memory_size: {value: 40e9", 12, "reports"),
        ("cache_size: {value: 41943040", "cache_size: {value: 80e9", 10, "cache"),
        ("fp16: {value: 312e12", "fp16: {value: 999e12", 14, "2:4"),
        ("fp16: {value: 312e12", "fp16: {value: 0", 17, "more than 0"),
        ("int8: {value: 624e12, unit: op/s", "int8: {value: 624e12, unit: bytes", 19, "flop/s"),
        (SHARED, f"sustained: {{fp8: {RATE}}}\n{SHARED}", 21, "sustained rate but no peak"),
        (SHARED, f"sustained: {{fp32: {RATE}}}\n{SHARED}", 21, "more than its peak"),
        ("units: 108", "units: none", 8, "number"),
        ("units: 108\n", "", 1, "missing"),
    ],
)
def test_numbers_that_cannot_be_right_are_refused_with_their_line(
    tmp_path: Path, old: str, new: str, line: int, what: str
) -> None:
    path = changed(tmp_path, old, new)
    with pytest.raises(SpecError) as refused:
        describe(str(path))
    text = str(refused.value)
    assert f"{path}:" in text
    assert what in text
    assert abs(int(text.split("mine.yaml:")[1].split(":")[0]) - line) <= 1, text


def test_a_file_is_a_device_and_a_machine_names_one_beside_it(tmp_path: Path) -> None:
    mine = changed(tmp_path, "name: a100-sxm-80gb", "name: mine")
    assert describe(str(mine)).device.name == "mine"
    machine = (PROFILES / "nodes" / "dgx-a100.yaml").read_text(encoding="utf-8")
    path = tmp_path / "rack.yaml"
    path.write_text(machine.replace("device: a100-sxm-80gb", "device: mine"), encoding="utf-8")
    found = describe(str(path))
    assert found.device.name == "mine"
    assert found.machine is not None
    assert found.machine.devices == 8
    shutil.copy(PROFILES / "nodes" / "dgx-a100.yaml", tmp_path / "shipped.yaml")
    assert describe(str(tmp_path / "shipped.yaml")).device.name == "a100-sxm-80gb"


@pytest.mark.parametrize("name", ["nowhere.yaml", "a100-sxm-8gb"])
def test_what_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InfoptError):
        describe(name)


@pytest.mark.parametrize("target", ["gpus/mine.yaml", "{device: gpus/mine.yaml}"])
def test_a_file_in_constraints_is_relative_to_them(target: str) -> None:
    source = loads(f"model: m.onnx\ntarget: {target}\n", Path("some/c.yaml"))
    assert resolve({}, {}, source).constraints.target.device == "some/gpus/mine.yaml"
    flags = {"target": ("gpus/mine.yaml",)}
    assert resolve(flags, {}, source).constraints.target.device == "gpus/mine.yaml"
