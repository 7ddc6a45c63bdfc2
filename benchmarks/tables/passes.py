"""What one pass of a model runs on one rank, and how it is set."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeAlias

from planner.cost.work import Work

WIDE = frozenset({"fp32", "tf32"})
"""Formats in which activations take 32 bits."""


@dataclass(slots=True)
class Pass:
    """Everything one pass runs on one rank."""

    works: Counter[Work] = field(default_factory=Counter)
    reductions: Counter[float] = field(default_factory=Counter)
    """Bytes of each all_reduce."""
    hops: Counter[float] = field(default_factory=Counter)
    """Bytes of each message from one stage to the next."""
    operators: float = 0.0
    """What a framework dispatches."""
    read_size_bytes: float = 0.0
    """What fused kernels read besides their own operands: a shortcut that joins a product."""

    def add(self, work: Work, count: int = 1) -> None:
        """One kernel, `count` times."""
        self.works[work] += count
        self.operators += count

    def join(self, other: Pass) -> None:
        """Everything of another pass behind this one."""
        self.works.update(other.works)
        self.reductions.update(other.reductions)
        self.hops.update(other.hops)
        self.operators += other.operators
        self.read_size_bytes += other.read_size_bytes

    def times(self, count: int) -> Pass:
        """The pass for several batches, one after the other."""
        works = Counter({work: n * count for work, n in self.works.items()})
        reductions = Counter({size: n * count for size, n in self.reductions.items()})
        hops = Counter({size: n * count for size, n in self.hops.items()})
        read = self.read_size_bytes * count
        return Pass(works, reductions, hops, self.operators * count, read)


Passes: TypeAlias = tuple[tuple[Pass, float], ...]
"""What runs, and how often for one query."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a model runs."""

    batch: int
    queries: int
    keys: int
    format: str
    degree: int = 1
    """Ranks that share each layer."""
    stages: int = 1
    """Groups of layers on devices of their own."""
    spreads_requests: bool = False
    """Whether each of these ranks attends to requests of its own, over all heads."""
    is_fused: bool = True
    joins_activations: bool = False
    """Whether activations are no kernels of their own."""
    calls_kernels: bool = False
    """Whether kernels sort heads before several positions are attended to, and add residuals."""
    is_causal: bool = True
    is_whole: bool = True
    """Whether software that fuses has one kernel for the model's attention."""
    padded: int = 0
    """Positions to which queries are padded again for attention that is no single kernel."""

    @property
    def half(self) -> str:
        """Format of what is not multiplied with weights."""
        return self.format if self.format in WIDE else "fp16"
