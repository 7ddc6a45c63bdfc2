"""What a kernel has to do, in the terms its price depends on: one frozen description per family.

Equal descriptions are equal kernels, so prices can be kept by description.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

WEIGHT_BYTES = {
    "fp32": 4.0,
    "tf32": 4.0,
    "fp16": 2.0,
    "bf16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "int8_wo": 1.0,
    "int4_wo": 0.5,
    "2:4": 1.125,
    "2:4_int8": 0.625,
}
"""Bytes of one weight. 2:4 keeps half the values and two bits of position for each value kept."""
ACTIVATION_BYTES = {
    **WEIGHT_BYTES,
    "int8_wo": 2.0,
    "int4_wo": 2.0,
    "2:4": 2.0,
    "2:4_int8": 1.0,
}
"""Bytes of one input activation."""
OUTPUT_BYTES = {name: 4.0 if name in ("fp32", "tf32") else 2.0 for name in WEIGHT_BYTES}
"""Bytes of one output: 16-bit except in 32-bit formats."""


class Flow(StrEnum):
    """Kinds of kernels that are bound by memory."""

    ELEMENTWISE = "elementwise"
    ACTIVATION = "activation"
    """One block a row, gated or not."""
    NORMALISATION = "normalisation"
    """By mean and variance."""
    RMS_NORMALISATION = "rms_normalisation"
    """By the mean square alone (Zhang and Sennrich 2019): other kernels, which walk rows faster."""
    SOFTMAX = "softmax"
    REDUCTION = "reduction"
    COPY = "copy"
    GATHER = "gather"


@dataclass(frozen=True, slots=True)
class Product:
    """`batch` products [m, k] x [k, n]."""

    m: int
    n: int
    k: int
    batch: int = 1
    format: str = "fp16"
    """One of `WEIGHT_BYTES`."""

    @property
    def flops(self) -> float:
        """Of the dense product, a multiply-add being two."""
        return 2.0 * self.batch * self.m * self.n * self.k

    @property
    def weight_size_bytes(self) -> float:
        """Of the right operand."""
        return self.batch * self.k * self.n * WEIGHT_BYTES[self.format]

    @property
    def size_bytes(self) -> float:
        """Both operands read and the result written, once."""
        rows = self.batch * self.m
        read = rows * self.k * ACTIVATION_BYTES[self.format] + self.weight_size_bytes
        return read + rows * self.n * OUTPUT_BYTES[self.format]


@dataclass(frozen=True, slots=True)
class Convolution:
    """A 2-D convolution (1-D: height 1) as the product it is computed as."""

    batch: int
    channels_in: int
    channels_out: int
    height: int
    """Of the output."""
    width: int
    """Of the output."""
    kernel: tuple[int, int]
    stride: int = 1
    groups: int = 1
    format: str = "fp16"

    @property
    def flops(self) -> float:
        """A multiply-add is two."""
        inner = self.channels_in // self.groups * self.kernel[0] * self.kernel[1]
        return 2.0 * self.batch * self.height * self.width * self.channels_out * inner

    @property
    def weight_size_bytes(self) -> float:
        """Of the kernel."""
        inner = self.channels_in // self.groups * self.kernel[0] * self.kernel[1]
        return self.channels_out * inner * WEIGHT_BYTES[self.format]

    @property
    def size_bytes(self) -> float:
        """Input, weights and output once: overlapping windows come from the cache, and what the
        next convolution reads is written in its own format."""
        pixels = self.batch * self.height * self.width
        read = pixels * self.stride**2 * self.channels_in * ACTIVATION_BYTES[self.format]
        written = pixels * self.channels_out * ACTIVATION_BYTES[self.format]
        return read + self.weight_size_bytes + written


@dataclass(frozen=True, slots=True)
class Attention:
    """One fused attention: softmax(Q K') V without the scores ever in memory."""

    batch: int
    heads: int
    kv_heads: int
    head_dim: int
    queries: int
    """Positions that ask: the prompt's length in prefill, 1 in decode."""
    keys: int
    """Positions seen, the new ones included."""
    is_causal: bool = True
    format: str = "fp16"
    cached: int = 0
    """Elements that a cache holds of each position and kv head; 0: keys and values, twice
    `head_dim`. Fewer where values are a part of the keys (DeepSeek-AI 2024: 576 of 2 x 544)."""

    @property
    def cached_share(self) -> float:
        """Of keys and values, what is read."""
        return self.cached / (2 * self.head_dim) if self.cached else 1.0

    @property
    def flops(self) -> float:
        """Both products; half of the new positions' square where causal."""
        seen = self.keys - (self.queries - 1) / 2 if self.is_causal else self.keys
        return 4.0 * self.batch * self.heads * self.queries * seen * self.head_dim

    @property
    def size_bytes(self) -> float:
        """Queries and results of all heads, keys and values of the kv heads."""
        width = self.batch * self.head_dim * ACTIVATION_BYTES[self.format]
        seen = self.kv_heads * self.keys * self.cached_share
        return 2 * width * (self.heads * self.queries + seen)


@dataclass(frozen=True, slots=True)
class Traffic:
    """A kernel bound by memory: what it reads and writes once it is fused with its neighbours."""

    read_size_bytes: float
    write_size_bytes: float
    flow: Flow = Flow.ELEMENTWISE
    flops: float = 0.0
    rows: int = 0
    """Independent rows, each the work of one block; 0 where a kernel splits as it likes."""

    @property
    def size_bytes(self) -> float:
        """Everything that moves."""
        return self.read_size_bytes + self.write_size_bytes


@dataclass(frozen=True, slots=True)
class Recurrence:
    """Steps that follow each other: an LSTM, GRU or RNN layer, all directions of one layer."""

    steps: int
    batch: int
    inputs: int
    hidden: int
    gates: int
    """4 of an LSTM, 3 of a GRU, 1 of an RNN."""
    directions: int = 1
    format: str = "fp16"

    @property
    def flops(self) -> float:
        """Input and recurrent products; a multiply-add is two."""
        rows = self.gates * self.hidden * self.directions
        return 2.0 * self.steps * self.batch * rows * (self.inputs + self.hidden)

    @property
    def weight_size_bytes(self) -> float:
        """Input and recurrent weights."""
        rows = self.gates * self.hidden * self.directions
        return rows * (self.inputs + self.hidden) * WEIGHT_BYTES[self.format]

    @property
    def size_bytes(self) -> float:
        """Weights once and every step's input and output."""
        elements = self.steps * self.batch * (self.inputs + self.hidden * self.directions)
        return self.weight_size_bytes + elements * ACTIVATION_BYTES[self.format]


@dataclass(frozen=True, slots=True)
class Experts:
    """Inner layers among which tokens choose (Shazeer et al. 2017), as one fused call on one rank:
    tokens sorted by expert, two grouped products with an activation between, and a weighed sum."""

    tokens: int
    calls: int
    """Of experts on this rank: tokens times experts of each, a share of them where others hold
    experts as well."""
    hidden: int
    inner: int
    """Width of an expert on this rank."""
    experts: int
    """On this rank."""
    is_gated: bool = True
    format: str = "fp16"

    @property
    def asked(self) -> int:
        """Experts that any token chooses, if tokens choose at random."""
        missed = (1 - 1 / self.experts) ** self.calls
        return max(1, min(self.calls, round(self.experts * (1 - missed))))

    @property
    def products(self) -> tuple[Product, Product]:
        """Into the inner layer and back; tokens are spread over the experts asked."""
        rows, wide = -(-self.calls // self.asked), (2 if self.is_gated else 1) * self.inner
        return (
            Product(rows, wide, self.hidden, self.asked, self.format),
            Product(rows, self.hidden, self.inner, self.asked, self.format),
        )

    @property
    def flops(self) -> float:
        """A multiply-add is two."""
        wide = (3 if self.is_gated else 2) * self.inner
        return 2.0 * self.calls * self.hidden * wide

    @property
    def weight_size_bytes(self) -> float:
        """Of the experts asked."""
        return sum(product.weight_size_bytes for product in self.products)

    @property
    def size_bytes(self) -> float:
        """Weights of the experts asked, tokens in and out."""
        moved = self.tokens * self.hidden * OUTPUT_BYTES[self.format]
        return self.weight_size_bytes + 2 * moved


Work: TypeAlias = Product | Convolution | Attention | Traffic | Recurrence | Experts
