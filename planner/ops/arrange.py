"""Memory order: channels last where windows move over the other dimensions.

    T[n, c, y, x]  ->  T[n, y, x, c]        W[o, c, dy, dx]  ->  W[o, dy, dx, c]

A convolution as a product reads `x[c, y + dy, x + dx]` for a run of `c`: with channels last that
run is contiguous and aligned whatever the tap, with channels first every tap starts at another
offset. Nothing is copied: nests write and read the new order; inputs and outputs keep theirs.
Tensors that maps and windows connect dimension by dimension change together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from planner.ops import index
from planner.ops.expr import Apply, Cast, Expr, Index, Inside, Load, apply, loads
from planner.ops.nest import Nest, Program, TensorType

MIN_CHANNELS = 8
"""16 bytes of fp16: fewer channels make no wide load."""
_RANKS = (3, 4, 5)
Order = tuple[int, ...]


def arranged(program: Program) -> Program:
    """The program with tensors and weights in the order their readers want; O(nests x loads)."""
    orders = _orders(program)
    orders.update(_weight_orders(program, orders))
    orders = {name: order for name, order in orders.items() if order != tuple(range(len(order)))}
    if not orders:
        return program
    nests = tuple(_moved(nest, orders) for nest in program.nests)
    types = {
        name: TensorType(t.dtype, tuple(t.shape[d] for d in orders[name])) if name in orders else t
        for name, t in program.types.items()
    }
    constants = {
        name: np.ascontiguousarray(value.transpose(orders[name])) if name in orders else value
        for name, value in program.constants.items()
    }
    return Program(program.inputs, program.outputs, nests, types, constants)


# ---------------------------------------------------------------------- which tensors
def _orders(program: Program) -> dict[str, Order]:
    """Tensors made and read inside -> channels last, for components in which a window moves."""
    fixed = {*program.inputs, *program.outputs, *_tables(program)}
    movable = {
        nest.name
        for nest in program.nests
        if nest.name not in fixed and len(nest.type.shape) in _RANKS
    }
    parent = {nest.name: nest.name for nest in program.nests}

    def find(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    voters: list[str] = []
    for nest in program.nests:
        for load in loads(nest.body):
            if load.tensor not in parent or not _is_aligned(nest, load):
                continue
            parent[find(nest.name)] = find(load.tensor)
            if load.tensor in movable and _slides(nest, load):
                voters.append(load.tensor)
    winners = {find(name) for name in voters}
    return {
        name: _channels_last(program.by_name[name], program)
        for name in movable
        if find(name) in winners
    }


def _channels_last(nest: Nest, program: Program) -> Order:
    """(n, space.., c), or (n, space.., group, c) for the grouped result of a convolution."""
    rank = len(nest.type.shape)
    read = [
        len(load.index)
        for load in loads(nest.body)
        if load.tensor not in program.constants and _is_aligned(nest, load)
    ]
    is_grouped = not nest.is_map and bool(read) and max(read) < rank
    first = 3 if is_grouped else 2
    return (0, *range(first, rank), *range(1, first))


def _is_aligned(nest: Nest, load: Load) -> bool:
    """Whether the trailing (spatial) dimensions of both tensors go together, one by one."""
    rank = len(load.index)
    if (
        rank not in _RANKS
        or len(nest.axes) < rank - 1
        or not rank - 1 <= len(nest.axes) <= rank + 1
    ):
        return False
    spatial = rank - 2
    for position in range(1, spatial + 1):
        axis, value = nest.axes[-position], load.index[-position]
        used = index.variables(value)
        if axis.extent > 1 and axis not in used and used:
            return False
        if axis.extent > 1 and used - {axis} & set(nest.axes):
            return False
    return True


def _slides(nest: Nest, load: Load) -> bool:
    """Whether a window moves over the last dimension while channels lie in the second."""
    used = index.variables(load.index[-1])
    inner, outer = set(nest.reduce_axes), set(nest.axes)
    channels = max((v.extent for v in index.variables(load.index[1])), default=1)
    return bool(used & inner) and bool(used & outer) and channels >= MIN_CHANNELS


def _weight_orders(program: Program, orders: Mapping[str, Order]) -> dict[str, Order]:
    """Weights of convolutions over moved tensors: taps before what runs along the channels."""
    found: dict[str, Order] = {}
    fixed = set(_tables(program))
    readers: dict[str, int] = {}
    for nest in program.nests:
        for name in nest.reads:
            readers[name] = readers.get(name, 0) + 1
    for nest in program.nests:
        if nest.is_map or not any(name in orders for name in nest.reads):
            continue
        moved = [load for load in loads(nest.body) if load.tensor in orders]
        taps = {
            var
            for load in moved
            for value in load.index[2:]
            for var in index.variables(value) & set(nest.reduce_axes)
        }
        for load in loads(nest.body):
            is_weight = load.tensor in program.constants and load.tensor not in fixed
            if is_weight and readers[load.tensor] == 1:
                found[load.tensor] = _weight_order(nest, load, taps)
    return found


def _weight_order(nest: Nest, load: Load, taps: set[index.Var]) -> Order:
    """(made, taps, summed) for products; (taps, channel) for depthwise windows."""
    summed = set(nest.reduce_axes) - taps
    rest: list[int] = []
    over_taps: list[int] = []
    over_sum: list[int] = []
    for position, value in enumerate(load.index):
        used = index.variables(value)
        place = over_taps if used & taps else over_sum if used & summed else rest
        place.append(position)
    if math.prod(var.extent for var in summed) > 1:
        return (*rest, *over_taps, *over_sum)
    return (*over_taps, *over_sum, *rest)


# ---------------------------------------------------------------------- rewriting
def _moved(nest: Nest, orders: Mapping[str, Order]) -> Nest:
    body = _through(nest.body, orders)
    order = orders.get(nest.name, tuple(range(len(nest.axes))))
    shape = tuple(nest.type.shape[d] for d in order)
    axes = tuple(nest.axes[d] for d in order)
    inner = _reduce_order(body, nest)
    return Nest(nest.name, TensorType(nest.type.dtype, shape), axes, body, nest.reducer, inner)


def _reduce_order(body: Expr, nest: Nest) -> tuple[index.Var, ...]:
    """Summed variables in the order in which they follow each other in what is read."""
    rank: dict[index.Var, float] = {}
    for load in loads(body):
        for position, value in enumerate(load.index):
            for var in index.variables(value) & set(nest.reduce_axes):
                rank[var] = max(rank.get(var, -math.inf), position - len(load.index))
    given = {var: position for position, var in enumerate(nest.reduce_axes)}
    return tuple(sorted(nest.reduce_axes, key=lambda var: (rank.get(var, -math.inf), given[var])))


def _permuted(load: Load, orders: Mapping[str, Order]) -> Load:
    order = orders.get(load.tensor)
    if order is None:
        return load
    where: Sequence[index.Affine] = [load.index[d] for d in order]
    return Load(load.tensor, tuple(where), load.guards, load.other)


def _through(value: Expr, orders: Mapping[str, Order]) -> Expr:
    """The expression with loads in the new order; those inside indices read tables, which stay."""
    if isinstance(value, Load):
        return _permuted(value, orders)
    if isinstance(value, Apply):
        return apply(value.fn, *(_through(arg, orders) for arg in value.args))
    if isinstance(value, Cast):
        return Cast(value.dtype, _through(value.value, orders))
    assert isinstance(value, Index | Inside) or not value.parts()
    return value


def _tables(program: Program) -> Iterator[str]:
    """Tensors read inside indices (gather): they keep their order."""
    for nest in program.nests:
        outer = {load.text for load in _direct(nest.body)}
        for load in loads(nest.body):
            if load.text not in outer:
                yield load.tensor


def _direct(value: Expr) -> list[Load]:
    """Loads that are values, not those that compute indices."""
    if isinstance(value, Load):
        return [value]
    return [load for part in value.parts() for load in _direct(part)]
