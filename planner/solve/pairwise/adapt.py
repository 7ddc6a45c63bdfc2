"""A planning problem whose structure is pairwise choice, as arrays, and its answer as a solution.

One operator an option, one setting, nothing but latency to minimise and memory to keep: no
conversions, states, stages, ties or cuts. `Pair`s are edges, `Hold`s are holds; resident weights
and caches hold at every time.

Latencies become integers by a power of two, as fine as 60 bits allow: exact wherever the latencies
are multiples of that unit, else off by half a unit each (`Adapted.rounding`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from planner.errors import InfoptError, UsageError
from planner.ir.problem import Objective, Option, Problem
from planner.ir.solution import Solution
from planner.solve.check import check, price
from planner.solve.data import FloatArray, IntArray
from planner.solve.pairwise.data import FORBIDDEN, Pairwise
from planner.solve.pairwise.solve import PairwiseSolution, solve_pairwise
from planner.solve.progress import Progress, Reporter, relative_gap


@dataclass(frozen=True, slots=True)
class Adapted:
    """A `Problem` as arrays."""

    pairwise: Pairwise
    options: tuple[tuple[Option, ...], ...]
    """Options of each node, in the order of `Problem.ops`."""
    unit_us: float
    """Latency of one unit of cost."""
    constant_us: float
    """Weighted overhead of the setting."""
    rounding: float
    """Largest relative error of a value from turning latencies into integers."""


def is_pairwise(problem: Problem) -> bool:
    """Whether a valid problem has this structure and nothing else."""
    limits = problem.limits
    others = (
        limits.latency_us,
        limits.error,
        limits.throughput_per_s,
        limits.devices,
        limits.price_per_hour,
        limits.query_cost,
        limits.energy_j,
    )
    return (
        len(problem.settings) == 1
        and problem.objectives == (Objective.LATENCY,)
        and all(limit is None for limit in others)
        and not (problem.conversions or problem.places or problem.stores or problem.transfers)
        and not (problem.tied or problem.forbidden or problem.repeatable or problem.wanted)
        and problem.assignment is None
        and all(_is_plain(option) for option in problem.options)
    )


def has_pairs(problem: Problem) -> bool:
    """Whether a valid problem without places has pair costs or holds: only this folder heeds them.

    Raises:
        UsageError: it has, and more than this folder heeds.
    """
    if problem.places or not (problem.pairs or any(option.holds for option in problem.options)):
        return False
    if not is_pairwise(problem):
        raise UsageError(
            "pair costs and holds come with conversions, ties, groups or limits other than memory,"
            " but no place",
            fix="give the places stages may run at, or minimise latency under memory alone",
        )
    return True


def _is_plain(option: Option) -> bool:
    is_alone = len(option.ops) == 1 and not option.needs
    return is_alone and not option.workspace_size_bytes and option.place is None


def adapt(problem: Problem) -> Adapted:
    """A problem for which `is_pairwise` holds. O(size of the problem)."""
    node_of = {name: node for node, name in enumerate(problem.ops)}
    options: list[list[Option]] = [[] for _ in problem.ops]
    for option in problem.options:
        options[node_of[option.ops[0]]].append(option)
    runs = math.fsum(problem.shape_weights)
    costs = [_weighted_us(problem, option) for row in options for option in row]
    pairs = [runs * us if us < math.inf else us for p in problem.pairs for us in p.latency_us]
    shift, rounding = _shift([*costs, *pairs], len(problem.ops) + len(problem.pairs))
    nodes, spans, sizes = _holds(problem, options)
    overhead = (cell.expected_us for cell in problem.settings[0].overhead)
    return Adapted(
        Pairwise(
            np.array([len(row) for row in options], dtype=np.int64),
            _integers(np.array(costs), shift),
            np.array(
                [(node_of[p.first], node_of[p.second]) for p in problem.pairs], dtype=np.int64
            ).reshape(-1, 2),
            _integers(np.array(pairs), shift),
            np.array(nodes, dtype=np.int64),
            np.array(spans, dtype=np.int64).reshape(-1, 2),
            np.array(sizes, dtype=np.int64),
            _room(problem),
        ),
        tuple(map(tuple, options)),
        2.0**-shift,
        math.fsum(q * us for q, us in zip(problem.shape_weights, overhead, strict=True)),
        rounding,
    )


def _weighted_us(problem: Problem, option: Option) -> float:
    """Infinite where the option does not exist under the setting."""
    if any(cell is None for cell in option.latency[0]):
        return math.inf
    row = (cell.expected_us for cell in option.latency[0] if cell is not None)
    return math.fsum(q * us for q, us in zip(problem.shape_weights, row, strict=True))


def _shift(values: list[float], chosen: int) -> tuple[int, float]:
    """The power of two by which values become integers, and the relative error of their sums."""
    finite = [value for value in values if 0 < value < math.inf]
    if not finite:
        return 0, 0.0
    shift = 59 - math.frexp(math.fsum(finite))[1]
    is_exact = all((value * 2.0**shift).is_integer() for value in finite)
    return shift, 0.0 if is_exact else chosen * 2.0**-shift / (2 * max(finite))


def _integers(values: FloatArray, shift: int) -> IntArray:
    is_open = np.isfinite(values)
    scaled = np.rint(np.where(is_open, values, 0.0) * 2.0**shift).astype(np.int64)
    found: IntArray = np.where(is_open, scaled, FORBIDDEN)
    return found


def _holds(
    problem: Problem, options: list[list[Option]]
) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    """Holds of all options, by span; what is resident holds from first to last."""
    all_spans = {(h.start, h.end) for option in problem.options for h in option.holds}
    first = min((start for start, _ in all_spans), default=0)
    last = max((end for _, end in all_spans), default=first + 1)
    nodes, spans, sizes = [], [], []
    for node, row in enumerate(options):
        own = {(h.start, h.end) for option in row for h in option.holds}
        for span in sorted({*own, (first, last)}):
            nodes.append(node)
            spans.append(span)
            sizes += [_held(option, span, (first, last)) for option in row]
    return nodes, spans, sizes


def _held(option: Option, span: tuple[int, int], always: tuple[int, int]) -> int:
    resident = option.weight_size_bytes + option.cache_size_bytes if span == always else 0
    return resident + sum(h.size_bytes for h in option.holds if (h.start, h.end) == span)


def _room(problem: Problem) -> int | None:
    limit = problem.limits.memory_size_bytes
    if limit is None:
        return None
    return int(limit) - problem.activation_size_bytes - problem.settings[0].size_bytes


def solve_adapted(
    problem: Problem,
    *,
    time_limit_s: float = 60.0,
    gap: float = 0.0,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Solution:
    """Solves a valid problem for which `is_pairwise` holds; re-priced by the checker's own price.

    Arguments as those of `planner.solve.solve.solve`.
    """
    adapted = adapt(problem)

    def scaled(progress: Progress) -> None:
        value = progress.incumbent
        known = None if value is None else value * adapted.unit_us + adapted.constant_us
        bound = progress.bound * adapted.unit_us + adapted.constant_us
        if reporter is not None:
            reporter(Progress(progress.seconds, "latency", known, bound, progress.strategy))

    found = solve_pairwise(
        adapted.pairwise, time_limit_s=time_limit_s, gap=gap, seed=seed, reporter=scaled
    )
    return _solution(problem, adapted, found)


def _solution(problem: Problem, adapted: Adapted, found: PairwiseSolution) -> Solution:
    base = Solution(
        found.status,
        hit_time_limit=found.hit_time_limit,
        is_interrupted=found.is_interrupted,
        rounding=found.rounding + adapted.rounding,
        solver=found.solver,
        seconds=found.seconds,
    )
    if found.cost is None:
        return base
    chosen = tuple(row[k].name for row, k in zip(adapted.options, found.chosen, strict=True))
    setting = problem.settings[0].name
    totals = price(problem, chosen, (), setting)
    value = totals.weighted_latency_us
    bound = min(max(found.bound * adapted.unit_us + adapted.constant_us, 0.0), value)
    solution = replace(
        base,
        chosen=chosen,
        setting=setting,
        totals=totals,
        objective=(value,),
        bound=(bound,),
        gap=relative_gap(value, bound),
    )
    broken = check(problem, solution)
    if broken:
        raise InfoptError(
            f"the checker refuses the answer: {broken[0].constraint}, {broken[0].what}"
        )
    return solution
