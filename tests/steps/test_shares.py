"""One share of shared memory for all kernels of a part: the fastest one runs from then on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planner.emit.engine import write_engine
from planner.errors import EnvironmentMismatchError
from planner.runtime import engine as engines
from planner.runtime.fused.driver import DRIVERS_OWN, SHARED_PERCENT, SHARES
from planner.runtime.fused.session import load
from planner.runtime.integrity import read_manifest
from planner.steps.fused import shares
from planner.steps.fused.loops import golden_feeds, races
from planner.steps.fused.shares import best
from tests.runtime import fake_cuda
from tests.runtime.build import blueprint
from tests.runtime.fake_cuda import FakeDriver
from tests.runtime.test_fused_engine import FOLDER, X, doubling
from tests.runtime.test_loops import looped_engine


class _Timed:
    """A part that takes as long as its share says."""

    alive = 0

    def __init__(self, us: float, shared_percent: int) -> None:
        self._us, self.shared_percent = us, shared_percent

    def replay_us(self, feeds: object, repeats: int) -> float:
        return self._us

    def __enter__(self) -> _Timed:
        _Timed.alive += 1
        assert _Timed.alive == 1
        return self

    def __exit__(self, *_: object) -> None:
        _Timed.alive -= 1


def _best(
    monkeypatch: pytest.MonkeyPatch, us: Mapping[int, float], first: int = SHARED_PERCENT
) -> shares.Share:
    def opened(folder: Path, *, apart: object, shared_percent: int) -> _Timed:
        if shared_percent not in us:
            raise EnvironmentMismatchError("the GPU has no 7 bytes left")
        return _Timed(us[shared_percent], shared_percent)

    monkeypatch.setattr(shares, "open_checked", opened)
    return best(Path(), _Timed(us[first], first), [{}], {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("us", "percent"),
    [
        ((10.0, 9.0, 8.0, 11.0), SHARES[2]),
        ((10.0, 9.95, 9.96, 9.97), SHARED_PERCENT),
        ((10.0, 10.1, 11.0, 9.8), DRIVERS_OWN),
    ],
)
def test_the_fastest_share_is_taken_where_it_gains(
    monkeypatch: pytest.MonkeyPatch, us: Sequence[float], percent: int
) -> None:
    taken_us = dict(zip(SHARES, us, strict=True))
    found = _best(monkeypatch, taken_us)
    assert found.percent == percent
    assert found.taken_us == taken_us
    name = "as the driver chooses" if percent == DRIVERS_OWN else f"{percent} %"
    assert found.text.endswith(f"{name} from now on")


@pytest.mark.parametrize(("default_us", "percent"), [(9.0, SHARED_PERCENT), (9.95, 25)])
def test_the_share_that_kernels_were_tuned_with_is_the_one_to_beat(
    monkeypatch: pytest.MonkeyPatch, default_us: float, percent: int
) -> None:
    taken_us = {SHARED_PERCENT: default_us, 25: 10.0, 100: 11.0, DRIVERS_OWN: 11.0}
    found = _best(monkeypatch, taken_us, first=25)
    assert found.percent == percent
    assert next(iter(found.taken_us)) == 25
    assert found.taken_us == taken_us


def test_an_engine_starts_with_the_share_it_was_tuned_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_cuda.install(monkeypatch)
    folder = tmp_path / "engine"
    fake_cuda.engine(tmp_path / "kernels")
    made = replace(
        doubling(tmp_path), fused_path=tmp_path / "kernels", device="cuda", shared_percent=25
    )
    write_engine(folder, replace(blueprint([made], {"x": X}), built_for="h200-sxm-141gb"))
    for told, percent in ((None, 25), ({FOLDER: 100}, 100)):
        with engines.load(folder, path="fused", shared_percent=told) as session:
            (part,) = session.parts
            assert part.kernels is not None
            assert part.kernels.shared_percent == percent


def test_a_rival_without_room_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _best(monkeypatch, {SHARED_PERCENT: 10.0, 100: 12.0})
    assert found.percent == SHARED_PERCENT
    assert set(found.taken_us) == {SHARED_PERCENT, 100}


def test_an_engine_without_loops_is_raced_on_what_reaches_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shares, "_ROUNDS", 2)
    fake_cuda.install(monkeypatch)
    folder = tmp_path / "engine"
    fake_cuda.engine(tmp_path / "kernels")
    made = replace(doubling(tmp_path), fused_path=tmp_path / "kernels", device="cuda")
    write_engine(folder, replace(blueprint([made], {"x": X}), built_for="h200-sxm-141gb"))
    manifest = read_manifest(folder)
    with engines.load(folder, path="fused") as session:
        assert races(folder, manifest, session) == {}
        given = golden_feeds(folder, manifest, session)
        found = shares.shares(folder, session, given, {})
    assert set(found) == {FOLDER}
    assert set(found[FOLDER].taken_us) == set(SHARES)


@pytest.mark.parametrize("asked", [SHARED_PERCENT, 25, DRIVERS_OWN])
def test_every_kernel_asks_for_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: int
) -> None:
    made: FakeDriver = fake_cuda.install(monkeypatch)
    made.doublings = {b"rolled": 3}
    looped_engine(tmp_path)
    given: dict[str, Any] = {} if asked == SHARED_PERCENT else {"shared_percent": asked}
    with load(tmp_path, **given):
        assert made.shares == [asked] * len(made.loaded)
