"""Inputs that a window reads across their order are copied once, into the order it wants.

    cache[c, t]  ->  turned[t, c]       a window moves over t, its results lie side by side in c

Inputs keep the order their caller gave them, so the lanes of a kernel that read `cache[c, t]` for
consecutive `c` each touch another sector of memory, at every tap. The copy depends on nothing but
the input: it runs beside the first stage, once, off the path of what waits for each other.

Measured on an H200: a depthwise window of 31 taps over 30 cached and 64 new frames of 512 channels
takes 5.1 us reading its cache across, where 0.7 would move its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from planner.ops import index
from planner.ops.expr import Apply, Cast, Expr, Load, apply, loads
from planner.ops.index import Affine, Var
from planner.ops.nest import Nest, Program, TensorType

SUFFIX = "/turned"
"""Of the copy."""
MIN_TAPS = 16
"""Fewer readings of an element do not pay for a copy: a Conformer's windows of 31 taps gain 4 % of
the model (468 to 449 us), those of 15 taps nothing (112 and 114 us)."""
MIN_STRIDE = 8
"""Elements between neighbours from which on each lane touches a sector of its own."""
Order = tuple[int, ...]


def inputs_turned(program: Program) -> Program:
    """The program with such inputs copied; O(nests x loads)."""
    wanted = dict(_wanted(program))
    if not wanted:
        return program
    types = dict(program.types)
    copies = []
    for name, order in wanted.items():
        copies.append(_copy(name, program.types[name], order))
        types[copies[-1].name] = copies[-1].type
    nests = (*copies, *(_reading(nest, wanted) for nest in program.nests))
    return Program(program.inputs, program.outputs, nests, types, program.constants)


def is_turned(nest: Nest) -> bool:
    """Whether a nest is such a copy."""
    return isinstance(nest.body, Load) and nest.name == nest.body.tensor + SUFFIX


# ---------------------------------------------------------------------- which
def _wanted(program: Program) -> Iterator[tuple[str, Order]]:
    """Input -> the order in which windows read it."""
    inputs = set(program.inputs)
    read_by_windows = {name for nest in program.nests for name in _slid_over(nest)}
    for nest in program.nests:
        is_window = not read_by_windows.isdisjoint(nest.reads) and not nest.is_map
        if not is_window and nest.name not in read_by_windows:
            continue
        fastest = next((var for var in reversed(nest.axes) if var.extent > 1), None)
        for load in loads(nest.body):
            if load.tensor in inputs and fastest is not None:
                order = _order(program.types[load.tensor], load, fastest)
                if order is not None:
                    yield load.tensor, order


def _slid_over(nest: Nest) -> Iterator[str]:
    """Tensors over which a nest moves a window of many taps, each place read again and again."""
    inner, outer = set(nest.reduce_axes), set(nest.axes)
    for load in loads(nest.body):
        for value in load.index:
            factors = {atom: factor for atom, factor in value.terms if isinstance(atom, Var)}
            taps = max((var.extent for var in factors if var in inner), default=0)
            steps = [abs(factor) for var, factor in factors.items() if var in outer]
            if steps and taps >= max(MIN_TAPS, 2 * max(steps)):
                yield load.tensor


def _order(type_: TensorType, load: Load, fastest: Var) -> Order | None:
    """Dimensions with the one along `fastest` last, where its neighbours lie apart."""
    own = [
        d
        for d, value in enumerate(load.index)
        if any(atom == fastest and factor == 1 for atom, factor in value.terms)
    ]
    if len(own) != 1 or not type_.is_float:
        return None
    stride = 1
    for size in type_.shape[own[0] + 1 :]:
        stride *= size
    if stride < MIN_STRIDE:
        return None
    return (*(d for d in range(len(type_.shape)) if d != own[0]), own[0])


# ---------------------------------------------------------------------- rewriting
def _copy(name: str, type_: TensorType, order: Order) -> Nest:
    axes = tuple(Var(f"i{d}", type_.shape[d]) for d in order)
    at: dict[int, Affine] = {d: index.variable(var) for d, var in zip(order, axes, strict=True)}
    body = Load(name, tuple(at[d] for d in range(len(order))))
    shape = tuple(type_.shape[d] for d in order)
    return Nest(name + SUFFIX, TensorType(type_.dtype, shape), axes, body)


def _reading(nest: Nest, wanted: Mapping[str, Order]) -> Nest:
    if not any(name in wanted for name in nest.reads):
        return nest
    body = _through(nest.body, wanted)
    return Nest(nest.name, nest.type, nest.axes, body, nest.reducer, nest.reduce_axes)


def _through(value: Expr, wanted: Mapping[str, Order]) -> Expr:
    """The expression with such inputs read from their copies."""
    if isinstance(value, Load):
        order = wanted.get(value.tensor)
        if order is None:
            return value
        at = tuple(value.index[d] for d in order)
        return Load(value.tensor + SUFFIX, at, value.guards, value.other)
    if isinstance(value, Apply):
        return apply(value.fn, *(_through(arg, wanted) for arg in value.args))
    if isinstance(value, Cast):
        return Cast(value.dtype, _through(value.value, wanted))
    return value
