"""Which channels of different tensors are one wire, and which channels of a tensor hold the same.

A channel that passes through an activation, a sum or a concatenation is one wire: it goes from all
of these tensors, or from none. Products end wires and begin new ones. Labels are equal only where
two channels of a tensor are computed in the same steps from the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from planner.graph.rewrite.net import Integers


@dataclass(frozen=True, slots=True)
class Lanes:
    """The channels of a tensor, along axis 1."""

    wires: Integers
    labels: Integers
    span: int = 1
    """Elements of axis 1 that one channel takes, where images were flattened."""

    def __len__(self) -> int:
        return len(self.wires)


@dataclass(slots=True)
class Wiring:
    """Wires of a graph, in sets that grow together."""

    lanes: dict[str, Lanes] = field(default_factory=dict)
    summed: set[str] = field(default_factory=set)
    """Tensors whose channels a product sums."""
    _whole: dict[str, int] = field(default_factory=dict)
    """Channels of tensors that stay as they are and that no wire has reached: told apart only where
    somebody asks, for an axis of a long row has as many as a model has weights."""
    _parents: list[int] = field(default_factory=list)
    _frozen: set[int] = field(default_factory=set)
    _known: dict[Hashable, int] = field(default_factory=dict)

    def label(self, *signature: Hashable) -> int:
        """One number for everything computed in this way."""
        return self._known.setdefault(signature, len(self._known))

    def begin(self, name: str, signatures: Sequence[Hashable]) -> None:
        """New wires, a channel each."""
        first = len(self._parents)
        self._parents.extend(range(first, first + len(signatures)))
        labels = [self.label(name, one) for one in signatures]
        self.lanes[name] = Lanes(np.arange(first, len(self._parents)), np.array(labels, np.int64))

    def freeze(self, name: str, channels: int = 0) -> None:
        """All channels of a tensor stay; where it is new, each holds something else."""
        if name in self.lanes:
            self._frozen.update(self.lanes[name].wires.tolist())
        else:
            self._whole[name] = channels

    def found(self, name: str) -> Lanes | None:
        """The channels of a tensor, those of one that stays included."""
        if name in self._whole:
            self.begin(name, range(self._whole.pop(name)))
            self.freeze(name)
        return self.lanes.get(name)

    def tie(self, first: str, second: str) -> None:
        """Channel by channel, both tensors are on the same wires."""
        pairs = zip(self.lanes[first].wires, self.lanes[second].wires, strict=True)
        for one, other in pairs:
            self._parents[self._root(int(one))] = self._root(int(other))

    def roots(self, name: str) -> list[int]:
        """The wire of each channel of a tensor."""
        return [self._root(int(wire)) for wire in self.lanes[name].wires]

    def frozen(self) -> set[int]:
        """Wires that stay."""
        return {self._root(wire) for wire in self._frozen}

    def _root(self, wire: int) -> int:
        while self._parents[wire] != wire:
            self._parents[wire] = self._parents[self._parents[wire]]
            wire = self._parents[wire]
        return wire
