"""Kernel families: which model prices a work, and where it stands on that model's lattice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from planner.cost import attention, experts, gemm, traffic
from planner.cost.attention import Attentions
from planner.cost.experts import ExpertGroups
from planner.cost.gemm import Products
from planner.cost.machine import Machine
from planner.cost.pace import paced
from planner.cost.traffic import Flows
from planner.cost.work import (
    ACTIVATION_BYTES,
    Attention,
    Convolution,
    Experts,
    Flow,
    Product,
    Recurrence,
    Traffic,
    Work,
)

Array = npt.NDArray[np.float64]
Knots = tuple[tuple[float, ...], ...]

_DEPTHWISE_CHANNELS = 8
"""Fewer channels a group leave tensor cores idle: the kernel is bound by memory."""
_LOADED_BYTES = 16
"""Of neighbouring channels, loaded at once."""
PLAIN = frozenset({"fp32", "tf32", "fp16", "bf16"})
"""Formats that libraries multiply alike; all others have kernels of their own."""
_ONE_TILE, _FEW_ROWS = 16, 1024
"""Beyond the smallest tile and up to so many, a second tile of rows may look cheaper than one, for
more blocks draw more bandwidth; but both read the same weights."""
_DECODE_QUERIES = 8
"""Up to so many new positions, keys are the bottleneck."""
_GROUPS = (0.0, 1.0, 2.0, 3.0, 4.0, 4.6, 5.0, 6.0, 6.6)
"""log2 of query heads per kv head; 4.6 and 6.6 are 24 and 96."""


def _steps(first: int, last: int) -> tuple[float, ...]:
    return tuple(float(x) for x in range(first, last + 1))


@dataclass(frozen=True, slots=True)
class Family:
    """A model with its columns."""

    columns: Callable[[Sequence[Any], str], Any]
    """Works of one format -> columns."""
    model: Callable[[Any, Machine, Mapping[str, float]], Array]
    """Works, a device and parameters as this device takes them -> microseconds."""
    prior: Mapping[str, tuple[float, float]]
    coordinates: Callable[[Any], Array]
    knots: Knots
    rough: tuple[int, ...] = ()
    beside: Callable[[Any], Array] | None = None
    """Coordinates that are not on the lattice, but that a fit knows a range of as well."""

    extra: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    """Format -> parameters that it has besides."""
    single: frozenset[str] = frozenset()
    """Formats whose works are one kernel each, whose latencies are cycles (`pace.py`)."""
    smaller: Callable[[Any], tuple[npt.NDArray[np.int64], Any]] | None = None
    """Works -> which of them take no less than smaller ones, and these."""

    def latency_us(self, columns: Any, machine: Machine, at: Mapping[str, float]) -> Array:
        """Microseconds of each work.

        Args:
            at: parameters as the reference takes them.
        """
        is_single = columns.format in self.single
        return self.model(columns, machine, paced(at, machine.slowness) if is_single else at)

    def prior_of(self, format: str) -> dict[str, tuple[float, float]]:
        """Parameters of a format: typical values and spreads."""
        return {**self.prior, **self.extra.get(format, {})}

    def extent(self, columns: Any) -> Array:
        """[works, coordinates]: what a fit has a measured range of."""
        at = self.coordinates(columns)
        return at if self.beside is None else np.column_stack([at, self.beside(columns)])


def family_of(work: Work) -> str:
    """Name of the family that prices a work; a recurrence is priced by its products."""
    match work:
        case Traffic():
            return f"traffic/{work.flow.value}"
        case Attention():
            return f"{_attention(work)}/{work.format}"
        case Product():
            return f"{'batched' if work.batch > 1 else 'product'}/{work.format}"
        case Convolution():
            return f"convolution/{work.format}"
        case Recurrence():
            return f"product/{work.format}"
        case Experts():
            return f"experts/{work.format}"


def _attention(work: Attention) -> str:
    if work.cached:
        return "latent"
    is_few = work.queries <= _DECODE_QUERIES < work.keys
    return "decode" if is_few or work.queries == 1 else "prefill"


def is_depthwise(work: Convolution) -> bool:
    """Whether a convolution is bound by memory whatever its arithmetic."""
    return work.groups > 1 and work.channels_in // work.groups < _DEPTHWISE_CHANNELS


def as_product(work: Convolution) -> Product:
    """The implicit product of a convolution, whose channels tensor cores take in 16 bytes (cuDNN
    developer guide, tensor core operations): an image's three are padded."""
    channels = work.channels_in // work.groups
    if work.format != "fp32" and work.groups == 1:
        step = int(_LOADED_BYTES / ACTIVATION_BYTES[work.format])
        channels = -(-channels // step) * step
    return Product(
        m=work.batch * work.height * work.width,
        n=work.channels_out // work.groups,
        k=channels * work.kernel[0] * work.kernel[1],
        batch=work.groups,
        format=work.format,
    )


def _products(works: Sequence[Product | Convolution], format: str) -> Products:
    plain = [as_product(w) if isinstance(w, Convolution) else w for w in works]
    shares = [
        min(1.0, w.stride**2 / (w.kernel[0] * w.kernel[1])) if isinstance(w, Convolution) else 1.0
        for w in works
    ]
    rows = [(p.m, p.n, p.k, p.batch, share) for p, share in zip(plain, shares, strict=True)]
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    is_convolution = any(isinstance(w, Convolution) for w in works)
    m, n, k, batch, share = table.T
    return Products(format, m, n, k, batch, share, is_convolution)


def _fewer_rows(w: Products) -> tuple[npt.NDArray[np.int64], Products]:
    """Products of few rows, with half as many."""
    few = np.flatnonzero((w.m > _ONE_TILE) & (w.m <= _FEW_ROWS))
    part = w.part(few)
    return few, replace(part, m=np.floor(part.m / 2))


def _attentions(works: Sequence[Attention], format: str) -> Attentions:
    rows = [
        (
            *(w.batch, w.heads, w.kv_heads, w.head_dim, w.queries, w.keys, w.is_causal),
            w.cached_share,
        )
        for w in works
    ]
    return Attentions(format, *np.array(rows, dtype=np.float64).reshape(-1, 8).T)


def _flows(works: Sequence[Traffic], format: str) -> Flows:
    rows = [(w.size_bytes, w.rows) for w in works]
    return Flows(format, *np.array(rows, dtype=np.float64).reshape(-1, 2).T)


def _at_product(w: Products) -> Array:
    return np.log2(np.column_stack([w.m * w.batch, w.n, w.k]))


def _at_experts(w: ExpertGroups) -> Array:
    return np.log2(np.column_stack([w.calls, w.inner, w.hidden]))


def _at_prefill(w: Attentions) -> Array:
    return np.log2(np.column_stack([w.batch * w.heads, w.queries, w.heads / w.kv_heads]))


def _at_decode(w: Attentions) -> Array:
    return np.log2(np.column_stack([w.batch * w.kv_heads, w.keys, w.heads / w.kv_heads]))


def _beside_attention(w: Attentions) -> Array:
    return np.column_stack([np.log2(w.head_dim), w.is_causal])


def _at_flow(w: Flows) -> Array:
    at: Array = np.log2(np.maximum(w.size_bytes, 1.0))[:, None]
    return at


_PRODUCT = Family(
    _products,
    gemm.products_us,
    gemm.PRIOR,
    _at_product,
    (_steps(0, 16), _steps(5, 17), _steps(5, 17)),
    extra=gemm.UNPACKED,
    single=PLAIN,
    smaller=_fewer_rows,
)
_DECODE = Family(
    _attentions,
    attention.decode_us,
    attention.DECODE_PRIOR,
    _at_decode,
    (_steps(0, 17), _steps(1, 17), _GROUPS),
    rough=(2,),
    beside=_beside_attention,
)
FAMILIES: Mapping[str, Family] = {
    "product": _PRODUCT,
    "batched": _PRODUCT,
    "convolution": _PRODUCT,
    "experts": Family(
        experts.columns,
        experts.experts_us,
        experts.PRIOR,
        _at_experts,
        (_steps(0, 20), _steps(5, 17), _steps(5, 17)),
        extra=gemm.UNPACKED,
        single=PLAIN,
    ),
    "prefill": Family(
        _attentions,
        attention.prefill_us,
        attention.PREFILL_PRIOR,
        _at_prefill,
        (_steps(2, 15), _steps(4, 15), _GROUPS),
        rough=(2,),
        beside=_beside_attention,
    ),
    "decode": _DECODE,
    "latent": replace(_DECODE, prior=attention.LATENT_PRIOR),
    "traffic": Family(
        _flows,
        traffic.traffic_us,
        traffic.PRIOR,
        _at_flow,
        (_steps(8, 34),),
        extra={Flow.NORMALISATION.value: traffic.WITH_MEAN},
        single=frozenset(flow.value for flow in Flow),
    ),
}
"""First part of a curve's key -> its model."""
