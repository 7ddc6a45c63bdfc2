"""Where a block is on its way through a kernel: what is ready when, and what is busy until when."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.kernels.ptx import hopper
from planner.kernels.ptx.instructions import Instruction, Kind
from planner.kernels.ptx.requested import Requested
from planner.kernels.ptx.requests import Requests


@dataclass(slots=True)
class Way:
    """Of one block, `held` of its like beside it; times in cycles from its first instruction."""

    threads: int
    held: int
    is_hidden: bool
    """Whether what stands before the wait for the kernel in front is done by then."""
    requested: Requested
    loaded: float = 0.0
    """Sectors asked of L2."""
    stored: float = 0.0
    """Sectors written."""
    before_wait: float = 0.0
    """Until the wait for the kernel in front."""
    lets_go_at: float | None = None
    """Until the kernel behind may start."""
    clock: float = 0.0
    """Nothing later in the code starts earlier."""
    last: float = 0.0
    """Start of the last one that matters."""
    shared_at: float = 0.0
    """Last use of shared memory: a barrier waits for it."""
    serial: float = 0.0
    """End of the last value that others stand behind."""
    asked_at: float = 0.0
    """Last request to memory."""
    ready: dict[str, float] = field(default_factory=dict)
    """Register -> when it may be read."""
    copies: list[float] = field(default_factory=list)
    """Ends of groups of copies."""
    copying: float = 0.0
    """End of the copies of the open group."""
    products: list[float] = field(default_factory=list)
    """Ends of groups of wide products."""
    multiplying: float = 0.0
    """Until when wide products are under way."""
    private: set[str] = field(default_factory=set)
    """Registers with what one exponential was made into."""
    busy: dict[Kind, float] = field(default_factory=dict)

    @property
    def warps(self) -> int:
        """Of all blocks side by side."""
        return -(-self.threads // hopper.WARP) * self.held

    @property
    def cycles(self) -> float:
        """From the first instruction to the last."""
        return max(self.clock, self.last)

    def start_of(self, one: Instruction) -> float:
        """When all that it reads is there."""
        known = [self.ready[name] for name in (*one.reads, one.guard or "") if name in self.ready]
        return max([self.clock, *known])

    def finish(self, one: Instruction, done: float) -> None:
        """Its results may be read from now on."""
        self.ready.update(dict.fromkeys(one.writes, done))

    def unit(self, unit: Kind, cycles: float) -> float:
        """When a unit has time for this; it is busy for so long from then on."""
        begun = max(self.busy.get(unit, 0.0), self.clock)
        self.busy[unit] = begun + cycles
        return begun

    def computed(self, one: Instruction, start: float) -> float:
        """When a warp's arithmetic begins."""
        return max(start, self.unit(one.kind, hopper.UNIT_CYCLES.get(one.kind, 0.0) * self.warps))

    def asked_of_l2(self, found: Requests, start: float) -> tuple[float, float]:
        """When it is asked for, and how long the way to L2 is busy with it.

        Memory is asked in the order of the code: what waits for its address holds up the rest.
        """
        each = found.lines * hopper.LINE_CYCLES + found.sectors * hopper.SECTOR_CYCLES
        cycles = each * self.held
        self.asked_at = max(start, self.asked_at, self.unit(Kind.LOAD, cycles))
        return self.asked_at, cycles

    def from_shared(self, one: Instruction, start: float, cycles: float, latency: float) -> None:
        """Uses shared memory for so many cycles of each block."""
        begun = max(start, self.unit(Kind.SHARED_LOAD, cycles * self.held))
        self.shared_at = max(self.shared_at, begun)
        self.last = max(self.last, begun)
        self.finish(one, begun + latency + cycles * self.held)
