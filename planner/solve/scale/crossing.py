"""What crosses a cut between two operators of the topological order, and where little does."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from planner.ir.problem import Problem
from planner.solve.data import FloatArray, IntArray
from planner.solve.scale.labels import Labelled

MOST_CUTS = 400
"""Positions between which cuts are chosen."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where cuts may lie, and the time of the transfers that each needs."""

    marks: IntArray
    """A cut at mark n has the first n operators before it."""
    us: FloatArray
    """(device types, device types, marks); 0 where nothing crosses, infinite without a link."""


def crossing(labelled: Labelled) -> Crossing:
    """Every tensor that is alive across a cut crosses it once, in its cheapest form."""
    problem, ops = labelled.problem, labelled.ops
    index = {name: op for op, name in enumerate(problem.ops)}
    last = list(range(ops))
    for producer, consumer in problem.edges:
        a = index[producer]
        last[a] = max(last[a], index[consumer])
    sizes: dict[str, list[tuple[int, ...]]] = {}
    for move in problem.transfers:
        sizes.setdefault(move.source.tensor, []).append(move.size_bytes)
    known: dict[tuple[tuple[int, ...], ...], FloatArray] = {}
    kinds = len(problem.devices)
    change = np.zeros((kinds, kinds, ops + 2))
    for op, members in enumerate(labelled.covering):
        alone = next((g for g in members if len(problem.options[g].ops) == 1), None)
        if last[op] == op or alone is None:
            continue
        for state in problem.options[alone].makes:
            each = tuple(sizes.get(state.tensor, ()))
            if each not in known:
                known[each] = _least_us(problem, each)
            us = known[each]
            change[:, :, op + 1] += us
            change[:, :, last[op] + 1] -= us
    crossed = np.maximum(change.cumsum(axis=2)[:, :, : ops + 1], 0.0)
    marks = _narrow(crossed.sum(axis=(0, 1)))
    return Crossing(marks, _linked(problem, crossed[:, :, marks]))


def _linked(problem: Problem, us: FloatArray) -> FloatArray:
    """Infinite where something would cross and there is no link."""
    links = {(link.source, link.target) for link in problem.links}
    something = us.max(axis=(0, 1), initial=0.0) > 0
    names = [device.name for device in problem.devices]
    for (a, source), (b, target) in product(enumerate(names), repeat=2):
        if (source, target) not in links:
            us[a, b] = np.where(something, np.inf, 0.0)
    return us


def _least_us(problem: Problem, sizes: tuple[tuple[int, ...], ...]) -> FloatArray:
    """Of one tensor, between device types: expected and weighted; 0 without a link."""
    names = {device.name: number for number, device in enumerate(problem.devices)}
    found = np.zeros((len(names), len(names)))
    for link in problem.links if sizes else ():
        if link.source in names and link.target in names:
            found[names[link.source], names[link.target]] = min(
                sum(q * link.time_us(n) for q, n in zip(problem.shape_weights, size, strict=True))
                for size in sizes
            )
    return found


def _narrow(us: FloatArray) -> IntArray:
    """Both ends, and of every stretch of operators the cut that least crosses."""
    ops = len(us) - 1
    edges = np.unique(np.linspace(1, ops, min(ops, MOST_CUTS) + 1).astype(np.int64))
    inner = [a + int(us[a:b].argmin()) for a, b in pairwise(edges.tolist())]
    return np.unique(np.array([0, *inner, ops], dtype=np.int64))
