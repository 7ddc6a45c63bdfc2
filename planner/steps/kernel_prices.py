"""Kernels timed alone under every thread pool, in one state of the machine, and what they say of a
whole: how long its kernels take one after the other, and where the threads of a pool meet.

Each pool's kernels were timed in a process of its own, one now, the other a minute later, which may
see different states; whole runs alternate between pools round by round, and so do their probes.
Were each pool priced in the state of its own process, short kernels, which have one time for all
pools, would come from one state and long ones from another. So all prices belong to the state of
the whole runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from planner.cost.meeting import met_us
from planner.cost.state import Sharing, State, sharing_of
from planner.cost.table import ALONE, CostTable, seen_state
from planner.ir.cost import Cost
from planner.profiling.store import KernelTime
from planner.profiling.timing import FAST_SHARE
from planner.spec.session import SessionSettings
from planner.steps.analysis import Executable
from planner.steps.bench import Bench, times_of

_GAIN = 0.8
"""Kernels that take less than this with more threads than one are worked on together."""
_ALIKE = 0.08
"""What one thread does is timed alike in two pools: 95 of 100 kernels within this."""
_MEETING_US, _CROSSING_US_PER_KIB = 2.3, 0.1
"""What a meeting costs, and what one thread reads of what another has written or held in its cache,
where the probe takes twice as long for threads that hear of each other late. Whole runs of nine
models in both states: 0.03 to 0.3 us a KiB (AMD EPYC, 2026-11-28)."""
_MOST_LATE = 0.9


class KernelPrices:
    """Prices of kernels, by the number of threads."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.states: dict[int, State] = {}
        """Threads -> the state that prices belong to, as their probes tell it."""
        self._tables: dict[int, CostTable] = {}

    @property
    def numbers_of_threads(self) -> tuple[int, ...]:
        """Of all pools that have prices."""
        return tuple(self._tables)

    def learn(self, executables: Sequence[Executable], threads: int) -> None:
        """Times every kernel of these with so many threads; with one first, for what is short then
        is not timed again with more. Prices are of the state that their process saw."""
        self.bench.measure(executables, threads)
        times = self._times(executables, threads)
        seen = [seen_state(time) for time in times.values() if time.threads == threads]
        if seen:
            ends = ([each.alone_us for each in seen], [each.pool_us for each in seen])
            self.states[threads] = State(*(float(np.quantile(us, FAST_SHARE)) for us in ends))
        sharing = self._sharings(executables, threads, times)
        self._tables[threads] = CostTable(times, self.states, sharing=sharing)

    def extend(self, executables: Sequence[Executable], threads: int) -> None:
        """Times what is new in more of them; the state that prices belong to stays."""
        for count in sorted({ALONE, threads}):
            self.bench.measure(executables, count)
            times = self._times(executables, count)
            sharing = self._sharings(executables, count, times)
            self._tables[count] = self._tables[count].extended(times, sharing)

    def bring(
        self, states: Mapping[int, State], felt: float = 1.0, change: KernelTime | None = None
    ) -> None:
        """All kernels into these states: as the model does where one thread runs them, and by what
        threads take longer to meet where they work together.

        Args:
            felt: how what one thread does follows the pace.
            change: what a kernel takes longer among others than among its copies.
        """
        self.states = dict(states)
        state = CostTable({}, states, felt=felt)
        change_us = state.brought(change).expected_us if change is not None else 0.0
        self._tables = {
            threads: table.in_state(states, felt=felt, change_us=change_us)
            for threads, table in self._tables.items()
        }

    def cost(self, executable: Executable, threads: int, index: int) -> Cost:
        """One kernel; `index` counts in the analysis of the executable."""
        return self._tables[threads].cost(self.bench.keys(executable, threads)[index])

    def overhead_us(self, executable: Executable, threads: int) -> float:
        """What a call costs besides its kernels, in the same state as those; the calling thread
        does it alone."""
        return self._tables[threads].brought(self.bench.overhead(executable, ALONE)).expected_us

    def total(self, executable: Executable, threads: int) -> Cost:
        """Kernels one after the other, and the call."""
        total = self._tables[threads].total(self.bench.keys(executable, threads))
        return total + Cost.exactly(self.overhead_us(executable, threads))

    def lost_where_met_us(self, executable: Executable, session: SessionSettings) -> float:
        """What the threads of a pool are expected to lose where they meet."""
        threads = session.intra_op_threads
        all_ = self._tables[threads]
        return sum(
            met_us(
                self._tables[ALONE].cost(alone).expected_us,
                all_.cost(among).expected_us,
                is_spinning=session.spinning,
            )
            for alone, among in self._pairs(executable, threads)
            if all_.meetings(among)
        )

    def usual_late(self, executables: Sequence[Executable], threads: int) -> float:
        """How a model follows threads that meet late, by what its kernels are: an exponent."""
        table, late_us = self._tables[threads], 0.0
        own_us = sum(table.total(self.bench.keys(e, threads)).expected_us for e in executables)
        for each in executables:
            kernels, keys = self.bench.analysis(each).kernels, self.bench.keys(each, threads)
            for kernel, key in zip(kernels, keys, strict=True):
                meetings = table.meetings(key)
                crossed_bytes = kernel.output_size_bytes + kernel.read_size_bytes
                crossing_us = crossed_bytes / 1024 * _CROSSING_US_PER_KIB
                late_us += meetings * _MEETING_US + (crossing_us if meetings else 0.0)
        return min(float(np.log2(1.0 + late_us / own_us)), _MOST_LATE) if own_us > 0 else 0.0

    def worked_together(self, executables: Sequence[Executable], threads: int) -> float:
        """The share of a model's time in kernels that threads work on together."""
        if threads == ALONE:
            return 1.0
        shared = total = 0.0
        for alone, among in (pair for e in executables for pair in self._pairs(e, threads)):
            alone_us = self._tables[ALONE].cost(alone).expected_us
            among_us = self._tables[threads].cost(among).expected_us
            total += among_us
            shared += among_us if among_us < _GAIN * alone_us else 0.0
        return shared / total if total > 0 else 0.0

    def _times(self, executables: Sequence[Executable], threads: int) -> dict[str, KernelTime]:
        keys = [key for each in executables for key in self.bench.keys(each, threads)]
        return times_of(self.bench.work, keys)

    def _pairs(self, executable: Executable, threads: int) -> list[tuple[str, str]]:
        """Keys of each kernel's time with one thread and with so many; short ones have but one."""
        keys = (self.bench.keys(executable, count) for count in (ALONE, threads))
        return list(zip(*keys, strict=True))

    def _sharings(
        self, executables: Sequence[Executable], threads: int, times: Mapping[str, KernelTime]
    ) -> dict[str, Sharing]:
        """Key of a kernel's time with so many threads -> how they share it."""
        if threads == ALONE:
            return {}
        alone_times = self._times(executables, ALONE)
        found: dict[str, Sharing] = {}
        for each in executables:
            kernels = self.bench.analysis(each).kernels
            for kernel, (alone, among) in zip(kernels, self._pairs(each, threads), strict=True):
                if alone != among:
                    is_alike = _are_alike(alone_times.get(alone), times.get(among))
                    found[among] = sharing_of(kernel.op_type, is_alike=is_alike)
        return found


def _are_alike(one: KernelTime | None, several: KernelTime | None) -> bool:
    """Whether a kernel takes with several threads what it takes with one, on cores as fast."""
    if one is None or several is None:
        return False
    known = one.alone_us > 0 and several.alone_us > 0
    pace = several.alone_us / one.alone_us if known else 1.0
    return abs(several.latency_us / (one.latency_us * pace) - 1.0) <= _ALIKE
