"""How the index space of a root is cut into programs and tiles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from planner.kernels.patterns import (
    MAX_SHORT,
    MAX_UNROLLED,
    as_product,
    instance,
    is_contraction,
    is_line,
    is_window,
    taps_and_run,
)
from planner.kernels.stage import Config, Kind, Stage, Tile, Tiling
from planner.ops import index
from planner.ops.expr import Expr, loads
from planner.ops.index import Affine, FloorDiv, Mod, Var
from planner.ops.nest import Nest, Program

MAX_ROW = 8192
"""Longest row taken whole."""


@dataclass(frozen=True, slots=True)
class Found:
    """A reduction that the root reaches through maps, in terms of the root's axes."""

    nest: Nest
    binding: Mapping[Var, Affine]
    is_guarded: bool = False
    """Whether it is asked for only where a guard holds."""

    @property
    def key(self) -> tuple[str, ...]:
        """The same for equal nests at equal indices."""
        return instance(self.nest, self.binding)


@dataclass(frozen=True, slots=True)
class Shape:
    """A root in terms of tile groups: what a configuration is chosen from."""

    kind: Kind
    anchor: str | None
    split: Mapping[Var, Affine]
    """Root axis -> expression of finer variables."""
    scalars: tuple[Var, ...]
    rows: tuple[Var, ...]
    columns: tuple[Var, ...]
    depth: int
    """Values of the anchor's sum, or of the longest reduction."""
    is_chain: bool
    """Whether an operand of the anchor holds another contraction."""
    whole_rows: bool = False
    """Whether that operand is the one over columns, so that a tile must hold all rows."""
    run: int | None = None
    """Length of the run that a window reads at each of its taps; None without taps."""
    is_line: bool = False
    """Whether a window with many taps along one axis is an axis of the tile."""
    is_apart: bool = False
    """Whether neighbours in a row lie apart in memory, and neighbouring rows side by side."""
    beside: int = 1
    """Products over equal sums that share the tile: gates of a cell, sides of a gated unit."""

    @property
    def m(self) -> int:
        """Rows in all."""
        return _size(self.rows)

    @property
    def n(self) -> int:
        """Columns in all."""
        return _size(self.columns)

    @property
    def batch(self) -> int:
        """Independent products."""
        return _size(self.scalars)


def _size(group: Iterable[Var]) -> int:
    return math.prod(var.extent for var in group)


def shape_of(program: Program, stage: Stage) -> Shape:
    """What kind of stage this is, and which axes play which part."""
    nests = program.by_name
    root = nests[stage.root]
    internal = {name: nests[name] for name in stage.internal}
    found = list(reductions(root, {v: index.variable(v) for v in root.axes}, internal))
    for reduction in found:
        shape = _product_shape(root, reduction, internal)
        if shape is not None:
            return replace(shape, beside=_beside(reduction, shape, found, internal))
    whole = [item for item in found if not _is_small(item.nest)]
    if not whole:
        taps = max((_size(item.nest.reduce_axes) for item in found), default=1)
        line = any(is_line(item.nest) for item in found)
        return Shape(Kind.FLAT, None, {}, (), root.axes, (), taps, is_chain=False, is_line=line)
    used = frozenset().union(
        *(index.variables(value) for item in whole for value in item.binding.values())
    )
    rows = tuple(var for var in root.axes if var in used)
    columns = tuple(var for var in root.axes if var not in used)
    depth = max(_size(item.nest.reduce_axes) for item in whole)
    apart = _size(columns) == 1 and all(_is_apart(program, item.nest) for item in whole)
    return Shape(Kind.ROWS, None, {}, (), rows, columns, depth, is_chain=False, is_apart=apart)


def _is_apart(program: Program, nest: Nest) -> bool:
    """Whether it sums over places in memory that lie apart, its own neighbours side by side."""
    steps = [
        {atom for atom, factor in address.terms if factor == 1}
        for load in loads(nest.body)
        for address in [index.flatten(load.index, program.types[load.tensor].shape)]
    ]
    own, summed = set(nest.axes), set(nest.reduce_axes)
    return any(step & own for step in steps) and not any(step & summed for step in steps)


def _is_small(nest: Nest) -> bool:
    """Whether the reduction is written out one by one, inside any tile."""
    total = _size(nest.reduce_axes)
    return total <= MAX_SHORT or (is_window(nest) and total <= MAX_UNROLLED)


def reductions(
    nest: Nest, binding: Mapping[Var, Affine], internal: Mapping[str, Nest]
) -> Iterable[Found]:
    """Reductions reached from a nest through maps, nearest first, each (nest, index) once."""
    seen: set[str] = set()
    pending = [Found(nest, binding)]
    while pending:
        current = pending.pop(0)
        key = "".join(current.key)
        if key in seen:
            continue
        seen.add(key)
        if not current.nest.is_map:
            yield current
            continue
        for load in loads(current.nest.body.substitute(dict(current.binding))):
            if load.tensor in internal:
                inner = internal[load.tensor]
                is_guarded = current.is_guarded or bool(load.guards)
                at = dict(zip(inner.axes, load.index, strict=True))
                pending.append(Found(inner, at, is_guarded))


def _beside(
    anchor: Found, shape: Shape, found: Sequence[Found], internal: Mapping[str, Nest]
) -> int:
    """Products that share the anchor's loop, itself included."""
    if shape.is_chain:
        return 1
    alike = [item for item in siblings(anchor, found, internal) if not item.is_guarded]
    return max(sum(_size(item.nest.reduce_axes) == shape.depth for item in alike), 1)


def siblings(
    anchor: Found, found: Iterable[Found], internal: Mapping[str, Nest]
) -> tuple[Found, ...]:
    """Products of a stage that read what the anchor reads: memory, and that tap by tap alike."""
    run = taps_and_run(anchor.nest)
    return tuple(
        item
        for item in found
        if (factors := as_product(item.nest)) is not None
        and taps_and_run(item.nest) == run
        and _size(item.nest.reduce_axes) >= MAX_SHORT
        and not any(_holds_product(factor, internal) for factor in factors)
    )


def _product_shape(root: Nest, found: Found, internal: Mapping[str, Nest]) -> Shape | None:
    """The root as a matrix product, where the reduction is one."""
    factors = as_product(found.nest)
    depth = _size(found.nest.reduce_axes)
    if factors is None or depth < MAX_SHORT:
        return None
    finer = _finer(root.axes, found, internal)
    axes = [var for axis in root.axes for var in _parts(axis, finer)]
    sides = []
    for factor in factors:
        moved = factor.substitute(dict(found.binding)).substitute(finer)
        sides.append(_leaf_variables(moved, internal) & set(axes))
    left, right = sides
    first = tuple(var for var in axes if var in left and var not in right)
    second = tuple(var for var in axes if var in right and var not in left)
    if not first or not second:
        return None
    first_is_left = axes.index(first[0]) < axes.index(second[0])
    if not first_is_left:
        first, second = second, first
    scalars = tuple(var for var in axes if var not in (*first, *second))
    chains = [_holds_product(factor, internal) for factor in factors]
    over_columns = chains[1] if first_is_left else chains[0]
    return Shape(
        Kind.PRODUCT,
        found.nest.name,
        finer,
        scalars,
        first,
        second,
        depth,
        any(chains),
        over_columns and not all(chains),
        taps_and_run(found.nest),
    )


def _leaf_variables(value: Expr, internal: Mapping[str, Nest]) -> set[Var]:
    """Variables that loads from memory depend on, seen through internal maps."""
    used: set[Var] = set()
    for load in loads(value):
        nest = internal.get(load.tensor)
        if nest is None or not nest.is_map:
            used |= load.variables()
            continue
        inside = nest.body.substitute(dict(zip(nest.axes, load.index, strict=True)))
        used |= _leaf_variables(inside, internal)
    return used


def _holds_product(value: Expr, internal: Mapping[str, Nest]) -> bool:
    for load in loads(value):
        nest = internal.get(load.tensor)
        if nest is None:
            continue
        if is_contraction(nest) or _holds_product(nest.body, internal):
            return True
    return False


def _finer(axes: Sequence[Var], found: Found, internal: Mapping[str, Nest]) -> dict[Var, Affine]:
    """Axes that the reduction reads as `v // c` and `v mod c`, split into these two parts."""
    cuts: dict[Var, int] = {}
    for value in found.binding.values():
        for var, divisor in _cuts(value):
            if var in axes and var.extent % divisor == 0:
                cuts[var] = min(cuts.get(var, divisor), divisor)
    return {
        var: index.variable(Var(f"{var.name}h", var.extent // c)) * c
        + index.variable(Var(f"{var.name}l", c))
        for var, c in cuts.items()
        if 1 < c < var.extent
    }


def _cuts(value: Affine) -> Iterable[tuple[Var, int]]:
    for atom, _ in value.terms:
        if not isinstance(atom, FloorDiv | Mod):
            continue
        terms = atom.value.terms
        if len(terms) == 1 and isinstance(terms[0][0], Var) and terms[0][1] == 1:
            yield terms[0][0], atom.divisor
        yield from _cuts(atom.value)


def _parts(axis: Var, finer: Mapping[Var, Affine]) -> tuple[Var, ...]:
    """The variables an axis is made of, slowest first."""
    if axis not in finer:
        return (axis,)
    terms = sorted(finer[axis].terms, key=lambda term: -term[1])
    return tuple(atom for atom, _ in terms if isinstance(atom, Var))


def tile(program: Program, stage: Stage, shape: Shape, config: Config) -> Tiling:
    """The tiling of a stage in a configuration."""
    root = program.by_name[stage.root]
    groups = [("m", shape.rows, config.rows), ("n", shape.columns, config.columns)]
    moved: dict[Var, Affine] = {}
    tiles: list[Tile] = []
    for name, group, block in groups:
        extents = tuple(var.extent for var in group)
        flat = Var(name, math.prod(extents))
        if flat.extent > 1:
            tiles.append(Tile(flat, block))
        position = index.unflatten(index.variable(flat), extents)
        moved.update(zip(group, position, strict=True))
    binding = {
        var: index.substitute(shape.split.get(var, index.variable(var)), moved) for var in root.axes
    }
    scalars = tuple(var for var in shape.scalars if var.extent > 1)
    return Tiling(shape.kind, binding, scalars, tuple(tiles), config)
