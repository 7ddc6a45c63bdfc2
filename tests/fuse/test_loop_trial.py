"""Loops are kept where a device answers as before and is faster; else the plan says why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest

from planner.errors import InfoptError
from planner.fuse.build import Draft, draft
from planner.fuse.live import Array, Live, some
from planner.fuse.loop_trial import RUNS, agree, tried
from planner.fuse.roll import runs
from planner.graph.semantics import program_of
from planner.kernels.compile import Compiled
from planner.kernels.cubin import Resources
from planner.kernels.source import Kernel
from planner.runtime.fused.driver import Driver
from tests.fuse.test_roll import CASES, _model
from tests.runtime import fake_cuda

_RIGHT = {"y": np.arange(6, dtype=np.float32)}


@dataclass
class Device(Live):
    """No device: takes and answers what the test wants of loops."""

    us: float = 50.0
    makes: Sequence[Mapping[str, Array]] = (_RIGHT,)
    error: str = ""
    is_loop: bool = False
    runs: int = 0

    @property
    def units(self) -> int:
        return 132

    @contextmanager
    def another(self, plan: Draft, compiled: Mapping[str, Compiled]) -> Iterator[Live]:
        if self.error:
            raise InfoptError(self.error)
        yield replace(self, is_loop=True)

    def answers(
        self, kernels: Sequence[Kernel], waiting: frozenset[str], runs: int
    ) -> list[dict[str, Array]]:
        assert self.is_loop == any(item.steps > 1 for item in kernels)
        made = self.makes if self.is_loop else (_RIGHT,)
        return [dict(made[run % len(made)]) for run in range(runs)]

    def graph_us(self, kernels: Sequence[Kernel], waiting: frozenset[str] = frozenset()) -> float:
        return self.us


def _compiled(kernels: Sequence[Kernel], spilled_bytes: int = 0) -> dict[str, Compiled]:
    return {
        k.name: Compiled(
            k.name, 90, b"", "e", 128, 0, Resources(32, spilled_bytes * (k.steps > 1), 0), True
        )
        for k in kernels
    }


@pytest.fixture(scope="module")
def plan() -> Draft:
    return draft(program_of(_model(**CASES["a wave"])), "float16")  # type: ignore[arg-type]


def _run(plan: Draft) -> tuple[int, int]:
    (run,) = runs(plan)
    return run.first, run.last


def test_what_answers_the_same_sooner_is_kept(plan: Draft) -> None:
    found = tried(plan, 100.0, 0.997, Device(), _compiled)
    assert found.plan.loops == (_run(plan),)
    assert found.plan.remarks == ()
    assert (found.taken_us, found.was_timed) == (50.0, True)


def test_rounding_is_no_other_answer(plan: Draft) -> None:
    close = {"y": _RIGHT["y"] * np.float32(1.0001)}
    assert tried(plan, 100.0, 0.997, Device(makes=(close,)), _compiled).plan.loops


@pytest.mark.parametrize(
    ("makes", "why"),
    [
        (({"y": _RIGHT["y"] + 1},), "wrong"),
        (({"y": np.full(6, np.nan, np.float32)},), "no number"),
        ((_RIGHT,) * (RUNS - 1) + ({"y": _RIGHT["y"] + 1},), "wrong once"),
        ((_RIGHT, {"y": _RIGHT["y"] * np.float32(1.0001)}), "now this, now that"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_answers_otherwise_is_not_kept(
    plan: Draft, makes: Sequence[Mapping[str, Array]], why: str
) -> None:
    found = tried(plan, 100.0, 0.997, Device(makes=makes), _compiled)
    first, last = _run(plan)
    assert found.plan.loops == ()
    assert found.taken_us == 100.0
    assert found.plan.remarks == (
        f"{first:03d} to {last:03d} are launches: as a loop they answered something else here",
    )


def test_reasons_are_said(plan: Draft) -> None:
    def remark(device: Device, spilled_bytes: int = 0, *, refused: bool = False) -> str:
        found = tried(
            plan,
            100.0,
            0.997,
            device,
            lambda kernels: {} if refused else _compiled(kernels, spilled_bytes),
        )
        assert found.plan.loops == ()
        (text,) = found.plan.remarks
        return text

    assert "as a loop they spill 40 bytes a thread" in remark(Device(), 40)
    assert "as a loop they do not compile" in remark(Device(), refused=True)
    assert "100.0 us as a loop, 100.0 us as launches" in remark(Device(us=100.0))
    assert "did not run here (too many blocks)" in remark(Device(error="too many blocks"))


def test_nothing_equal_is_nothing_to_say(plan: Draft) -> None:
    short = replace(plan, launches=plan.launches[:3])
    assert tried(short, 9.0, 0.997, Device(), _compiled).plan == short


def test_answers_agree_bit_for_bit_from_run_to_run() -> None:
    zero = {"y": np.zeros(2, np.float32)}
    minus = {"y": -np.zeros(2, np.float32)}
    assert agree(zero, [zero, zero])
    assert agree(zero, [minus])
    assert not agree(zero, [zero, minus])


def test_random_inputs_are_the_same_for_every_draft() -> None:
    for kind in ("float16", "float32", "int64", "int8"):
        one, other = (some(np.empty((3, 5), kind)) for _ in range(2))
        assert one.tobytes() == other.tobytes()
        assert one.dtype == kind
        assert np.isfinite(one).all()
    assert set(some(np.empty(64, "int64"))) == {0, 1}


def test_answers_are_what_the_last_launch_left(
    monkeypatch: pytest.MonkeyPatch, plan: Draft
) -> None:
    fake_cuda.install(monkeypatch)
    live = Live(Driver(), plan)
    live.load(_compiled(plan.kernels))
    one, other = live.answers(plan.kernels, frozenset(), 2)
    (name,) = plan.program.outputs
    assert one[name].shape == plan.program.types[name].shape
    assert one[name].tobytes() == other[name].tobytes()
    assert np.isnan(one[name]).any()
    live.close()
