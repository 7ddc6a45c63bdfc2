"""The sets and arrays of a Problem, indexed once and shared by everything that solves it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.ir.problem import Latency, Problem, State

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

LOW, EXPECTED, HIGH = 0, 1, 2
"""Last axis of a latency array."""
_MISSING = (float("nan"),) * 3


@dataclass(frozen=True, slots=True)
class Data:
    """Index sets and cost arrays; everything is numbered as in the problem."""

    problem: Problem
    covering: tuple[tuple[int, ...], ...]
    """Options that compute each operator, in the order of `problem.ops`."""
    before: tuple[tuple[int, ...], ...]
    """Operators whose results each operator reads."""
    op_index: dict[str, int]
    option_index: dict[str, int]
    makers: dict[State, tuple[int, ...]]
    needers: dict[State, tuple[int, ...]]
    into: dict[State, tuple[int, ...]]
    """Conversions that make each state."""
    out_of: dict[State, tuple[int, ...]]
    """Conversions that read each state."""
    given: frozenset[State]
    option_us: FloatArray
    """(options, settings, shapes, 3), NaN where an option does not exist under a setting."""
    conversion_us: FloatArray
    """(conversions, settings, shapes, 3)."""
    overhead_us: FloatArray
    """(settings, shapes, 3)."""
    shape_weights: FloatArray
    weight_bytes: FloatArray
    workspace_bytes: FloatArray
    error: FloatArray
    energy_j: FloatArray
    workspace_base: float
    """Workspace that every cover needs: max over operators of their options' least."""
    workspace_levels: FloatArray
    """Distinct workspaces above the base, ascending."""

    @property
    def options(self) -> int:
        """Number of options."""
        return len(self.problem.options)

    @property
    def shapes(self) -> int:
        """Number of workload shapes."""
        return len(self.shape_weights)

    @property
    def columns(self) -> int:
        """Number of binary variables: options, conversions, workspace levels."""
        return self.options + len(self.problem.conversions) + len(self.workspace_levels)


def _indexed(pairs: Iterable[tuple[State, int]]) -> dict[State, tuple[int, ...]]:
    found: dict[State, list[int]] = {}
    for state, index in pairs:
        found.setdefault(state, []).append(index)
    return {state: tuple(dict.fromkeys(members)) for state, members in found.items()}


def _latencies(
    tables: Sequence[tuple[tuple[Latency | None, ...], ...]], settings: int, shapes: int
) -> FloatArray:
    flat = [
        _MISSING if cell is None else (cell.low_us, cell.expected_us, cell.high_us)
        for table in tables
        for row in table
        for cell in row
    ]
    return np.array(flat, dtype=np.float64).reshape(len(tables), settings, shapes, 3)


def index(problem: Problem) -> Data:
    """All sets and arrays of a validated problem. O(size of the problem)."""
    options, settings, shapes = problem.options, problem.settings, len(problem.shape_weights)
    op_index = {name: position for position, name in enumerate(problem.ops)}
    covering: list[list[int]] = [[] for _ in problem.ops]
    for position, option in enumerate(options):
        for name in option.ops:
            covering[op_index[name]].append(position)
    before: list[list[int]] = [[] for _ in problem.ops]
    for source, target in problem.edges:
        before[op_index[target]].append(op_index[source])
    workspace = np.array([option.workspace_size_bytes for option in options], dtype=np.float64)
    base = max((min(workspace[list(members)]) for members in covering if members), default=0.0)
    return Data(
        problem=problem,
        covering=tuple(tuple(members) for members in covering),
        before=tuple(tuple(dict.fromkeys(members)) for members in before),
        op_index=op_index,
        option_index={option.name: position for position, option in enumerate(options)},
        makers=_indexed((state, g) for g, option in enumerate(options) for state in option.makes),
        needers=_indexed((state, g) for g, option in enumerate(options) for state in option.needs),
        into=_indexed((c.target, v) for v, c in enumerate(problem.conversions)),
        out_of=_indexed((c.source, v) for v, c in enumerate(problem.conversions)),
        given=frozenset(problem.given),
        option_us=_latencies([option.latency for option in options], len(settings), shapes),
        conversion_us=_latencies([c.latency for c in problem.conversions], len(settings), shapes),
        overhead_us=_latencies([(setting.overhead,) for setting in settings], 1, shapes)[:, 0],
        shape_weights=np.array(problem.shape_weights, dtype=np.float64),
        weight_bytes=np.array([o.weight_size_bytes for o in options], dtype=np.float64),
        workspace_bytes=workspace,
        error=np.array([option.error for option in options], dtype=np.float64),
        energy_j=np.array([option.energy_j for option in options], dtype=np.float64),
        workspace_base=float(base),
        workspace_levels=np.unique(workspace[workspace > base]),
    )
