"""Which launch asks for whose weights: each for those of the products of the launch behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from planner.fuse.build import Draft
from planner.kernels.bring import bringing
from planner.kernels.estimate import H200, Rates
from planner.kernels.patterns import is_contraction
from planner.kernels.source import Part
from planner.kernels.text import ITEM_SIZE_BYTES

MIN_BYTES = 1 << 16
"""Less is here as soon as it is asked for."""
MAX_BYTES = 1 << 24
"""More pushes out of L2 what is still to be read."""


def brought(plan: Draft, rates: Rates = H200) -> Draft:
    """The draft with weights asked for one launch ahead, where they do not stay in L2 from call to
    call; O(nests)."""
    total = sum(
        value.size * ITEM_SIZE_BYTES[plan.numbers.storage[name]]
        for name, value in plan.program.constants.items()
    )
    return plan if total <= rates.l2_size_bytes else _brought(plan)


def as_told(plan: Draft, names: Sequence[str]) -> Draft:
    """The draft with weights asked for ahead, where kernels of these names do just that."""
    other = _brought(plan)
    return other if [item.name for item in other.kernels] == list(names) else plan


def _brought(plan: Draft) -> Draft:
    launches = []
    waiting = set(plan.waiting)
    following = [parts for parts, _ in plan.launches[1:]]
    for (parts, item), after in zip(plan.launches, (*following, ()), strict=True):
        made = bringing(item, tuple(_weights(plan, after)))
        launches.append((parts, made))
        if item.name in plan.waiting:
            waiting.add(made.name)
    return replace(plan, launches=tuple(launches), waiting=frozenset(waiting))


def _weights(plan: Draft, parts: Sequence[Part]) -> Iterator[tuple[str, str, int]]:
    """Constants that the products of a launch multiply by: name, element type, elements."""
    nests, constants = plan.program.by_name, plan.program.constants
    inside = (nests[n] for part in parts for n in (part.stage.root, *part.stage.internal))
    names = dict.fromkeys(
        name for nest in inside if is_contraction(nest) for name in nest.reads if name in constants
    )
    left = MAX_BYTES
    for name in sorted(names):
        kind = plan.numbers.storage[name]
        size_bytes = constants[name].size * ITEM_SIZE_BYTES[kind]
        if MIN_BYTES <= size_bytes <= left:
            left -= size_bytes
            yield name, kind, constants[name].size
