"""Long sums with few results, taken in parts by different blocks.

    C[m, n] = sum_k A[m, k] W[k, n]    ->    P[s, m, n] = sum_j A[m, s J + j] W[s J + j, n]
                                             C[m, n]    = sum_s P[s, m, n]        J = K / S

A block makes a tile of results, so a product with few results has few blocks or small tiles, and
its sum is one long chain of loads. In parts there are S times as many blocks, each with a larger
tile and a shorter chain. The parts go through memory and are added by what follows, in a fixed
order: nothing is counted, locked or zeroed, and the result is the same in every run. That costs a
reading where a stage follows that holds whole rows anyway (a normalisation), else a stage.

Measured on an H200 (`benchmarks/results/h200_launches.json`): 64 x 2048 x 512 takes 5.6 us with
its sum looped over, 64 x 512 x 512 takes 1.9.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from planner.ops import index
from planner.ops.expr import Apply, Load, loads
from planner.ops.index import Var
from planner.ops.nest import Nest, Program, Reducer, TensorType

SUFFIX = "/parts"
"""Of the tensor that holds the parts."""
MAX_PARTS = 8
"""Values of a sum that are written out one by one."""
MOST_BLOCKS, CROWDED_BLOCKS = 132, 300
"""Multiprocessors of an H100 or H200: more blocks than these are little gain. Products that have
more tiles than half of them are cut until a multiprocessor has two (BERT at 384 tokens: 496 us
whole, 479 cut)."""
TILE, LEAST_SIDE = 64 * 64, 16
"""Results of a block that does not read its operands too often; rows or columns of any block."""
MIN_DEPTH = 192
"""Shorter parts are all beginning and end."""
MAX_WHOLE = 512
"""Longest part that is taken at once."""
STEP_US = 0.18 / 128
"""A value of the sum, looped over (12 to 24 steps of 256 values take 0.35 to 0.6 us each)."""
FEW_TILES = 6
APART_US, CROWDED_APART_US = 0.2, 0.9
"""A stage that adds the parts, for products of so few tiles and for others: with few, the epilogue
that goes there is worth its launch (MobileNetV2 95 instead of 102 us at batch 1, where without this
distinction batch 4 took 150 instead of 147)."""
PART_US = 0.08
"""Reading a part more."""
MIN_GAIN_US = 0.4
MIN_ROWS_HELD = 4000
"""Elements from which on a normalisation behind a sum is worth a stage that adds the parts too:
what follows need not normalise again (Conformer chunk of 16 rows of 256: 128 us without, 115
with)."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """A variable of a sum, and into how many parts it is cut."""

    var: Var
    parts: int


def in_parts(program: Program) -> tuple[Program, dict[str, str]]:
    """The program with such sums in parts, and whose parts each new nest makes; O(nests)."""
    nests: list[Nest] = []
    types = dict(program.types)
    owners: dict[str, str] = {}
    for nest in program.nests:
        cut = _cut_of(program, nest)
        if cut is None:
            nests.append(nest)
            continue
        made = _parts(nest, cut)
        types[made.name] = made.type
        owners[made.name] = nest.name
        nests += (made, _total(nest, made, cut.parts))
    if not owners:
        return program, owners
    changed = Program(program.inputs, program.outputs, tuple(nests), types, program.constants)
    return changed, owners


def is_total(nest: Nest) -> bool:
    """Whether a nest adds parts."""
    return isinstance(nest.body, Load) and nest.body.tensor == nest.name + SUFFIX


# ---------------------------------------------------------------------- which, and how many
def _cut_of(program: Program, nest: Nest) -> _Cut | None:
    """The cut that gains most, where one gains enough."""
    tiles = _tiles(program, nest)
    if tiles is None:
        return None
    depth = math.prod(var.extent for var in nest.reduce_axes)
    is_absorbed = nest.type.size > MIN_ROWS_HELD and _meets_rows(program, nest)
    apart = APART_US if tiles <= FEW_TILES else CROWDED_APART_US
    best, found = MIN_GAIN_US + (0.0 if is_absorbed else apart), None
    most = MOST_BLOCKS if tiles * 2 <= MOST_BLOCKS else CROWDED_BLOCKS
    for cut in _cuts(nest):
        if tiles * cut.parts > most or depth // cut.parts < MIN_DEPTH:
            continue
        gain = STEP_US * (depth - _taken(depth // cut.parts)) - PART_US * cut.parts
        if gain > best:
            best, found = gain, cut
    return found


def _taken(depth: int) -> int:
    """Values of a sum with padding: what is short is taken at once, as a power of two."""
    return 1 << (depth - 1).bit_length() if depth <= MAX_WHOLE else depth


def _tiles(program: Program, nest: Nest) -> int | None:
    """Tiles of a product of a tensor and weights; None where it is something else."""
    body = nest.body
    if nest.reducer is not Reducer.SUM or not isinstance(body, Apply) or body.fn != "mul":
        return None
    left, right = body.args
    if not isinstance(left, Load) or not isinstance(right, Load):
        return None
    if (left.tensor in program.constants) == (right.tensor in program.constants):
        return None
    used = [factor.variables() & set(nest.axes) for factor in (left, right)]
    sides = [_size(used[0] - used[1]), _size(used[1] - used[0])]
    if min(sides) < LEAST_SIDE:
        return None  # a vector times a matrix is no tile
    padded = math.prod(-(-side // LEAST_SIDE) * LEAST_SIDE for side in sides)
    return _size(used[0] & used[1]) * -(-padded // TILE)


def _size(axes: frozenset[Var] | set[Var]) -> int:
    return math.prod(var.extent for var in axes)


def _cuts(nest: Nest) -> Iterator[_Cut]:
    """Ways to cut a sum; what is read in one run at each tap of a window stays whole."""
    long = [var for var in nest.reduce_axes if var.extent > 1]
    for var in long[:-1] or long:
        for parts in range(2, MAX_PARTS + 1):
            if var.extent % parts == 0:
                yield _Cut(var, parts)


def _meets_rows(program: Program, nest: Nest) -> bool:
    """Whether all ways out lead through elementwise maps of this shape into reductions of rows, or
    beside one."""
    pending, seen = [nest.name], {nest.name}
    while pending:
        for reader in program.consumers.get(pending.pop(), ()):
            inner = program.by_name[reader]
            if _is_row(inner):
                return True
            if inner.is_map and inner.type.shape == nest.type.shape and reader not in seen:
                seen.add(reader)
                pending.append(reader)
    return False


def _is_row(nest: Nest) -> bool:
    """Whether it reduces the last dimension of something, and no product."""
    return (
        nest.reducer is not None
        and not (isinstance(nest.body, Apply) and len({*loads(nest.body)}) > 1)
        and len(nest.reduce_axes) == 1
        and nest.reduce_axes[0].extent > MAX_PARTS
    )


# ---------------------------------------------------------------------- rewriting
def _parts(nest: Nest, cut: _Cut) -> Nest:
    part = Var("part", cut.parts)
    inner = Var(cut.var.name, cut.var.extent // cut.parts)
    where = index.variable(part) * inner.extent + index.variable(inner)
    summed = tuple(inner if var == cut.var else var for var in nest.reduce_axes)
    return Nest(
        nest.name + SUFFIX,
        TensorType(nest.type.dtype, (cut.parts, *nest.type.shape)),
        (part, *nest.axes),
        nest.body.substitute({cut.var: where}),
        Reducer.SUM,
        summed,
    )


def _total(nest: Nest, made: Nest, parts: int) -> Nest:
    part = Var("part", parts)
    position = tuple(index.variable(var) for var in (part, *nest.axes))
    return Nest(nest.name, nest.type, nest.axes, Load(made.name, position), Reducer.SUM, (part,))
