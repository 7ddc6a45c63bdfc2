"""Whole numbers that the threads of a block hold: what addresses and branches are made of.

Every thread at once, as NumPy arrays of 64 bits; a number of fewer bits is held without its sign.
Floating-point values are not computed: no address depends on them. What is loaded is random, for
tables are looked up anywhere.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from planner.kernels.ptx.arithmetic import RULES, Value, bits_of, mask_of
from planner.kernels.ptx.instructions import Instruction, Kind, Routine

_REGISTER = re.compile(r"%[a-z]+\d+")
_PARAMETER = re.compile(r"_param_(\d+)")
_BETWEEN_PARAMETERS = 36
"""Bits: tensors lie 64 GiB apart, so that none shares a sector with another."""
_COMPUTED = frozenset({Kind.INTEGER, Kind.MULTIPLICATION, Kind.MOVE})
_FROM_OUTSIDE = frozenset({Kind.LOAD, Kind.SHARED_LOAD, Kind.SHUFFLE})


def addressing(routine: Routine) -> frozenset[str]:
    """Registers that an address, a guard of memory, or a branch depends on; O(code x depth)."""
    needed: set[str] = set()
    for one in routine.code:
        if one.address is not None:
            needed.update(name for name in (one.address[0], one.guard) if name)
        if one.kind is Kind.COPY:
            needed.update(_REGISTER.findall(" ".join(one.operands[3:])))
        if one.kind in (Kind.BRANCH, Kind.RETURN) and one.guard:
            needed.add(one.guard)
    size = -1
    while size != len(needed):
        size = len(needed)
        for one in routine.code:
            if needed.intersection(one.writes):
                needed.update(one.reads)
                needed.update((one.guard,) if one.guard else ())
    return frozenset(needed)


class Values:
    """Registers of one block."""

    def __init__(self, threads: int, block: int) -> None:
        """Nothing has run yet.

        Args:
            block: its number in the grid.
        """
        self._threads = threads
        own = np.arange(threads, dtype=np.int64)
        self._held: dict[str, Value] = {"%tid.x": own, "%laneid": own % 32, "%ctaid.x": block}
        self._random = np.random.default_rng(block)

    def get(self, operand: str) -> Value:
        """What a register or a constant is."""
        if operand.startswith("%"):
            return self._held.get(operand)
        if (parameter := _PARAMETER.search(operand)) is not None:
            return int(parameter[1])
        try:
            return int(operand.rstrip("U"), 0)
        except ValueError:
            return 0 if "global_smem" in operand else None

    def where(self, guard: str, *, is_negated: bool) -> np.ndarray[Any, Any] | None:
        """Which threads a predicate lets through; None where that is not known."""
        value = self._held.get(guard)
        if value is None:
            return None
        return np.broadcast_to((np.asarray(value) != 0) ^ is_negated, (self._threads,))

    def run(self, one: Instruction) -> None:
        """Gives an instruction's results."""
        if one.kind in _FROM_OUTSIDE:
            drawn = self._random.integers(0, 1 << 31, (len(one.writes), self._threads))
            self._held.update(zip(one.writes, drawn, strict=True))
        elif one.text.startswith("ld.param"):
            self._held[one.writes[0]] = self._parameter(one)
        elif one.text.startswith("mov") and "{" in "".join(one.operands):
            self._repack(one)
        elif one.writes:
            self._set(one, self._computed(one))

    def _parameter(self, one: Instruction) -> Value:
        place = one.operands[1].strip("[] ")
        number = self.get(place)
        return None if number is None else (number + 1) << _BETWEEN_PARAMETERS

    def _set(self, one: Instruction, value: Value) -> None:
        name = one.writes[0]
        before = self._held.get(name)
        if one.guard is not None and value is not None and before is not None:
            let_through = self.where(one.guard, is_negated=one.is_negated)
            value = None if let_through is None else np.where(let_through, value, before)
        self._held[name] = value

    def _repack(self, one: Instruction) -> None:
        """Several registers as one, or the other way round."""
        target, source = one.operands
        whole_bits = bits_of(one.text)
        if not target.startswith("{"):
            names = [part.strip() for part in source.strip("{} ").split(",")]
            parts = [self.get(name) for name in names]
            each = whole_bits // len(names)
            is_known = all(part is not None for part in parts)
            pieces = [
                (part & mask_of(each)) << (each * n) for n, part in enumerate(parts) if is_known
            ]
            self._held[target] = sum(pieces) if is_known else None
            return
        names = [part.strip() for part in target.strip("{} ").split(",")]
        whole, each = self.get(source), whole_bits // len(names)
        for number, name in enumerate(names):
            self._held[name] = None if whole is None else (whole >> (each * number)) & mask_of(each)

    def _computed(self, one: Instruction) -> Value:
        rule = RULES.get(one.head) if one.kind in _COMPUTED else None
        given = [self.get(operand) for operand in one.sources]
        if rule is None or any(value is None for value in given):
            return None
        return rule(one.text, *given)
