"""How finely classes of axes can be cut, and what part of a tensor a rank then has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from planner.ir.graph import Tensor
from planner.place.axes import Axes
from planner.place.forms import SUMMAND, WHOLE


@dataclass(frozen=True)
class Extents:
    """Into how many parts each class can be cut, per workload entry."""

    of: tuple[Mapping[int, int], ...]

    @classmethod
    def find(cls, axes: Axes, shapes: int) -> Extents:
        """The coarsest granularity that any operator asks for."""
        found: tuple[dict[int, int], ...] = tuple({} for _ in range(shapes))
        for cuts in axes.cuts.values():
            for known, own in zip(found, cuts, strict=True):
                for cut in own:
                    known[cut.group] = min(known.get(cut.group, cut.index.extent), cut.index.extent)
        return cls(found)

    def part(self, shape: int, group: int, size: int, degree: int) -> int:
        """Elements of an axis on the rank that has most."""
        extent = self.of[shape].get(group, size)
        if extent <= 0 or size % extent:
            return math.ceil(size / degree)
        return math.ceil(extent / degree) * (size // extent)

    def is_enough(self, shape: int, group: int, degree: int) -> bool:
        """Whether every rank gets something."""
        return self.of[shape].get(group, 1) >= degree


def local(tensor: Tensor, form: str, shape: int, extents: Extents, degree: int) -> Tensor:
    """The part of a tensor that one rank has."""
    if form in (WHOLE, SUMMAND) or not tensor.shape or degree == 1:
        return tensor
    number, _, axis = form[1:].partition(".")
    if not extents.is_enough(shape, int(number), degree):
        return tensor
    dims = list(tensor.shape)
    whole = dims[int(axis)]
    dims[int(axis)] = extents.part(shape, int(number), whole, degree)
    size_bytes = tensor.size_bytes * dims[int(axis)] // max(whole, 1)
    return Tensor(tensor.name, tensor.dtype, tuple(dims), size_bytes, tensor.is_constant)
