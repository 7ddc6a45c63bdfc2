"""C1, C2, C3, ties and cuts: which options run where. Symbols: `model`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise, product

from planner.ir.problem import Option
from planner.solve.stages.model import StageModel, Sum
from planner.solve.stages.sums import at_most, one, sum_of


def cover(m: StageModel) -> None:
    """C1: Σ_p Σ_{g∋o} x[g,p] = 1 for every operator o; >= 1 where it is repeatable."""
    for op, members in m.covering().items():
        chosen = sum_of(column for p in m.stages for column in m.on_stage(members, p))
        if op in m.problem.repeatable:
            at_most(m, f"C1/cover/{op}", one(1.0), chosen)
            for p in m.stages:
                for g in members:
                    at_most(m, f"C1/once/{op}", sum_of(m.on_stage([g], p)), one(1.0))
        else:
            m.model.equal(f"C1/cover/{op}", chosen.terms, 1.0)


def one_place(m: StageModel) -> None:
    """C2: Σ_k y[k,p] <= 1 for every stage p, and stages fill up in order: the sum never rises."""
    before = one(1.0)
    for p in m.stages:
        here = sum_of(m.y[k, p] for k in m.places_at(p))
        at_most(m, f"C2/place/{p}", here, before)
        before = here


def filled(m: StageModel) -> None:
    """C2: Σ_k y[k,p] <= Σ_g x[g,p]: a stage that has devices runs something."""
    for p in m.stages:
        here = sum_of(m.y[k, p] for k in m.places_at(p))
        running = sum_of(column for (_, q), column in m.x.items() if q == p)
        at_most(m, f"C2/filled/{p}", here, running)


def at_place(m: StageModel) -> None:
    """C2: Σ_{g∋o, g at k} x[g,p] <= Σ_k y[k,p], place by place, and for what runs anywhere."""
    options = m.problem.options
    for (op, members), p in product(m.covering().items(), m.stages):
        groups: dict[str | None, list[int]] = {}
        for g in members:
            groups.setdefault(options[g].place, []).append(g)
        for name, inside in groups.items():
            places = sum_of(m.y[k, p] for k in m.places_of(name, p))
            if op in m.problem.repeatable:
                for g in inside:
                    at_most(m, f"C2/at/{op}/{p}/{name}", sum_of(m.on_stage([g], p)), places)
            else:
                at_most(m, f"C2/at/{op}/{p}/{name}", sum_of(m.on_stage(inside, p)), places)
    for (v, p), column in m.c.items():
        places = sum_of(m.y[k, p] for k in m.places_of(m.problem.conversions[v].place, p))
        at_most(m, f"C2/at/{m.problem.conversions[v].name}/{p}", sum_of([column]), places)


def order(m: StageModel) -> None:
    """C3: Σ_{q<=p} run(v,q) <= Σ_{q<=p} run(u,q) for every edge (u,v) and stage p.

    A group's own operators share a stage, so its options cancel out.
    """
    covering = m.covering()
    for (u, v), p in product(dict.fromkeys(m.problem.edges), m.stages):
        before = sum_of(c for q in range(p + 1) for c in m.on_stage(covering[u], q))
        if v not in m.problem.repeatable:
            after = sum_of(c for q in range(p + 1) for c in m.on_stage(covering[v], q))
            at_most(m, f"C3/order/{u}/{v}/{p}", after, before)
            continue
        for g in covering[v]:
            at_most(m, f"C3/order/{u}/{v}/{p}/{g}", sum_of(m.on_stage([g], p)), before)


def waiting_groups(m: StageModel) -> None:
    """C3: x[g,p] + x[h,p] <= 1 where two groups wait for each other."""
    problem = m.problem
    groups: dict[str, list[int]] = {}
    for g in sorted({g for g, _ in m.x if len(problem.options[g].ops) > 1}):
        for op in problem.options[g].ops:
            groups.setdefault(op, []).append(g)
    before = {
        (g, h)
        for u, v in problem.edges
        for g, h in product(groups.get(u, ()), groups.get(v, ()))
        if set(problem.options[g].ops).isdisjoint(problem.options[h].ops)
    }
    for g, h in sorted((g, h) for g, h in before if g < h and (h, g) in before):
        for p in m.stages:
            at_most(m, f"C3/wait/{g}/{h}/{p}", sum_of(m.on_stage((g, h), p)), one(1.0))


def tied_formats(m: StageModel) -> None:
    """tied: Σ_{g∋o, format f} x = Σ_{g∋o', format f} x for tied o, o' and every format f."""
    covering, options = m.covering(), m.problem.options
    for group in m.problem.tied:
        for first, second in pairwise(group):
            formats = {options[g].format for op in (first, second) for g in covering[op]}
            for label in sorted(formats):
                sides = [_of_format(m, covering[op], label, options) for op in (first, second)]
                difference = sides[0].plus(sides[1], -1.0)
                m.model.equal(f"tied/{label}/{second}", difference.terms, 0.0)


def _of_format(
    m: StageModel, members: Iterable[int], label: str, options: tuple[Option, ...]
) -> Sum:
    mine = [g for g in members if options[g].format == label]
    return sum_of(column for p in m.stages for column in m.on_stage(mine, p))


def forbidden_sets(m: StageModel) -> None:
    """cut: Σ_{g∈F} Σ_p x[g,p] <= |F| - 1 for every forbidden set F."""
    index = {option.name: g for g, option in enumerate(m.problem.options)}
    for number, names in enumerate(m.problem.forbidden):
        members = [index[name] for name in sorted(names)]
        chosen = sum_of(column for p in m.stages for column in m.on_stage(members, p))
        at_most(m, f"cut/{number}", chosen, one(len(members) - 1.0))
