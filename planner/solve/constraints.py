"""The constraints: one function each, its formula first; `CONSTRAINTS` lists them all.

Each yields rows named `<id>/<what>/<where>`. Structural ones hold under every setting and are built
once; the others depend on the setting. See `formulation.py` for the symbols.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from planner.ir.problem import Objective, State
from planner.solve.data import HIGH, LOW, Data
from planner.solve.formulation import Formulation, Linear, Row

END_NAMES = ("low", "expected", "high")


def _row(name: str, plus: Sequence[int], minus: Sequence[int], rhs: float, equal: bool) -> Row:
    """Σ plus - Σ minus = or <= rhs, all coefficients 1."""
    ones = (1.0,) * len(plus) + (-1.0,) * len(minus)
    return Row(name, (*plus, *minus), ones, rhs, equal)


def _at_most(name: str, linear: Linear, factor: float, limit: float) -> Row:
    """factor·linear <= limit, zero coefficients dropped."""
    used = np.flatnonzero(linear.coefficients)
    values = factor * linear.coefficients[used]
    rhs = limit - factor * linear.constant
    return Row(name, tuple(used.tolist()), tuple(values.tolist()), rhs)


def cover(formulation: Formulation) -> Iterator[Row]:
    """C1: Σ_{g∋o} x[g] = 1 for every operator o."""
    for name, members in zip(formulation.data.problem.ops, formulation.data.covering, strict=True):
        yield _row(f"C1/cover/{name}", members, (), 1.0, True)


def _cliques(data: Data, members: Sequence[int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Splits options into sets that share an operator, hence exclude each other (C1)."""
    left = list(members)
    while left:
        counts = Counter(op for g in left for op in data.problem.options[g].ops)
        most = max(counts.values())
        op = min((op for op, n in counts.items() if n == most), key=data.op_index.__getitem__)
        inside = tuple(g for g in left if op in data.problem.options[g].ops)
        yield op, inside
        left = [g for g in left if op not in data.problem.options[g].ops]


def _sources(data: Data, state: State) -> tuple[int, ...]:
    """Columns that make a state."""
    conversions = tuple(data.options + v for v in data.into.get(state, ()))
    return (*data.makers.get(state, ()), *conversions)


def needed_states(formulation: Formulation) -> Iterator[Row]:
    """C5: Σ_{g∋o, t∈needs(g)} x[g] <= available(t) for every state t and operator o reading it.

    Options that share an operator exclude each other, so their sum is at most one and the row is
    stronger than one row per option.
    """
    data = formulation.data
    for state, members in data.needers.items():
        if state in data.given:
            continue
        for op, inside in _cliques(data, members):
            name = f"C5/need/{state.tensor}:{state.form}/{op}"
            yield _row(name, inside, _sources(data, state), 0.0, False)


def converted_states(formulation: Formulation) -> Iterator[Row]:
    """C5: c[v] <= available(source(v)) for every conversion v."""
    data = formulation.data
    for position, conversion in enumerate(data.problem.conversions):
        if conversion.source in data.given:
            continue
        sources = _sources(data, conversion.source)
        yield _row(f"C5/convert/{conversion.name}", (data.options + position,), sources, 0.0, False)


def opposite_conversions(formulation: Formulation) -> Iterator[Row]:
    """C5: c[v] + c[u] <= 1 where u undoes v: paying for both makes nothing that was not there."""
    data = formulation.data
    for v, conversion in enumerate(data.problem.conversions):
        for u in data.out_of.get(conversion.target, ()):
            if u > v and data.problem.conversions[u].target == conversion.source:
                name = f"C5/opposite/{conversion.name}/{data.problem.conversions[u].name}"
                yield _row(name, (data.options + v, data.options + u), (), 1.0, False)


def wanted_states(formulation: Formulation) -> Iterator[Row]:
    """C5: available(t) >= 1 for every state t the model must leave behind."""
    data = formulation.data
    for state in dict.fromkeys(data.problem.wanted):
        if state not in data.given:
            name = f"C5/want/{state.tensor}:{state.form}"
            yield _row(name, (), _sources(data, state), -1.0, False)


def tied_formats(formulation: Formulation) -> Iterator[Row]:
    """tied: Σ_{g∋o, format f} x[g] = Σ_{g∋p, format f} x[g] for tied o, p and every format f."""
    data = formulation.data
    options = data.problem.options
    for group in data.problem.tied:
        members = [data.covering[data.op_index[name]] for name in group]
        formats = dict.fromkeys(options[g].format for covering in members for g in covering)
        for label in formats:
            chosen = [[g for g in covering if options[g].format == label] for covering in members]
            for name, here, there in zip(group[1:], chosen[1:], chosen, strict=False):
                plus = [g for g in here if g not in there]
                minus = [g for g in there if g not in here]
                if plus or minus:
                    yield _row(f"tied/{label}/{name}", plus, minus, 0.0, True)


def forbidden_sets(formulation: Formulation) -> Iterator[Row]:
    """cut: Σ_{g∈F} x[g] <= |F| - 1 for every forbidden set F."""
    data = formulation.data
    for number, names in enumerate(data.problem.forbidden):
        members = sorted(data.option_index[name] for name in names)
        yield _row(f"cut/forbidden/{number}", members, (), len(members) - 1.0, False)


def _prices_memory(data: Data) -> bool:
    asked = data.problem.limits.memory_size_bytes is not None
    return asked or Objective.MEMORY in data.problem.objectives


def workspace_levels(formulation: Formulation) -> Iterator[Row]:
    """C4: x[g] <= m[j] where μ[g] is level j, and m[j+1] <= m[j]: Σ steps·m = max_g μ[g]·x[g]."""
    data = formulation.data
    if not _prices_memory(data) or not len(data.workspace_levels):
        return
    first = data.columns - len(data.workspace_levels)
    levels = np.searchsorted(data.workspace_levels, data.workspace_bytes)
    for g, option in enumerate(data.problem.options):
        if option.workspace_size_bytes > data.workspace_base:
            column = first + int(levels[g])
            yield _row(f"C4/workspace/{option.name}", (g,), (column,), 0.0, False)
    for column in range(first + 1, data.columns):
        yield _row(f"C4/workspace/level{column - first}", (column,), (column - 1,), 0.0, False)


def memory(formulation: Formulation) -> Iterator[Row]:
    """C4: A + M[s] + Σ_g β[g]·x[g] + Σ_j step[j]·m[j] <= memory limit."""
    limit = formulation.data.problem.limits.memory_size_bytes
    if limit is not None:
        yield _at_most(f"C4/memory/{formulation.name}", formulation.memory(), 1.0, float(limit))


def latency(formulation: Formulation) -> Iterator[Row]:
    """C8: φ[s,w]·(H[s,w] + Σ_g L[g,s,w]·x[g] + Σ_v L[v,s,w]·c[v]) <= SLO for every shape w."""
    limit = formulation.data.problem.limits.latency_us
    if limit is None:
        return
    setting = formulation.data.problem.settings[formulation.setting]
    for shape in range(len(formulation.data.shape_weights)):
        name = f"C8/latency/{formulation.name}/shape{shape}/{END_NAMES[formulation.end]}"
        tail = setting.tail(shape, is_low=formulation.end == LOW)
        yield _at_most(name, formulation.latency(shape, formulation.end), tail, limit)


def throughput(formulation: Formulation) -> Iterator[Row]:
    """C9: Σ_w q[w]·(expected latency of w) <= 10^6 / rate, in microseconds."""
    rate = formulation.data.problem.limits.throughput_per_s
    if rate:
        linear = formulation.weighted_latency()
        yield _at_most(f"C9/throughput/{formulation.name}", linear, 1.0, 1e6 / rate)


def accuracy(formulation: Formulation) -> Iterator[Row]:
    """C10: Σ_g ε[g]·x[g] <= error budget."""
    budget = formulation.data.problem.limits.error
    if budget is not None:
        yield _at_most("C10/error", formulation.error(), 1.0, budget)


def prices(formulation: Formulation) -> Iterator[Row]:
    """C11: price[s], price[s]·(weighted latency) per query, and energy <= their limits."""
    limits = formulation.data.problem.limits
    asked = (
        (Objective.COST, limits.price_per_hour),
        (Objective.QUERY_COST, limits.query_cost),
        (Objective.ENERGY, limits.energy_j),
    )
    for objective, limit in asked:
        if limit is not None:
            linear = formulation.objective(objective)
            yield _at_most(f"C11/{objective.value}/{formulation.name}", linear, 1.0, limit)


@dataclass(frozen=True, slots=True)
class Constraint:
    """A family of rows; `is_structural` ones are the same under every setting."""

    id: str
    rows: Callable[[Formulation], Iterator[Row]]
    is_structural: bool


CONSTRAINTS: tuple[Constraint, ...] = (
    Constraint("C1", cover, True),
    Constraint("C4", workspace_levels, True),
    Constraint("C4", memory, False),
    Constraint("C5", needed_states, True),
    Constraint("C5", converted_states, True),
    Constraint("C5", opposite_conversions, True),
    Constraint("C5", wanted_states, True),
    Constraint("C8", latency, False),
    Constraint("C9", throughput, False),
    Constraint("C10", accuracy, False),
    Constraint("C11", prices, False),
    Constraint("tied", tied_formats, True),
    Constraint("cut", forbidden_sets, True),
)


def structural_rows(data: Data) -> list[Row]:
    """Rows that hold under every setting."""
    formulation = Formulation(data, 0, HIGH)
    return [row for item in CONSTRAINTS if item.is_structural for row in item.rows(formulation)]


def setting_rows(formulation: Formulation) -> list[Row]:
    """Rows of one setting."""
    return [row for item in CONSTRAINTS if not item.is_structural for row in item.rows(formulation)]
