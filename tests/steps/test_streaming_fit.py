"""Solved, measured, solved again: what a process took besides what was counted is room that the
next plan does without. No process is started here: peaks are made up."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from planner.errors import InfeasibleError
from planner.ir.graph import Graph
from planner.progress import Silent
from planner.steps.streaming import fit as steps
from planner.steps.streaming.document import Fit, record
from planner.steps.streaming.mix import Alone
from planner.steps.streaming.model import Model
from tests.place.test_residency import draw, memory
from tests.runtime.build import make_plan

RUNTIME, ACTIVATIONS = 900, 100


def bare() -> Model:
    """A model that nobody looks into."""
    anything: Any = None
    return Model(
        part=Path("part.onnx"), proto=anything, graph=Graph((), {}, (), ()), fetched={},
        tables=frozenset(), settings=anything, inputs=(), outputs=(), feeds=(),
        runtime_bytes=RUNTIME, activation_bytes=ACTIVATIONS, sizes={},
    )  # fmt: skip


class Bench:
    """Plans measured in place of processes."""

    def __init__(
        self, seed: int, patch: pytest.MonkeyPatch, excess: Callable[[np.random.Generator], int]
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.priced = draw(self.rng, int(self.rng.integers(2, 8)), 1)
        self.counted: list[int] = []
        self.peaks: list[int] = []
        self.excess = excess
        monkeyed: dict[str, Any] = {
            "stage_cuts": lambda *_: (),
            "partition": lambda *_, **__: (),
            "peak_bytes": lambda *_: self.peak(),
            "chunks_of": lambda *_: (),
            "execution_of": self.executed,
        }
        for name, value in monkeyed.items():
            patch.setattr(steps, name, value)

    def executed(self, _: Any, streams: tuple[bool, ...]) -> tuple[()]:
        """Hears what is about to be measured."""
        self.counted.append(memory(self.priced, streams))
        return ()

    def peak(self) -> int:
        self.peaks.append(self.counted[-1] + self.excess(self.rng))
        return self.peaks[-1]

    def fit(self, limit: int) -> Fit:
        work: Any = SimpleNamespace(scratch=Path(), reporter=Silent())
        plan, runs = make_plan({"x": (1,)}), [each.chunk for each in self.priced]
        asked = steps.Question(plan, bare(), runs, [(each,) for each in self.priced], limit)
        return steps.fitting(asked, Alone(bare()), work)

    def sizes(self) -> tuple[int, int]:
        """The least and the most that can be counted, about."""
        moves = [each.streamed is not None for each in self.priced]
        return memory(self.priced, tuple(moves)), memory(self.priced, (False,) * len(moves))


@pytest.mark.parametrize("seed", range(10))
def test_no_plan_is_measured_twice_and_ever_less_is_counted(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(seed, monkeypatch, lambda rng: int(rng.integers(0, 4000)))
    least, most = sorted(bench.sizes())
    try:
        fit = bench.fit(int(bench.rng.integers(least, max(most, least + 1) + 1)))
    except InfeasibleError:
        pass
    else:
        assert fit.peak_size_bytes == bench.peaks[-1]
    assert all(later < before for before, later in pairwise(bench.counted))


@pytest.mark.parametrize("seed", range(10))
def test_where_the_excess_is_always_the_same_two_rounds_do(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with an allocator that keeps some: the first process tells, the second plan is the best
    that leaves it room; only where none does, the request is refused."""
    bench = Bench(seed, monkeypatch, lambda _: 2500)
    least, most = sorted(bench.sizes())
    limit = int(bench.rng.integers(least, max(most, least + 1) + 3000))
    try:
        fit = bench.fit(limit)
    except InfeasibleError:
        assert min(bench.peaks, default=limit + 1) > limit
        return
    assert fit.rounds <= 2
    assert fit.peak_size_bytes is not None
    assert fit.peak_size_bytes <= limit


def test_what_is_recorded_is_what_the_problem_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(5):
        bench = Bench(seed, monkeypatch, lambda _: 0)
        fit = bench.fit(10**9)
        sizes = record(bare(), fit, make_plan({"x": (1,)}), {})
        assert sizes.size_bytes == bench.counted[-1]
