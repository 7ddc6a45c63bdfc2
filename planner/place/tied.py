"""Weights that several groups read, such as an embedding that is the output projection as well.

The first group that reads one leaves a state behind: this weight, in this form, is resident here.
Another group has a variant that needs that state and does not count the weight's bytes. Nothing
converts or transfers such a state, so that only a group of the same stage, with the same cut, can
share (C5); on another stage the weight is stored again, as it must be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.ir.graph import Tensor
from planner.ir.problem import Option, State
from planner.place.formats import stored_bytes
from planner.place.groups import Group
from planner.place.strategy import Ends

SHARES = "+tied"
"""End of the names of options that count a weight of another group as theirs."""
LEAST_BYTES = 1_000_000
"""Smaller ones are not worth options of their own."""


@dataclass(frozen=True, slots=True)
class Tied:
    """Which group holds a weight for others, and which may read it there."""

    held: Mapping[int, tuple[str, ...]]
    """Group -> weights that later groups read as well."""
    read: Mapping[int, tuple[str, ...]]
    """Group -> weights that an earlier group holds."""

    @classmethod
    def find(cls, groups: Sequence[Group], tensors: Mapping[str, Tensor]) -> Tied:
        """Large floating-point weights of several groups."""
        readers: dict[str, dict[int, None]] = {}
        for number, group in enumerate(groups):
            read_here = (name for op in group.ops for name in op.inputs if name)
            for name in (name for name in read_here if _is_large(tensors[name])):
                readers.setdefault(name, {})[number] = None
        held: dict[int, list[str]] = {}
        read: dict[int, list[str]] = {}
        for name, numbers in readers.items():
            first, *others = numbers
            if others:
                held.setdefault(first, []).append(name)
            for number in others:
                read.setdefault(number, []).append(name)
        return cls(
            {number: tuple(names) for number, names in held.items()},
            {number: tuple(names) for number, names in read.items()},
        )

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(group that holds, group that reads)."""
        first = {name: number for number, names in self.held.items() for name in names}
        return tuple((first[name], n) for n, names in self.read.items() for name in names)


def _is_large(tensor: Tensor) -> bool:
    return tensor.is_constant and "float" in tensor.dtype and tensor.size_bytes >= LEAST_BYTES


def state_of(name: str, ends: Ends, form: str) -> State:
    """That a weight is resident, as ranks have it, in a format."""
    return State(name, f"{ends.stored[name][0]}:{form}")


def format_of(group: Group, name: str, form: str, base: str) -> str:
    """The format in which a group stores a weight when its weighted operators have `form`."""
    weighted = set(group.weighted)
    takes = any(op.name in weighted and name in op.inputs for op in group.ops)
    return form if takes else base


def shared_bytes(name: str, ends: Ends, form: str) -> int:
    """What a rank need not store again."""
    return int(stored_bytes(form, math.prod(ends.stored[name][1])))


def is_tied(option: Option) -> bool:
    """Whether an option counts on a weight of another group."""
    return option.name.endswith(SHARES)


def tied_needs(option: Option) -> set[State]:
    """The weights of other groups that it counts on."""
    return {state for state in option.needs if ":" in state.form}
