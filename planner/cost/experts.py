"""How long a fused layer of experts takes: two grouped products, each as long as any product, and
what sorts tokens by expert before them, activates between them, and sums behind them.

    latency = up + down - start + bytes between over bandwidth + around
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.cost.gemm import PRIOR as PRODUCT_PRIOR
from planner.cost.gemm import Products, products_us
from planner.cost.machine import Machine
from planner.cost.work import OUTPUT_BYTES, Experts, Product

Array = npt.NDArray[np.float64]

_AROUND_US = 10.0
"""Five launches of 2 us besides the first product's: scores, sorting, activation, the second
product, the sum (vllm-project/vllm, fused_moe.py)."""
PRIOR: Mapping[str, tuple[float, float]] = {**PRODUCT_PRIOR, "around": (_AROUND_US, 0.7)}
"""As of products, and `around` in microseconds."""


@dataclass(frozen=True, slots=True)
class ExpertGroups:
    """Many layers of one format, as columns."""

    format: str
    up: Products
    down: Products
    calls: Array
    inner: Array
    hidden: Array
    moved_bytes: Array
    """Between and around the products."""

    def part(self, at: npt.NDArray[np.int64] | slice) -> ExpertGroups:
        """Some of them."""
        rest = (self.calls[at], self.inner[at], self.hidden[at], self.moved_bytes[at])
        return ExpertGroups(self.format, self.up.part(at), self.down.part(at), *rest)

    def __len__(self) -> int:
        return len(self.calls)


def columns(works: Sequence[Experts], format: str) -> ExpertGroups:
    """Layers as columns."""
    pairs = [work.products for work in works]
    up, down = (_products([pair[i] for pair in pairs], format) for i in (0, 1))
    rows = [(work.calls, work.inner, work.hidden, _moved_bytes(work)) for work in works]
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return ExpertGroups(format, up, down, *table.T)


def experts_us(works: ExpertGroups, machine: Machine, at: Mapping[str, float]) -> Array:
    """Microseconds of each layer.

    Args:
        at: parameters of products; `around` where it is known.
    """
    moved = works.moved_bytes / (machine.bandwidth * min(at["bandwidth"], 1.0))
    both = products_us(works.up, machine, at) + products_us(works.down, machine, at)
    total: Array = both - at["start"] + moved + at.get("around", _AROUND_US)
    return total


def _products(products: Sequence[Product], format: str) -> Products:
    rows = [(p.m, p.n, p.k, p.batch, 1.0) for p in products]
    m, n, k, batch, share = np.array(rows, dtype=np.float64).reshape(-1, 5).T
    return Products(format, m, n, k, batch, share)


def _moved_bytes(work: Experts) -> float:
    """Tokens copied to their experts, activations in and out, and results summed by token."""
    up, down = work.products
    acted = (up.n + down.k) * work.calls
    sorted_and_summed = work.hidden * (work.tokens + 2 * work.calls + work.tokens)
    return (acted + sorted_and_summed) * OUTPUT_BYTES[work.format]
