"""Whole models with kernels that nobody measured: how much longer they may take."""

from __future__ import annotations

from benchmarks.tables.wholes import Whole
from planner.cost.work import Attention, Experts, Work

_LONGER = 3.0
"""Beyond the interval of new software, on the slow side alone. DeepSeek-V3 shared by eight GPUs,
128 tokens read and 256 written, in SGLang 0.4.1.post2 (sgl-project/sglang, pull request 2643, which
does not name the GPUs; as of H200): 30.3, 206 and 761 tokens/s at batch 1, 8 and 32, where 163, 766
and 1,589 are foretold. Later versions gained: what engines launch around experts and latent vectors
is their version's matter."""


def widened(case: Whole, edges: tuple[float, float]) -> tuple[float, float]:
    """Multiples of a latency with the longer one for fused experts and latent attention."""
    low, high = edges
    works = (work for one, _ in case.passes for work in one.works)
    return (low, high * _LONGER) if any(map(_is_unmeasured, works)) else edges


def _is_unmeasured(work: Work) -> bool:
    return isinstance(work, Experts) or (isinstance(work, Attention) and work.cached > 0)
