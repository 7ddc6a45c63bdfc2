"""Numbers of devices that cannot be enough, ruled out by arithmetic before a solver is asked.

For any λ, μ >= 0 and every workload shape w, a plan on N devices takes at least

    Σ_groups min_k [ low_w(k) + λ · degree · bytes(k) + μ · error(k) ] - λ · N · room - μ · budget

since what it keeps in memory is within N · room, its error is within the budget, and conversions,
transfers and overheads only add. Where that exceeds the promise (or what any choice of options
could take), there is no plan, even at the lower ends of all intervals.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from planner.ir.problem import Option, Problem

Array = np.ndarray[Any, np.dtype[np.float64]]

STEPS = np.concatenate(([0.0], 2.0 ** np.arange(-12, 13)))
"""Multipliers tried, relative to the whole time per unit of each limit."""
SAFE = 1e-6
"""Relative margin for sums of floating-point numbers."""


def is_ruled_out(problem: Problem) -> bool:
    """Whether the problem's memory, error budget and latency promise cannot hold together.

    The problem has one setting, and every option covers one operator.
    """
    limits = problem.limits
    devices = limits.devices
    sizes = [device.memory_size_bytes for device in problem.devices]
    known = [size for size in (*sizes, limits.memory_size_bytes) if size is not None]
    if devices is None or not known or problem.stores or len(problem.settings) != 1:
        return False
    fixed = problem.activation_size_bytes + problem.settings[0].size_bytes
    room = max(float(max(known) - fixed), 0.0) * devices
    kinds = _kinds(problem)
    return any(
        _is_refuted(kinds, shape, room, limits.error, _most(problem, kinds, shape))
        for shape in range(len(problem.shape_weights))
    )


Kinds = Counter[tuple[int, bytes]]
"""(columns, rows of an operator's options) -> operators that have them."""


def _kinds(problem: Problem) -> Kinds:
    """Operators with equal options are counted once."""
    degrees = {place.name: place.degree for place in problem.places}
    by_op: dict[str, list[Option]] = {name: [] for name in problem.ops}
    for option in problem.options:
        for name in option.ops:
            by_op[name].append(option)
    found: Kinds = Counter()
    for options in by_op.values():
        rows = [_row(option, degrees) for option in options]
        table = np.array([row for row in rows if row is not None], dtype=np.float64)
        if table.size:
            found[table.shape[1], table.tobytes()] += 1
    return found


def _row(option: Option, degrees: dict[str, int]) -> list[float] | None:
    """Bytes over all ranks, error, lower end of each shape; None where it does not exist."""
    cells = option.latency[0]
    degree = degrees.get(option.place or "", 1)
    kept = degree * (option.weight_size_bytes + option.cache_size_bytes)
    times = [cell.low_us for cell in cells if cell is not None]
    return [float(kept), option.error, *times] if len(times) == len(cells) else None


def _table(kind: tuple[int, bytes]) -> Array:
    columns, rows = kind
    return np.frombuffer(rows, dtype=np.float64).reshape(-1, columns)


def _most(problem: Problem, kinds: Kinds, shape: int) -> float:
    """What a plan may take: the promise, or the dearest choice where nothing is promised."""
    if problem.limits.latency_us is not None:
        return problem.limits.latency_us / problem.settings[0].tail(shape)
    return sum(n * float(_table(kind)[:, 2 + shape].max()) for kind, n in kinds.items())


def _is_refuted(
    kinds: Kinds, shape: int, room: float, budget: float | None, most_us: float
) -> bool:
    total = sum(n * float(_table(kind)[:, 2 + shape].max()) for kind, n in kinds.items())
    by_byte = STEPS * total / max(room, 1.0)
    by_error = STEPS * total / budget if budget else np.zeros(1)
    prices = np.stack(np.meshgrid(by_byte, by_error), axis=-1).reshape(-1, 2)
    bound = -prices @ np.array([room, budget or 0.0])
    for kind, count in kinds.items():
        table = _table(kind)
        costs = table[:, 2 + shape][None, :] + prices @ table[:, :2].T
        bound += count * costs.min(axis=1)
    scale = total + prices @ np.array([room, budget or 0.0])
    return bool((bound > most_us + SAFE * (scale + most_us)).any())
