"""A stage: which tensors one piece of a kernel makes, and which it computes on chip on the way."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from planner.ops.index import Affine, Var


@dataclass(frozen=True, slots=True)
class Stage:
    """One root tensor and the nests computed inside for it."""

    root: str
    internal: frozenset[str]
    """Nests evaluated where the root asks for them; they never reach memory."""
    reads: tuple[str, ...]
    """Tensors read from memory: inputs, constants and other roots, in a fixed order."""
    also: tuple[str, ...] = ()
    """Internal tensors of the root's shape that are written too: a recurrent cell's state."""

    @property
    def makes(self) -> tuple[str, ...]:
        """Every tensor it writes."""
        return (self.root, *self.also)


class Kind(StrEnum):
    """How the tile of a stage is laid out."""

    FLAT = "flat"
    """One axis over all elements: maps and short windows."""
    ROWS = "rows"
    """Rows x a whole row: reductions, normalisations, softmax."""
    PRODUCT = "product"
    """m x n of a contraction: products, convolutions, attention."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile axis: a loop variable cut into blocks, or taken whole."""

    var: Var
    block: int
    """Elements a block handles, a power of two."""

    @property
    def steps(self) -> int:
        """Blocks along this axis."""
        return -(-self.var.extent // self.block)


@dataclass(frozen=True, slots=True)
class Tiling:
    """How the root's index space becomes programs and tiles."""

    kind: Kind
    binding: dict[Var, Affine]
    """Axes of the root nest in terms of scalar and tile variables."""
    scalars: tuple[Var, ...]
    """One value a program, slowest first."""
    tiles: tuple[Tile, ...]
    """In the order of tensor dimensions."""
    config: Config

    @property
    def programs(self) -> int:
        """Blocks the stage needs."""
        total = 1
        for var in self.scalars:
            total *= var.extent
        for tile in self.tiles:
            total *= tile.steps
        return total


@dataclass(frozen=True, slots=True)
class Config:
    """What may be tuned without changing the result."""

    rows: int
    """Block along the first tile axis."""
    columns: int
    """Block along the second."""
    depth: int
    """Elements of a contraction's sum handled at once; more are looped over. Of a stage without
    contraction: more than one where the taps of a long window are an axis of the tile."""
    split: int = 1
    """Parts of the sum computed by different warps and added in the end."""
    warps: int = 4
    pipeline: int = 3
    """Stages of the compiler's software pipeline for loops."""

    @property
    def text(self) -> str:
        """Short and stable, for names."""
        return f"r{self.rows}c{self.columns}d{self.depth}s{self.split}w{self.warps}p{self.pipeline}"
