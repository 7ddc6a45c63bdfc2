"""What was tuned is found again for equal kernels on an equal device, and only there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.small.suite import SUITE
from planner.fuse.build import Draft, draft
from planner.fuse.tune import changed, classes
from planner.graph.semantics import program_of
from planner.kernels.compile import Compiled
from planner.kernels.cubin import Resources
from planner.kernels.estimate import H200
from planner.kernels.source import Kernel
from planner.progress import Silent
from planner.steps.fused import tuning
from planner.steps.fused.tuning import Kept, Tuned, still_compiled


@dataclass
class Device:
    """As much of a driver as names it."""

    name: str = "a GPU"
    version: str = "13.0"


@dataclass
class Told(Silent):
    """Remembers what is noted."""

    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)


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
    kept(tmp_path).put(plan, Tuned(tuned, 5.5, 25))
    found = kept(tmp_path).get(plan)
    assert found is not None
    assert (found.device_us, found.shared_percent) == (5.5, 25)
    again = found.plan
    assert [item.text for item in again.kernels] == [item.text for item in tuned.kernels]
    assert again.waiting == tuned.waiting
    assert again.kernels != plan.kernels


def test_other_kernels_and_devices_are_other_questions(
    plan: Draft, tuned: Draft, tmp_path: Path
) -> None:
    kept(tmp_path).put(plan, Tuned(tuned, 5.5, 50))
    assert kept(tmp_path).get(tuned) is None
    assert kept(tmp_path, Device(version="13.1")).get(plan) is None


def test_a_damaged_file_is_measured_again(plan: Draft, tuned: Draft, tmp_path: Path) -> None:
    kept(tmp_path).put(plan, Tuned(tuned, 5.5, 50))
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text()[:-40])
    assert kept(tmp_path).get(plan) is None


def test_a_cache_that_cannot_be_written_costs_nothing(
    plan: Draft, tuned: Draft, tmp_path: Path
) -> None:
    (tmp_path / "full").touch()
    assert kept(tmp_path / "full").put(plan, Tuned(tuned, 5.5, 50)) == Tuned(tuned, 5.5, 50)
    assert kept(tmp_path / "full").get(plan) is None


def test_what_was_tuned_is_forgotten(
    plan: Draft, tuned: Draft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "default_path", lambda: tmp_path / "store.sqlite")
    kept(tmp_path / "tuned").put(plan, Tuned(tuned, 5.5, 50))
    assert tuning.forget_tuned() == 1
    assert kept(tmp_path / "tuned").get(plan) is None


@pytest.mark.parametrize("percent", [-2, 101])
def test_a_share_that_is_none_is_measured_again(
    plan: Draft, tuned: Draft, tmp_path: Path, percent: int
) -> None:
    kept(tmp_path).put(plan, Tuned(tuned, 5.5, percent))
    assert kept(tmp_path).get(plan) is None


def test_tuned_kernels_that_do_not_compile_are_not_planned(plan: Draft, tuned: Draft) -> None:
    """Kept by an older generator, whose kernels were others."""
    both = {"a": Tuned(plan, 6.0, 50), "b": Tuned(tuned, 5.5, 25)}
    fresh = {item.name for item in tuned.kernels} - {item.name for item in plan.kernels}

    def compiled(kernels: Sequence[Kernel]) -> dict[str, Compiled]:
        sound = Resources(registers=64, stack_size_bytes=0, code_size_bytes=0)
        return {
            k.name: Compiled(k.name, 90, b"", "e", 128, 0, sound, True)
            for k in kernels
            if k.name not in fresh
        }

    told = Told()
    assert still_compiled(both, compiled, H200, told) == {"a": both["a"]}
    assert "b is not as tuned: 1 of its kernels" in told.notes[0]
    assert still_compiled(both, None, H200, told) == both
