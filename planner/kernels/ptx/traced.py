"""What a launch takes, from what its compiled kernel was followed through for.

    launch = link + blocks start + sqrt(work^2 + L2^2 + DRAM^2)
    work   = slack (what the first blocks take, or what they do beside the kernel in front,
                    + those behind them, as many at a time as a multiprocessor holds)
    L2     = bytes / rate of the whole chip;  DRAM: where the launch's bytes do not stay in L2

Six constants: least squares on the logarithm over 1,024 kernels of 22 models at batch 1, 4 and 16
on an H200 (`benchmarks/fit_traced.py`; 2026-11-28), which predicts models that were left out, and
an H100, as well as those it was fitted to. `planner.kernels.pace` prices what is not compiled yet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from planner.kernels.estimate import H200, Rates
from planner.kernels.ptx.trace import Trace


@dataclass(frozen=True, slots=True)
class Tempo:
    """Of an H200."""

    link_us: float = 0.575
    """From a kernel's end to the first instruction behind its follower's wait."""
    slack: float = 1.32
    """What a block's way takes over what is counted: latencies under load, moves, addresses."""
    overlapped: float = 0.593
    """Share of that which blocks behind the first ones take, starting while others work."""
    block_us: float = 4.03e-4
    """Starting a block, on the whole chip."""
    loaded_us: float = 9.39e-8
    """A byte that is asked of L2, on the whole chip."""
    stored_us: float = 2.13e-7
    """A byte that is written."""


_STAYS = 0.8
"""Share of L2 up to which a launch's bytes stay there from one to the next."""


def traced_us(
    trace: Trace, parts: Sequence[int], moved_bytes: float, rates: Rates, tempo: Tempo | None = None
) -> float:
    """One launch behind another, dependent, its inputs in L2 where they fit.

    Args:
        parts: blocks of each part.
        moved_bytes: of all tensors that it reads and writes, each once.
        rates: the device's; one with dependent launch.
        tempo: other constants than the fitted ones.
    """
    own = tempo or Tempo()
    blocks = sum(parts)
    slower = rates.cycle_us / H200.cycle_us
    wider = rates.units / H200.units / slower
    behind = max(-(-blocks // rates.units) - trace.held, 0) * trace.together_cycles / trace.held
    begin = min(trace.first_cycles, trace.together_cycles)
    cycles = max(trace.first_cycles, trace.early_cycles, begin + own.overlapped * behind)
    asked = own.loaded_us * trace.loaded_bytes + own.stored_us * trace.stored_bytes
    traffic = (trace.loaded_bytes + trace.stored_bytes) * blocks
    kept_out = min(moved_bytes, traffic)
    dram_us = kept_out / rates.dram_bytes_per_us
    if kept_out < _STAYS * rates.l2_size_bytes:
        dram_us = 0.0
    work_us = own.slack * cycles * rates.cycle_us
    rest_us = own.block_us * blocks / wider
    return own.link_us * slower + rest_us + math.hypot(work_us, asked * blocks / wider, dram_us)


def as_row(trace: Trace) -> list[float]:
    """The numbers of a trace in order, to be kept as data."""
    return [float(f"{value:.5g}") for value in astuple(trace)]


def from_row(row: Sequence[float]) -> Trace:
    """The trace of a row."""
    return Trace(int(row[0]), *row[1:])
