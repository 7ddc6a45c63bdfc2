"""Which orders of classes are worth pricing for a group: those that cut what is heavy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from planner.graph.skeleton import Skeleton
from planner.place.axes import Axes
from planner.place.groups import Group

LOCAL_SPAN = 3
"""Groups that a class may touch and still be one block's own: heads, hidden units, experts."""
MOST_SINGLE = 4
"""Classes tried alone."""
MOST_BESIDE = 2
"""Wide classes (positions, samples) tried for what the local ones leave."""
LEAST_WEIGHT = 0.01
"""Share of a group's constants below which one does not matter."""
LEAST_COVER = 0.3
"""Share of weights, or of activations, that a class must cut to be tried."""


def spans(axes: Axes, groups: Sequence[Group]) -> Counter[int]:
    """Class -> number of groups that it touches."""
    found: Counter[int] = Counter()
    for group in groups:
        found.update({cut.group for op in group.ops for cuts in axes.cuts[op.name] for cut in cuts})
    return found


def orders(
    group: Group, skeleton: Skeleton, axes: Axes, span: Mapping[int, int]
) -> list[tuple[int, ...]]:
    """Orders of preference, the whole first; each is priced, and what is dominated goes."""
    weights, activations = _covers(group, skeleton, axes)
    everything_w = sum(_weight(group, skeleton).values())
    everything_a = sum(activations["all"].values()) or 1
    found: list[tuple[int, ...]] = [()]
    heavy = [c for c, ops in weights.items() if ops]
    heavy.sort(key=lambda c: -sum(weights[c].values()))
    wide = [
        c
        for c, covered in Counter({c: sum(a.values()) for c, a in activations.items() if c != "all"}
        ).most_common()
        if covered >= LEAST_COVER * everything_a and span[int(c)] > LOCAL_SPAN
    ]  # fmt: skip
    local = _greedy([c for c in heavy if span[c] <= LOCAL_SPAN], weights)
    if local:
        found.append(local)
        found += [(*local, int(c)) for c in wide[:MOST_BESIDE]]
    singles = [c for c in heavy if sum(weights[c].values()) >= LEAST_COVER * max(everything_w, 1)]
    found += [(c,) for c in singles[:MOST_SINGLE]]
    found += [(int(c),) for c in wide[:MOST_BESIDE]]
    return list(dict.fromkeys(found))


def _weight(group: Group, skeleton: Skeleton) -> dict[str, int]:
    """Operators with a constant that matters, tables that are looked up included; its bytes."""
    tensors = skeleton.graph.tensors
    sizes = {
        op.name: max(
            (tensors[n].size_bytes for n in op.inputs if n and tensors[n].is_constant), default=0
        )
        for op in group.ops
    }
    least = LEAST_WEIGHT * sum(sizes.values())
    return {name: size for name, size in sizes.items() if size > least}


def _covers(
    group: Group, skeleton: Skeleton, axes: Axes
) -> tuple[dict[int, dict[str, int]], dict[int | str, dict[str, int]]]:
    """Class -> weighted operators that it cuts with their bytes; class -> bytes of results."""
    sizes = _weight(group, skeleton)
    tensors = skeleton.graph.tensors
    weights: dict[int, dict[str, int]] = {}
    activations: dict[int | str, dict[str, int]] = {"all": {}}
    for op in group.ops:
        made = sum(tensors[name].size_bytes for name in op.outputs if name)
        activations["all"][op.name] = made
        for cut in {cut.group: cut for cuts in axes.cuts[op.name] for cut in cuts}.values():
            if op.name in sizes and any(
                tensors[op.inputs[axis.slot]].is_constant for axis in cut.index.inputs
            ):
                weights.setdefault(cut.group, {})[op.name] = sizes[op.name]
            activations.setdefault(cut.group, {})[op.name] = made
    return weights, activations


def _greedy(classes: Sequence[int], weights: Mapping[int, Mapping[str, int]]) -> tuple[int, ...]:
    """Few classes that together cut as many weights as possible."""
    left = {name for c in classes for name in weights[c]}
    chosen: list[int] = []
    while left:
        best = max(classes, key=lambda c: sum(s for n, s in weights[c].items() if n in left))
        if not left & set(weights[best]):
            break
        chosen.append(best)
        left -= set(weights[best])
    return tuple(chosen)
