"""C8 to C11: latency, throughput, accuracy, devices and prices. Symbols: `model`."""

from __future__ import annotations

from itertools import product

from planner.solve.stages.model import EXPECTED, LOW, QUERY, StageModel, Sum
from planner.solve.stages.sums import at_most, one, sum_of


def latency(m: StageModel) -> None:
    """C8: φ[w]·(H[w] + Σ_p time of stage p) <= SLO for every shape w, at an end of the interval."""
    limit = m.problem.limits.latency_us
    setting = m.problem.settings[m.row]
    for shape in m.shapes if limit is not None else ():
        whole = m.latency(shape, m.end)
        tail = setting.tail(shape, is_low=m.end == LOW)
        at_most(m, f"C8/latency/shape{shape}", whole, one((limit or 0.0) / tail))


def periods(m: StageModel) -> list[tuple[str, Sum]]:
    """What the period is the maximum of: stages, their overhead if alone, shared links."""
    found = []
    overheads = m.problem.settings[m.row].overhead
    alone = m.weighted(one(cell.expected_us) for cell in overheads).constant
    second = sum_of(m.y[k, 1] for k in m.places_at(1)) if len(m.stages) > 1 else Sum()
    for p in m.stages:
        times = m.weighted(m.stage_us(p, shape, EXPECTED) for shape in m.shapes)
        extra = one(alone).plus(second, -alone) if p == 0 else Sum()
        found.append((f"stage{p}", times.plus(extra)))
    runs = sum(m.problem.shape_weights)
    for r, store in enumerate(m.problem.stores):
        if store.is_shared:
            terms = {c: runs * m.fetch_us(k) for k, c in m.u.items() if k[3] == r}
            found.append((store.name, Sum(terms)))
    return found


def throughput(m: StageModel) -> None:
    """C9: Σ_w q[w]·(expected time of p) <= 10^6 / rate, and <= R where R is minimised."""
    rate = m.problem.limits.throughput_per_s
    for name, used in periods(m):
        if rate is not None:
            at_most(m, f"C9/throughput/{name}", used, one(1e6 / rate))
        if m.period >= 0:
            at_most(m, f"C9/period/{name}", used, sum_of([m.period]))


def accuracy(m: StageModel) -> None:
    """C10: Σ ε·x <= error budget."""
    if m.problem.limits.error is not None:
        at_most(m, "C10/error", m.error(), one(m.problem.limits.error))


def counts(m: StageModel) -> None:
    """C11: Σ degree·y <= count of each type; devices, price and energy <= their limits."""
    limits, places = m.problem.limits, m.problem.places
    for device in m.problem.devices:
        mine = {
            column: float(places[k].degree)
            for (k, _), column in m.y.items()
            if places[k].device == device.name
        }
        if device.count is not None:
            at_most(m, f"C11/count/{device.name}", Sum(mine), one(float(device.count)))
    asked = (
        ("devices", m.devices(), limits.devices),
        ("price", m.price(), limits.price_per_hour),
        ("energy", m.energy(), limits.energy_j),
    )
    for name, used, limit in asked:
        if limit is not None:
            at_most(m, f"C11/{name}", used, one(float(limit)))


def query_cost(m: StageModel) -> None:
    """C11: Q >= price_j·R - price_j·R_max·(1 - b[j]), Σ_j b[j] = 1, price <= Σ_j price_j·b[j].

    Exact because prices are few: R_max is the upper end of R's range. Q counts microseconds times
    price per hour: 3.6e9 of them cost one.
    """
    if m.query < 0:
        return
    price = m.price()
    levels = {price.constant}
    for p in m.stages:
        here = {price.terms[m.y[k, p]] for k in m.places_at(p)}
        levels |= {a + b for a, b in product(levels, here)}
    for column in m.used.values():
        levels |= {level + price.terms.get(column, 0.0) for level in levels}
    most = m.model.columns[m.period].upper
    chosen = {m.model.choice(f"b[{level}]"): level for level in sorted(levels)}
    m.model.equal("C11/query/level", dict.fromkeys(chosen, 1.0), 1.0)
    at_most(m, "C11/query/price", price, Sum(dict(chosen)))
    for column, level in chosen.items():
        cost = Sum({m.period: level, column: level * most}, -level * most)
        at_most(m, f"C11/query/{level}", cost, sum_of([m.query]))
    if m.problem.limits.query_cost is not None:
        at_most(m, "C11/query/limit", sum_of([m.query]), one(m.problem.limits.query_cost * QUERY))
