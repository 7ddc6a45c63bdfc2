"""What activations are sure to cost: peaks are no smaller than weighted means.

A stage's memory holds the largest sum of live activations and the largest workspace (C4), which are
no sum over operators. But the largest is at least the mean over any set of moments T, and over any
set of operators O, so that on every stage
    peak + workspace >= Σ_g (1/|T| Σ_{t in T} holds of g at t + 1/|O| workspace of g where g in O)
and the right side is a sum. T and O are where the means over options come close to their largest:
the same moment of every layer. That the operators of all layers share the charge is what makes it
tight: one moment alone would be bought off by one layer's smaller options.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from planner.ir.problem import Option, Problem
from planner.solve.data import BoolArray, FloatArray, IntArray

CLOSE = 0.9
"""Moments and operators count from this share of the largest on."""


class Peaks:
    """The parts of peaks that options are charged. O(options) to make."""

    def __init__(self, problem: Problem, first: Sequence[int]) -> None:
        self._first = first
        self._moments: list[int] = _moments(problem, first).tolist()
        self._large = set(_large(problem, first).nonzero()[0].tolist())

    def bytes_of(self, g: int, option: Option) -> float:
        """One option's part, on each device."""
        total = 0.0
        for hold in option.holds:
            lasts = bisect_left(self._moments, hold.end) - bisect_left(self._moments, hold.start)
            total += hold.size_bytes * lasts
        total /= max(len(self._moments), 1)
        if option.workspace_size_bytes and self._first[g] in self._large:
            total += option.workspace_size_bytes / len(self._large)
        return total


def _moments(problem: Problem, first: Sequence[int]) -> IntArray:
    """Starts of holds at which the mean over options is close to its largest; sorted."""
    starts, ends, sizes = [], [], []
    counts = np.bincount(np.asarray(first), minlength=max(len(problem.ops), 1))
    for g, option in enumerate(problem.options):
        for hold in option.holds:
            starts.append(hold.start)
            ends.append(hold.end)
            sizes.append(hold.size_bytes / counts[first[g]])
    if not starts:
        return np.zeros(0, dtype=np.int64)
    times = np.unique(np.array(starts, dtype=np.int64))
    change = np.zeros(len(times) + 1)
    np.add.at(change, np.searchsorted(times, starts), sizes)
    np.add.at(change, np.searchsorted(times, ends), -np.array(sizes))
    live = change[:-1].cumsum()
    return np.asarray(times[live >= CLOSE * live.max()])


def _large(problem: Problem, first: Sequence[int]) -> BoolArray:
    """Operators whose mean workspace is close to the largest."""
    total: FloatArray = np.zeros(len(problem.ops))
    counts = np.bincount(np.asarray(first), minlength=max(len(problem.ops), 1))
    for g, option in enumerate(problem.options):
        total[first[g]] += option.workspace_size_bytes
    mean = total / np.maximum(counts[: len(total)], 1)
    return np.asarray(mean >= max(CLOSE * mean.max(initial=0.0), 1e-9))
