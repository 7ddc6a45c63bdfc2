"""Prints a free assignment (C12) as LP-like text: what `assign` proves, one line a term."""

from __future__ import annotations

from collections.abc import Iterator

from planner.ir.assignment import Assignment, Slot
from planner.ir.problem import Objective, Option, Problem


def _cost_us(problem: Problem, option: Option, row: int) -> float | None:
    """Weighted expected time; None where the option does not exist."""
    cells = option.latency[row]
    if any(cell is None for cell in cells):
        return None
    pairs = zip(problem.shape_weights, cells, strict=True)
    return sum(q * cell.expected_us for q, cell in pairs if cell is not None)


def _by_slot(problem: Problem, slot: Slot, row: int) -> Iterator[tuple[str, float, int]]:
    """Operators that a slot supports, with time and bytes there."""
    for option in problem.options:
        if option.place in (None, slot.place) and len(option.ops) == 1:
            cost = _cost_us(problem, option, row)
            if cost is not None:
                size = option.weight_size_bytes + option.cache_size_bytes
                yield option.ops[0], cost, size


def _loads(problem: Problem, found: Assignment, row: int) -> Iterator[str]:
    costs = {crossing.op: crossing.latency_us for crossing in found.crossings}
    makers = [name for name in dict.fromkeys(a for a, _ in problem.edges) if costs.get(name)]
    for slot in found.slots:
        terms = [f"{us:.12g} x[{op},{slot.name}]" for op, us, _ in _by_slot(problem, slot, row)]
        if slot.pays_crossings:
            for name in makers:
                each = f"{costs[name]:.12g}"
                terms += [f"{each} in[{name},{slot.name}]", f"{each} out[{name},{slot.name}]"]
        yield f"  C12/load/{slot.name}:\n      load[{slot.name}] = {' + '.join(terms) or '0'}"


def _memory(problem: Problem, found: Assignment, row: int) -> Iterator[str]:
    places = {place.name: place.device for place in problem.places}
    sizes = {device.name: device.memory_size_bytes for device in problem.devices}
    joined = {name for group in found.shared for name in group}
    groups = [*found.shared, *((s.name,) for s in found.slots if s.name not in joined)]
    slots = {slot.name: slot for slot in found.slots}
    for group in groups:
        device = places.get(slots[group[0]].place)
        limit = sizes.get(device) if device is not None else None
        if limit is None:
            continue
        terms = [
            f"{size} x[{op},{name}]"
            for name in group
            for op, _, size in _by_slot(problem, slots[name], row)
            if size
        ]
        yield f"  C4/memory/{'+'.join(group)}:\n      {' + '.join(terms) or '0'} <= {limit}"


def _structure(problem: Problem, found: Assignment) -> Iterator[str]:
    names = [slot.name for slot in found.slots]
    for op in problem.ops:
        yield f"  C1/cover/{op}:\n      {' + '.join(f'x[{op},{name}]' for name in names)} = 1"
    for group in found.together:
        yield f"  C12/together:\n      x[{',s] = x['.join(group)},s] for every slot s"
    for a, b in problem.edges:
        yield f"  C12/crossing/{a}/{b}:\n      in[{a},s] >= x[{b},s] - x[{a},s]"
        yield f"      out[{a},s] >= x[{a},s] - x[{b},s] for every slot s that pays"
    for a, b in found.order if found.order is not None else problem.edges:
        yield f"  C12/{found.contiguity.value}/{a}/{b}:"
        yield {
            "free": "      no condition",
            "convex": f"      z[{a},s] >= x[{a},s], z[{b},s] <= z[{a},s], z[{b},s] <= x[{b},s] - "
            f"x[{a},s] + 1 for every slot s",
            "chain": f"      position of the slot of {a} <= position of the slot of {b}",
        }[found.contiguity.value]


def _schedule(problem: Problem) -> Iterator[str]:
    yield "  C12/start:\n      start[s] >= finish of the slot of u, for every edge u -> v into s"
    yield "  C12/finish:\n      finish[s] >= start[s] + load[s]"
    yield "  C12/unlimited:\n      done[v] >= done[u] + time of v, where v's slot is unlimited"
    yield f"  C12/latency:\n      L >= done[o] for each of {len(problem.ops)} operators"


def render_assignment(problem: Problem) -> str:
    """The formulation under each setting. O(operators · slots + edges)."""
    found = problem.assignment
    assert found is not None
    kinds = "scheduled" if found.is_scheduled else "loads only"
    lines = [
        f"\\ {len(problem.ops)} operators on {len(found.slots)} slots, "
        f"{found.contiguity.value}, {kinds}",
        "minimise",
    ]
    names = {
        Objective.PERIOD: "max over slots s of load[s]",
        Objective.LATENCY: "L" if found.is_scheduled else "Σ load[s]",
    }
    lines += [
        f"  {number}/{objective.value}:\n      {names.get(objective, objective.value)}"
        for number, objective in enumerate(problem.objectives, 1)
    ]
    lines.append("subject to")
    lines += _structure(problem, found)
    for row, setting in enumerate(problem.settings):
        lines.append(f"under {setting.name}")
        lines += _loads(problem, found, row)
        lines += _memory(problem, found, row)
    if found.is_scheduled:
        lines += _schedule(problem)
    lines.append("binary\n  x[o,s], in[o,s], out[o,s]")
    return "\n".join(lines) + "\n"
