"""What is left of a tensor's channels, and where what is gone went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from planner.graph.rewrite.channels.wires import Wiring
from planner.graph.rewrite.net import Integers

Values = npt.NDArray[Any]


class Kept:
    """Channels that stay, of any tensor."""

    def __init__(self, wiring: Wiring, twins: Mapping[int, int]) -> None:
        """
        Args:
            twins: wire -> the one that takes its place.
        """
        self._twins = twins
        self._roots = {name: wiring.roots(name) for name in wiring.lanes}
        self._spans = {name: lanes.span for name, lanes in wiring.lanes.items()}

    def __iter__(self) -> Any:
        return (name for name in self._roots if self.is_cut(name))

    def is_cut(self, name: str) -> bool:
        """Whether any channel goes."""
        return any(root in self._twins for root in self._roots[name])

    def of(self, name: str) -> Integers:
        """The channels that stay."""
        roots = self._roots[name]
        return np.array([n for n, root in enumerate(roots) if root not in self._twins], np.int64)

    def size(self, name: str) -> int:
        """Elements of axis 1 that are left."""
        return len(self.of(name)) * self._spans[name]

    def folded(self, name: str, value: Values, axis: int) -> Values:
        """Weights of a product along the axis that sums this tensor: twins' are added up."""
        roots, span = self._roots[name], self._spans[name]
        kept = self.of(name)
        place = {roots[channel]: n for n, channel in enumerate(kept.tolist())}
        target = np.empty(len(roots), np.int64)
        target[kept] = np.arange(len(kept))  # one wire may be here twice, with weights of its own
        for channel, root in enumerate(roots):
            if root in self._twins:
                target[channel] = place[self._twins[root]]
        moved = np.moveaxis(value, axis, 0)
        parts = moved.reshape(len(roots), span, *moved.shape[1:])
        made = np.zeros((len(kept), *parts.shape[1:]), np.float64)
        for channel, one in enumerate(target):
            made[one] += parts[channel]
        return np.moveaxis(made.reshape(-1, *moved.shape[1:]), 0, axis)
