"""An order of operators in which little is alive."""

from __future__ import annotations

from dataclasses import replace

from planner.graph.analysis import Wiring, peak_activation_bytes, reads
from planner.ir.graph import Graph

_MOST_OPS = 5000
"""Every step looks at all operators that could be next."""


def compact(graph: Graph, sized: Graph) -> Graph:
    """The graph in the order of `sparing`, unless that keeps more alive at once.

    Tools that simplify models sort breadth first: then all branches are alive before the first of
    them is read, and making one again saves nothing.

    Args:
        sized: the same operators, with the sizes to go by.
    """
    if len(graph.ops) > _MOST_OPS:
        return graph
    names = sparing(sized)
    if peak_activation_bytes(sized, names) > peak_activation_bytes(sized):
        return graph
    by_name = {op.name: op for op in graph.ops}
    return replace(graph, ops=tuple(by_name[name] for name in names))


def sparing(graph: Graph) -> list[str]:
    """Of the operators that could be next, always one that adds the fewest bytes: what it makes
    without what nobody reads after it. Of equal ones, that which could be next for the shortest
    time, so that what was begun is finished."""
    wiring = Wiring(graph)
    left = dict.fromkeys(graph.tensors, 0)
    for op in graph.ops:
        for name in dict.fromkeys(reads(op)):
            left[name] += 1
    pinned = {*graph.inputs, *graph.outputs}
    missing = [len(sources) for sources in wiring.sources]
    ready = {place: 0 for place, count in enumerate(missing) if not count}
    found: list[str] = []

    def added(place: int) -> int:
        op = graph.ops[place]
        made = sum(graph.tensors[name].size_bytes for name in op.outputs if name)
        tensors = (graph.tensors[name] for name in dict.fromkeys(reads(op)) if left[name] == 1)
        return made - sum(
            t.size_bytes for t in tensors if not t.is_constant and t.name not in pinned
        )

    while ready:
        place = min(ready, key=lambda p: (added(p), -ready[p], p))
        del ready[place]
        op = graph.ops[place]
        found.append(op.name)
        for name in dict.fromkeys(reads(op)):
            left[name] -= 1
        for reader in wiring.readers[place]:
            missing[reader] -= 1
            if not missing[reader]:
                ready[reader] = len(found)
    return found
