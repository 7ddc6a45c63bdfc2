"""Statistics of rows inside sums over other rows: each element of the one asks for the whole other.

    m[c] = sum over b of (x[b, c] - t[b]),  t[b] = sum over k of x[b, k]

Computed inside, t is a tile of all b and all k in the block of every c. Two of them on top of each
other (a normalisation of what was normalised along other axes) are a tile of a million elements,
which takes the compiler minutes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Set

from planner.kernels.patterns import is_contraction, is_window
from planner.ops import index
from planner.ops.expr import Load, loads
from planner.ops.index import Var
from planner.ops.nest import Nest
from planner.ops.partial import is_total

MAX_TILE = 2048
"""Elements that a reduction may take of others for one of its own: a long row."""


def crossed(
    nests: Mapping[str, Nest], nest: Nest, in_memory: Callable[[str], bool]
) -> Iterator[str]:
    """Statistics that a reduction would compute anew for each value it reduces over; O(nests
    inside). Products, windows and sums of parts are others' to decide."""
    own = _row(nest)
    pending = [_hot(load, set(nest.reduce_axes)) for load in loads(nest.body)]
    seen: set[tuple[str, frozenset[int]]] = set()
    while pending:
        name, dims = place = pending.pop()
        other = nests.get(name)
        if other is None or not dims or place in seen or in_memory(name):
            continue
        seen.add(place)
        if _is_statistic(other) and own * _row(other) > MAX_TILE:
            yield name
            continue
        varying = {other.axes[dim] for dim in dims}
        pending += [_hot(load, varying) for load in loads(other.body)]


def _is_statistic(nest: Nest) -> bool:
    return not (nest.is_map or is_contraction(nest) or is_window(nest) or is_total(nest))


def _row(nest: Nest) -> int:
    return math.prod(var.extent for var in nest.reduce_axes)


def _hot(load: Load, varying: Set[Var]) -> tuple[str, frozenset[int]]:
    """What is loaded, and the dimensions along which it varies with some variables."""
    dims = (dim for dim, value in enumerate(load.index) if index.variables(value) & varying)
    return load.tensor, frozenset(dims)
