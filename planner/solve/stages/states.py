"""C5 and C6: tensors in the states somebody made, conversions, pairs, transfers."""

from __future__ import annotations

from itertools import product

from planner.ir.problem import State
from planner.solve.stages.model import StageModel, total
from planner.solve.stages.sums import at_most, one, sum_of


def needed_states(m: StageModel) -> None:
    """C5: Σ_{g∋o needs t} x[g,p] <= available(t,p) for every state t, operator o reading it, p."""
    problem = m.problem
    given = set(problem.given)
    for op, members in m.covering().items():
        needs: dict[State, list[int]] = {}
        for g in members:
            for state in problem.options[g].needs:
                needs.setdefault(state, []).append(g)
        for (state, inside), p in product(needs.items(), m.stages):
            groups = [inside] if op not in problem.repeatable else [[g] for g in inside]
            for readers in groups if state not in given else ():
                name = f"C5/need/{state.tensor}:{state.form}/{op}/{p}"
                at_most(m, name, sum_of(m.on_stage(readers, p)), m.available(state, p))


def converted_states(m: StageModel) -> None:
    """C5: c[v,p] <= available(source(v),p)."""
    for (v, p), column in m.c.items():
        conversion = m.problem.conversions[v]
        if conversion.source not in m.problem.given:
            name = f"C5/convert/{conversion.name}/{p}"
            at_most(m, name, sum_of([column]), m.available(conversion.source, p))


def opposite_conversions(m: StageModel) -> None:
    """C5: c[v,p] + c[w,p] <= 1 where w undoes v."""
    known: dict[tuple[State, State], list[int]] = {}
    for w, change in enumerate(m.problem.conversions):
        for v in known.get((change.target, change.source), ()):
            for p in m.stages:
                both = [m.c[i, p] for i in (v, w) if (i, p) in m.c]
                at_most(m, f"C5/opposite/{v}/{w}/{p}", sum_of(both), one(1.0))
        known.setdefault((change.source, change.target), []).append(w)


def wanted_states(m: StageModel) -> None:
    """C5: Σ_p available(t,p) >= 1 for every wanted state t."""
    for state in m.problem.wanted:
        if state not in m.problem.given:
            there = total(m.available(state, p) for p in m.stages)
            at_most(m, f"C5/want/{state.tensor}:{state.form}", one(1.0), there)


def pair_marginals(m: StageModel) -> None:
    """C5: Σ_i e[i,j,p] = x[j,p] and Σ_j Σ_p e[i,j,p] = Σ_p x[i,p], infinite entries left out."""
    covering = m.covering()
    for number, pair in enumerate(m.problem.pairs):
        entries = [(key, col) for key, col in m.e.items() if key[0] == number]
        for (j, g), p in product(enumerate(covering[pair.second]), m.stages):
            row = sum_of(col for key, col in entries if key[2:] == (j, p))
            chosen = row.plus(sum_of(m.on_stage([g], p)), -1.0)
            m.model.equal(f"C5/pair/{number}/second/{j}/{p}", chosen.terms, 0.0)
        for i, g in enumerate(covering[pair.first]):
            row = sum_of(col for key, col in entries if key[1] == i)
            anywhere = sum_of(col for p in m.stages for col in m.on_stage([g], p))
            m.model.equal(f"C5/pair/{number}/first/{i}", row.plus(anywhere, -1.0).terms, 0.0)


def transfers(m: StageModel) -> None:
    """C6: f[t,q,p,d,e] <= available(source(t),q), <= Σ_{k on d} y[k,q], <= Σ_{k on e} y[k,p]."""
    problem = m.problem
    for (t, q, p, source, target), column in m.f.items():
        name = f"C6/{problem.transfers[t].name}/{q}/{p}/{source}/{target}"
        if problem.transfers[t].source not in problem.given:
            there = m.available(problem.transfers[t].source, q)
            at_most(m, f"{name}/has", sum_of([column]), there)
        for end, stage, device in (("from", q, source), ("to", p, target)):
            places = [k for k in m.places_at(stage) if problem.places[k].device == device]
            at_most(m, f"{name}/{end}", sum_of([column]), sum_of(m.y[k, stage] for k in places))
