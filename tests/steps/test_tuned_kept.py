"""What was tuned is found again for equal kernels on an equal device, and only there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.small.suite import SUITE
from planner.fuse.build import Draft, draft
from planner.fuse.tune import changed, classes
from planner.graph.semantics import program_of
from planner.steps.fused import tuning
from planner.steps.fused.tuning import Kept


@dataclass
class Device:
    """As much of a driver as names it."""

    name: str = "a GPU"
    version: str = "13.0"


@pytest.fixture(scope="module")
def plan() -> Draft:
    return draft(program_of(SUITE["lora"]("float16")), "float16")


@pytest.fixture(scope="module")
def tuned(plan: Draft) -> Draft:
    """Another configuration for one class, and a kernel that is not launched ahead."""
    one = classes(plan)[0]
    made = changed(plan, one.roots, one.configs[1])
    return replace(made, waiting=frozenset((made.kernels[0].name,)))


def kept(folder: Path, device: Device | None = None) -> Kept:
    given: Any = device or Device()
    return Kept(folder, given)


def test_it_is_found_again(plan: Draft, tuned: Draft, tmp_path: Path) -> None:
    assert kept(tmp_path).get(plan) is None
    kept(tmp_path).put(plan, (tuned, 5.5))
    found = kept(tmp_path).get(plan)
    assert found is not None
    again, device_us = found
    assert device_us == 5.5
    assert [item.text for item in again.kernels] == [item.text for item in tuned.kernels]
    assert again.waiting == tuned.waiting
    assert again.kernels != plan.kernels


def test_other_kernels_and_devices_are_other_questions(
    plan: Draft, tuned: Draft, tmp_path: Path
) -> None:
    kept(tmp_path).put(plan, (tuned, 5.5))
    assert kept(tmp_path).get(tuned) is None
    assert kept(tmp_path, Device(version="13.1")).get(plan) is None


def test_a_damaged_file_is_measured_again(plan: Draft, tuned: Draft, tmp_path: Path) -> None:
    kept(tmp_path).put(plan, (tuned, 5.5))
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text()[:-40])
    assert kept(tmp_path).get(plan) is None


def test_a_cache_that_cannot_be_written_costs_nothing(
    plan: Draft, tuned: Draft, tmp_path: Path
) -> None:
    (tmp_path / "full").touch()
    assert kept(tmp_path / "full").put(plan, (tuned, 5.5)) == (tuned, 5.5)
    assert kept(tmp_path / "full").get(plan) is None


def test_what_was_tuned_is_forgotten(
    plan: Draft, tuned: Draft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "default_path", lambda: tmp_path / "store.sqlite")
    kept(tmp_path / "tuned").put(plan, (tuned, 5.5))
    assert tuning.forget_tuned() == 1
    assert kept(tmp_path / "tuned").get(plan) is None
