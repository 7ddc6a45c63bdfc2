"""What a block evaluates on its way to a root: internal nests are made again by every block that
asks for them, and a value that is worked on costs time of the plain units, not of the matrix units.

Counted from which tile variables each value depends on: a value that depends on rows and on the
summed variable is evaluated rows x depth times by a block, whatever the columns.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.kernels.patterns import is_contraction
from planner.kernels.source import Part
from planner.kernels.stage import Kind
from planner.ops import index
from planner.ops.expr import Apply, Bound, Expr, Load, loads
from planner.ops.functions import FUNCTIONS
from planner.ops.index import Affine, Mod, Var
from planner.ops.nest import Nest, Program

_SECTOR_BYTES = 32
"""What L2 hands out at a time."""


@dataclass(slots=True)
class Repeats:
    """Of one block."""

    worked: float = 0.0
    """Operations on values, reductions included, products of contractions not."""
    gathered: float = 0.0
    """Elements read from memory where they are worked on before a product, or no product is."""
    rows: dict[int, float] = field(default_factory=dict)
    """Elements read from memory, by how many of them lie in a row there."""
    multiplied: float = 0.0
    """Multiply-adds of contractions."""
    chained: int = 0
    """Reductions behind each other on the longest way."""

    def unasked_bytes(self, item_bytes: int) -> float:
        """What comes along, for memory is read in sectors: 28 bytes with a lone float32.

        Args:
            item_bytes: of an element.
        """
        return sum(
            count * max(_SECTOR_BYTES / row - item_bytes, 0.0) for row, count in self.rows.items()
        )


def repeats(program: Program, part: Part) -> Repeats:
    """Counts of a part's block; O(nests inside)."""
    sizes = {tile.var: tile.block for tile in part.tiling.tiles}
    root = program.by_name[part.stage.root]
    walk = _Walk(program, part, sizes)
    walk.nest(root, part.tiling.binding)
    walk.found.chained = walk.depth(root)
    return walk.found


class _Walk:
    """Goes from a root to what it loads, each value once."""

    def __init__(self, program: Program, part: Part, sizes: dict[Var, int]) -> None:
        self._program, self._internal = program, part.stage.internal
        self._is_product = part.tiling.kind is Kind.PRODUCT
        self._sizes = sizes
        self._seen: set[tuple[str, ...]] = set()
        self._depths: dict[str, int] = {}
        self.found = Repeats()

    def nest(self, nest: Nest, at: Mapping[Var, Affine], share: float = 1.0) -> None:
        """Adds what evaluating a nest at this index costs.

        Args:
            share: of its values that are asked for; the rest lies behind guards.
        """
        for var in nest.reduce_axes:
            self._sizes.setdefault(var, var.extent)
        used = [index.variables(value) for value in at.values()]
        points = self._count(frozenset().union(*used, nest.reduce_axes))
        is_product = is_contraction(nest)
        if is_product:
            self.found.multiplied += points
        else:
            self.found.worked += points * (_flops(nest.body) + (not nest.is_map))
        for load in _loads(nest.body):
            position = tuple(index.substitute(value, at) for value in load.index)
            is_operand = is_product and self._is_product
            self._load(load, position, share * _share(load.guards), is_operand=is_operand)

    def _load(
        self, load: Load, position: tuple[Affine, ...], share: float, *, is_operand: bool
    ) -> None:
        key = (load.tensor, *(value.text for value in position))
        if key in self._seen:
            return
        self._seen.add(key)
        if load.tensor in self._internal:
            inner = self._program.by_name[load.tensor]
            self.nest(inner, dict(zip(inner.axes, position, strict=True)), share)
            return
        count = self._count(frozenset().union(*(index.variables(v) for v in position)))
        if not is_operand:
            self.found.gathered += count
        row = self._contiguous(load.tensor, position)
        self.found.rows[row] = self.found.rows.get(row, 0.0) + share * count

    def _contiguous(self, tensor: str, position: tuple[Affine, ...]) -> int:
        """Elements in a row in memory that a block asks for."""
        address = index.flatten(position, self._program.types[tensor].shape)
        runs = [self._run(atom) for atom, factor in address.terms if factor == 1]
        return max(runs, default=1)

    def _run(self, atom: index.Atom) -> int:
        """Consecutive values that an atom takes within a block."""
        if isinstance(atom, Var):
            return self._sizes.get(atom, 1)
        return atom.divisor if isinstance(atom, Mod) else 1

    def _count(self, used: frozenset[Var]) -> int:
        return math.prod(self._sizes.get(var, 1) for var in used)

    def depth(self, nest: Nest) -> int:
        """Reductions in a row from here; each nest is gone through once."""
        if nest.name not in self._depths:
            inner = (self._program.by_name[n] for n in nest.reads if n in self._internal)
            before = max((self.depth(one) for one in inner), default=0)
            self._depths[nest.name] = before + (not nest.is_map)
        return self._depths[nest.name]


def _share(guards: tuple[Bound, ...]) -> float:
    """Of all values of the guarded expressions, those inside the bounds."""
    share = 1.0
    for guard in guards:
        low, high = index.bounds(guard.value)
        inside = min(guard.high, high + 1) - max(guard.low, low)
        share *= max(inside, 0) / (high + 1 - low)
    return share


@functools.lru_cache(maxsize=100_000)
def _loads(body: Expr) -> tuple[Load, ...]:
    return tuple(dict.fromkeys(loads(body)))


@functools.lru_cache(maxsize=100_000)
def _flops(body: Expr) -> int:
    own = FUNCTIONS[body.fn].flops if isinstance(body, Apply) else 0
    return own + sum(_flops(part) for part in body.parts())
