"""What each instruction of a block asks of memory, from what the block's registers hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.kernels.ptx.instructions import Instruction, Kind
from planner.kernels.ptx.requests import Array, Requests, everywhere, requests_of, shared_cycles
from planner.kernels.ptx.values import Values

_MEMO = 4
"""Times that an instruction's addresses are looked at; then their mean is taken."""
_WARP, _BANK_BYTES = 32, 4
_SIZE = 3
"""Operand of a copy that says how much of it is wanted."""


class Requested:
    """Of one block."""

    def __init__(self, threads: int, values: Values) -> None:
        """Looks at registers as they are when it is asked."""
        self._threads, self._values = threads, values
        self._memory: dict[int, list[Requests]] = {}
        self._shared: dict[int, list[float]] = {}

    def of_memory(self, one: Instruction, position: int) -> Requests:
        """What it asks of L2.

        Args:
            position: of the instruction in the code.
        """
        known = self._memory.setdefault(position, [])
        if len(known) < _MEMO:
            placed = self._places(one)
            alone = everywhere(self._threads)
            known.append(alone if placed is None else requests_of(*placed, one.size_bytes))
            return known[-1]
        return _mean(known)

    def of_shared(self, one: Instruction, position: int) -> float:
        """Cycles that it keeps shared memory busy.

        Args: as `of_memory`.
        """
        known = self._shared.setdefault(position, [])
        if len(known) < _MEMO:
            placed = self._places(one)
            plain = self._threads / _WARP * max(one.size_bytes / _BANK_BYTES, 1.0)
            known.append(plain if placed is None else shared_cycles(*placed, one.size_bytes))
        return sum(known) / len(known)

    def _places(self, one: Instruction) -> tuple[Array, Array] | None:
        """Each thread's address, and whether it asks; None where addresses are not known."""
        assert one.address is not None
        register, offset = one.address
        base = 0 if register is None else self._values.get(register)
        if base is None:
            return None
        is_on = np.ones(self._threads, bool)
        if one.guard is not None:
            let_through = self._values.where(one.guard, is_negated=one.is_negated)
            is_on &= True if let_through is None else let_through
        if one.kind is Kind.COPY and len(one.operands) > _SIZE:
            size = self._values.get(one.operands[_SIZE])
            is_on &= True if size is None else np.asarray(size) != 0
        return np.broadcast_to(np.asarray(base, np.int64), (self._threads,)) + offset, is_on


def _mean(known: Sequence[Requests]) -> Requests:
    count = len(known)
    return Requests(
        sum(each.sectors for each in known) / count,
        sum(each.lines for each in known) / count,
        sum(each.fresh for each in known) / count,
    )
