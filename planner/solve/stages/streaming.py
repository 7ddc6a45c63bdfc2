"""C7: where weights live, and when they arrive. Symbols: `model`."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import product

from planner.solve.stages.model import StageModel, Sum
from planner.solve.stages.sums import at_most, one, sum_of


def residency(m: StageModel) -> None:
    """C7: Σ_{k,r} u[g,p,k,r] <= x[g,p], u[g,p,k,r] <= y[k,p] and <= used[r].

    An option of one place, or on a stage of one place, runs nowhere else (C2); whether a store is
    used matters where that costs something.
    """
    by_option: dict[tuple[int, int], list[int]] = {}
    for (g, p, k, r), column in m.u.items():
        by_option.setdefault((g, p), []).append(column)
        if len(m.places_of(m.problem.options[g].place, p)) > 1:
            at_most(m, f"C7/at/{g}/{p}/{k}/{r}", sum_of([column]), sum_of([m.y[k, p]]))
        store = m.problem.stores[r]
        if store.extra_devices or store.price_per_hour:
            at_most(m, f"C7/used/{g}/{p}/{k}/{r}", sum_of([column]), sum_of([m.used[r]]))
    for (g, p), columns in by_option.items():
        at_most(m, f"C7/one/{g}/{p}", sum_of(columns), sum_of([m.x[g, p]]))


def streams(m: StageModel) -> None:
    """C7: T[i] >= max(T[i-1], F[i-1-ahead]) + Σ fetch·u, F[i] >= max(F[i-1], T[i]) + Σ L·x.

    Position by position, for every stage, shape and end; each store has its own T.
    """
    where = m.positions()
    at: list[list[int]] = [[] for _ in m.problem.ops]
    for g, position in enumerate(where):
        at[position].append(g)
    fetched: dict[tuple[int, int, int], Sum] = {}
    for key, column in m.u.items():
        mine = fetched.setdefault((where[key[0]], key[1], key[3]), Sum())
        mine.add(column, m.fetch_us(key))
    for (p, shape, end), last in m.finish.items():
        label = f"{p}/{shape}/{end}"
        upper = m.model.columns[last].upper
        finishes: list[Sum] = []
        arrivals: dict[int, Sum] = {}
        for position, members in enumerate(at):
            before = finishes[-1] if finishes else Sum()
            now = Sum({m.model.amount(f"F[{label},{position}]", upper): 1.0})
            runs = m.options_us(p, shape, end, members)
            at_most(m, f"C7/finish/{label}/{position}", before.plus(runs), now)
            for r, store in enumerate(m.problem.stores):
                arrived = Sum({m.model.amount(f"T[{label},{position},{r}]", upper): 1.0})
                fetches = fetched.get((position, p, r), Sum())
                name = f"C7/fetch/{label}/{position}/{store.name}"
                at_most(m, name, arrivals.get(r, Sum()).plus(fetches), arrived)
                if position - 1 - store.ahead >= 0:
                    opened = finishes[position - 1 - store.ahead]
                    at_most(m, f"{name}/window", opened.plus(fetches), arrived)
                at_most(m, f"{name}/arrived", arrived.plus(runs), now)
                arrivals[r] = arrived
            finishes.append(now)
        at_most(m, f"C7/end/{label}", finishes[-1], sum_of([last]))


def slots(m: StageModel) -> None:
    """C7: Σ_{g: pos(g)-ahead <= i <= pos(g)} β[g]·u[g,p,r] <= Z[p,r] at every position i whose
    window lies in no other's, Z <= cap.

    And Σ degree·β·u <= capacity of the store.
    """
    where = m.positions()
    for r, store in enumerate(m.problem.stores):
        mine = [(k, c) for k, c in m.u.items() if k[3] == r]
        options, places = m.problem.options, m.problem.places
        moments = fullest({where[k[0]] for k, _ in mine}, store.ahead)
        flying = {(p, i): Sum() for p, i in product(m.stages, moments)}
        for k, c in mine:
            size, last = float(options[k[0]].weight_size_bytes), where[k[0]]
            first = bisect_left(moments, last - store.ahead)
            for i in moments[first : bisect_right(moments, last)]:
                flying[k[1], i].add(c, size)
        for (p, i), sizes in flying.items():
            at_most(m, f"C7/slots/{p}/{i}/{store.name}", sizes, sum_of([m.slots[p, r]]))
        for p in m.stages if store.slot_size_bytes is not None else ():
            cap = one(float(store.slot_size_bytes or 0))
            at_most(m, f"C7/slot/{p}/{store.name}", sum_of([m.slots[p, r]]), cap)
        if store.memory_size_bytes is not None:
            held_there = Sum(
                {c: float(places[k[2]].degree * options[k[0]].weight_size_bytes) for k, c in mine}
            )
            at_most(m, f"C7/store/{store.name}", held_there, one(float(store.memory_size_bytes)))


def fullest(positions: Iterable[int], ahead: int) -> list[int]:
    """The moments at which windows are largest: those of positions i .. i + ahead, of which no
    other's are a part."""
    found: list[int] = []
    ordered = sorted(positions)
    reached = -1
    for i in ordered:
        last = bisect_right(ordered, i + ahead)
        if last > reached:
            found.append(i)
            reached = last
    return found
