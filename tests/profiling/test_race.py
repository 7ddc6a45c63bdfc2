"""Races: rotated order, dead contestants, nobody left behind."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from planner.profiling.race import Contestant, Race, Result, speedup, weighted_rounds
from planner.spec.session import SessionSettings
from tests.profiling.build import perceptron, save

_ALONE = SessionSettings(intra_op_threads=1)


def _contestants(folder: Path, *names: str) -> tuple[list[Contestant], Path]:
    model_path, feeds_path = save(folder, *perceptron())
    return [Contestant(name, model_path, _ALONE) for name in names], feeds_path


def _pids(race: Race) -> list[int]:
    return [process.pid for process in race._processes]


def _running(race: Race) -> list[int]:
    return [p for p in _pids(race) if psutil.Process(p).status() != psutil.STATUS_STOPPED]


def test_everybody_runs_every_round_in_a_rotated_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contestants, feeds = _contestants(tmp_path, "a", "b", "c")
    turns: list[str] = []
    with Race(contestants, feeds) as race:
        for process in race._processes:
            turn, name = process.turn, process.result.name

            def record(runs: int, turn: object = turn, name: str = name) -> list[float]:
                turns.append(name)
                return turn(min(runs, 3))  # type: ignore[operator,no-any-return]

            monkeypatch.setattr(process, "turn", record)
        results = race.run(rounds=6, budget_s=60.0)
        pids = _pids(race)
    assert turns[:3] == ["a", "b", "c"]  # how many runs make a turn
    rounds = [turns[start : start + 3] for start in range(3, len(turns), 3)]
    assert rounds == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]] * 2
    assert {name: len(result.rounds_us) for name, result in results.items()} == dict.fromkeys(
        "abc", 6
    )
    assert all(us > 0 for result in results.values() for turn in result.rounds_us for us in turn)
    assert results["a"].peak_size_bytes > 10**6
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_the_one_beside_runs_just_before_and_is_no_contestant_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contestants, feeds = _contestants(tmp_path, "a", "b", "probe")
    beside = [replace(contestant, beside="probe") for contestant in contestants[:2]]
    turns: list[str] = []
    with Race([*beside, contestants[2]], feeds) as race:
        for process in race._processes:

            def record(runs: int, name: str = process.result.name) -> list[float]:
                del runs
                turns.append(name)
                return {"a": [20.0, 30.0, 40.0], "b": [5.0], "probe": [10.0]}[name]

            monkeypatch.setattr(process, "turn", record)
        results = race.run(rounds=2, budget_s=60.0)
    assert turns[3:] == ["probe", "a", "probe", "b", "probe", "b", "probe", "a"]
    assert set(results) == {"a", "b"}
    assert results["a"].beside_us == results["b"].beside_us == [10.0, 10.0]


def test_who_does_not_run_is_stopped(tmp_path: Path) -> None:
    contestants, feeds = _contestants(tmp_path, "a", "b")
    with Race(contestants, feeds) as race:
        race.run(rounds=1, budget_s=0.0)
        end = time.perf_counter() + 5.0  # a signal takes a moment to arrive
        while _running(race) and time.perf_counter() < end:
            time.sleep(0.01)
        assert not _running(race)


def test_a_contestant_that_cannot_start_is_named_and_the_others_race(tmp_path: Path) -> None:
    contestants, feeds = _contestants(tmp_path, "good")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with Race([Contestant("bad", broken, _ALONE), *contestants], feeds) as race:
        results = race.run(rounds=1, budget_s=0.0)
        assert set(results) == {"good"}
        assert set(race.failed) == {"bad"}
        assert "'bad'" in race.failed["bad"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_contestant_that_dies_on_the_way_is_named_and_the_others_go_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    contestants, feeds = _contestants(tmp_path, "dies", "lives")
    with Race(contestants, feeds) as race:
        pids = _pids(race)
        os.kill(pids[0], number)
        os.kill(pids[0], signal.SIGCONT)
        results = race.run(rounds=2, budget_s=0.0)
        assert set(results) == {"lives"}
        assert set(race.failed) == {"dies"}
        assert len(results["lives"].rounds_us) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_race_of_nobody_ends(tmp_path: Path) -> None:
    with Race([], tmp_path / "feeds.npz") as race:
        assert race.run(rounds=3, budget_s=0.0) == {}


def test_an_error_in_the_block_leaves_nobody_behind(tmp_path: Path) -> None:
    contestants, feeds = _contestants(tmp_path, "a")
    race = Race(contestants, feeds)
    pids = _pids(race)
    with pytest.raises(KeyboardInterrupt), race:
        raise KeyboardInterrupt
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_ratios_are_taken_within_rounds() -> None:
    """A machine twice as slow in every other round changes no ratio."""
    slow, fast = Result("slow"), Result("fast")
    for number in range(12):
        state = 1.0 + number % 2
        slow.rounds_us.append([30.0 * state] * 3)
        fast.rounds_us.append([10.0 * state] * 3)
    found = speedup(slow.medians_us, fast.medians_us)
    assert (found.low, found.median, found.high) == (3.0, 3.0, 3.0)
    assert slow.runs == 36
    assert fast.percentile_us(50) == 15.0


def test_a_workload_is_the_weighted_mean_of_its_shapes_round_by_round() -> None:
    found = weighted_rounds([[10.0, 20.0, 30.0], [100.0, 200.0]], [0.75, 0.25])
    assert list(found) == [32.5, 65.0]
