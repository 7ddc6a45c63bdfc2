"""Why this plan, and why none: runner-ups, binding limits with their prices, minimal conflicts.

Everything here is a re-solve of a changed problem, so every number is as proved as the plan itself;
what is only local says so. Runner-ups and prices are bounded by counts, not by time: the same
answer every run.
"""

from __future__ import annotations

from planner.solve.binding import Binding, binding
from planner.solve.conflict import Conflict, conflict
from planner.solve.rivals import RunnerUp, runner_ups

__all__ = ["Binding", "Conflict", "RunnerUp", "binding", "conflict", "runner_ups"]
