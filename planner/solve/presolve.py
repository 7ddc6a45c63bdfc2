"""Options that cannot be missed: dropped before any search, with the proof beside each rule."""

from __future__ import annotations

import numpy as np

from planner.solve.data import BoolArray
from planner.solve.formulation import Formulation


def _costs(formulation: Formulation) -> list[tuple[float, ...]]:
    data = formulation.data
    latency = data.option_us[:, formulation.setting].reshape(data.options, data.shapes * 3)
    others = (data.weight_bytes, data.workspace_bytes, data.error, data.energy_j)
    return [tuple(row) for row in np.column_stack((latency, *others)).tolist()]


def _beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True))


def undominated(formulation: Formulation) -> BoolArray:
    """Columns worth considering under one setting.

    Option b goes where some a computes the same operators, needs no other states, makes at least
    the same states, costs no more in any figure, stands in no forbidden set and, where an operator
    is tied, has the same format: replacing b by a in any plan keeps every constraint and worsens
    no objective. Kernel choices that couple to nothing are thereby projected out by their minimum.
    Of equals, the first stays.
    """
    data = formulation.data
    options = data.problem.options
    kept = formulation.exists()
    tied = {name for group in data.problem.tied for name in group}
    cut = {data.option_index[name] for names in data.problem.forbidden for name in names}
    costs = _costs(formulation)
    rivals: dict[tuple[frozenset[str], str], list[int]] = {}
    for g in np.flatnonzero(kept[: data.options]).tolist():
        label = options[g].format if tied.intersection(options[g].ops) else ""
        rivals.setdefault((frozenset(options[g].ops), label), []).append(g)
    for members in rivals.values():
        for b in members:
            kept[b] = not any(
                kept[a]
                and a != b
                and a not in cut
                and _beats(costs[a], costs[b])
                and set(options[a].needs) <= set(options[b].needs)
                and set(options[a].makes) >= set(options[b].makes)
                for a in members
            )
    return kept
