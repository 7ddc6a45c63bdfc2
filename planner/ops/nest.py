"""A program: nests in topological order, the tensors between them, and the constants they read."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from planner.ops.expr import Expr, Load, loads
from planner.ops.index import Var

Array = np.ndarray[Any, Any]


class Reducer(StrEnum):
    """How the values of the reduction variables become one."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"
    PROD = "prod"

    @property
    def neutral(self) -> float:
        """What changes nothing."""
        return {"sum": 0.0, "max": -math.inf, "min": math.inf, "prod": 1.0}[self.value]


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type (NumPy name) and static shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether values are computed in floating point."""
        return "float" in self.dtype


@dataclass(frozen=True)
class Nest:
    """out[axes] = reduce over `reduce_axes` of body; without a reducer there are none."""

    name: str
    """The tensor it makes."""
    type: TensorType
    axes: tuple[Var, ...]
    """One per dimension, extents equal to the shape."""
    body: Expr
    reducer: Reducer | None = None
    reduce_axes: tuple[Var, ...] = ()

    @functools.cached_property
    def reads(self) -> tuple[str, ...]:
        """Tensors it loads from, each once."""
        return tuple(dict.fromkeys(load.tensor for load in loads(self.body)))

    @property
    def is_map(self) -> bool:
        """Whether it reduces nothing."""
        return self.reducer is None

    @property
    def is_view(self) -> bool:
        """Whether it only moves elements: an index map."""
        return self.is_map and isinstance(self.body, Load)

    @property
    def points(self) -> int:
        """How often the body is evaluated."""
        return self.type.size * math.prod(var.extent for var in self.reduce_axes)


@dataclass(frozen=True)
class Program:
    """A whole graph in the language of nests."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nests: tuple[Nest, ...]
    types: Mapping[str, TensorType]
    """Of every tensor: inputs, constants and nests."""
    constants: Mapping[str, Array]

    @functools.cached_property
    def by_name(self) -> Mapping[str, Nest]:
        """The nest that makes each tensor, in topological order."""
        return {nest.name: nest for nest in self.nests}

    @functools.cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the nests that read each tensor, in order."""
        found: dict[str, list[str]] = {}
        for nest in self.nests:
            for tensor in nest.reads:
                found.setdefault(tensor, []).append(nest.name)
        return {tensor: tuple(names) for tensor, names in found.items()}
