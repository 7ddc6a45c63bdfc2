"""The kernels of a transformer: what one pass runs on one rank, with counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from benchmarks.tables.architectures import Transformer
from planner.cost.work import (
    ACTIVATION_BYTES,
    Attention,
    Flow,
    Product,
    Traffic,
    Work,
)

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
    is_fused: bool = True
    joins_activations: bool = False
    """Whether activations are no kernels of their own."""
    calls_kernels: bool = False
    """Whether kernels sort heads before several positions are attended to, and add residuals."""
    is_causal: bool = True
    padded: int = 0
    """Positions to which queries are padded again for attention that is no single kernel."""


def transformer_pass(model: Transformer, at: Setting, *, has_head: bool = True) -> Pass:
    """One pass over `queries` new positions that see `keys` positions."""
    found = Pass()
    tokens, layers = at.batch * at.queries, model.layers
    row = tokens * model.hidden * ACTIVATION_BYTES[_half(at)]
    _self_attention(found, model, at, layers)
    _inner(found, model, at, layers)
    found.add(Traffic(2 * row, 2 * row, Flow.NORMALISATION, rows=tokens), 2 * layers)
    if not at.is_fused:
        found.add(Traffic(2 * row, row, Flow.ELEMENTWISE), 4 * layers)
    if at.calls_kernels and model.kind == "decoder":
        found.add(Traffic(2 * row, row, Flow.ELEMENTWISE), layers)
    if at.degree > 1:
        found.reductions[row] += 2 * layers
    if at.stages > 1:
        found.hops[row] += at.stages - 1
    if model.vocab and model.kind == "decoder" and has_head:
        _head(found, model, at)
    found.add(Traffic(row, row, Flow.GATHER, rows=tokens), 2)
    return found


def decoder_pass(model: Transformer, at: Setting, seen: int) -> Pass:
    """One step of an encoder-decoder's decoder, which has made `seen` tokens.

    Args:
        at: of the encoder: `keys` positions of it are attended to in every layer. Their keys and
            values are computed once a query, which is neglected against the encoder itself.
    """
    found = Pass()
    layers, dim, half = model.decoder_layers, model.width, _half(at)
    own = replace(at, queries=1, keys=seen, is_causal=True)
    row = at.batch * model.hidden * ACTIVATION_BYTES[half]
    _self_attention(found, model, own, layers)
    heads = max(1, model.heads // at.degree)
    for n, k in ((heads * dim, model.hidden), (model.hidden, heads * dim)):
        found.add(Product(at.batch, n, k, format=at.format), layers)
    across = replace(at, queries=1, is_causal=False)
    _attention(found, across, (heads, heads, dim), half, layers)
    _inner(found, model, own, layers)
    found.add(Traffic(2 * row, 2 * row, Flow.NORMALISATION, rows=at.batch), 3 * layers)
    if not at.is_fused:
        found.add(Traffic(2 * row, row, Flow.ELEMENTWISE), 6 * layers)
    if at.degree > 1:
        found.reductions[row] += 3 * layers
    if at.stages > 1:
        found.hops[row] += at.stages - 1
    _head(found, model, own)
    return found


def _half(at: Setting) -> str:
    """Format of what is not multiplied with weights."""
    return at.format if at.format in WIDE else "fp16"


def _self_attention(found: Pass, model: Transformer, at: Setting, layers: int) -> None:
    tokens, dim = at.batch * at.queries, model.width
    heads = max(1, model.heads // at.degree)
    kv_heads = max(1, model.kv_heads // at.degree)
    for n, k in (((heads + 2 * kv_heads) * dim, model.hidden), (model.hidden, heads * dim)):
        found.add(Product(tokens, n, k, format=at.format), layers)
    _attention(found, at, (heads, kv_heads, dim), _half(at), layers)


def _inner(found: Pass, model: Transformer, at: Setting, layers: int) -> None:
    """The two products between which the inner layer is activated; with experts, of those asked."""
    tokens, inner = at.batch * at.queries, max(1, model.ffn // at.degree)
    gates = 2 if model.is_gated else 1
    rows, asked = tokens, 1
    if model.experts:
        calls = tokens * model.active_experts
        asked = max(1, round(model.experts * (1 - (1 - 1 / model.experts) ** calls)))
        rows = -(-calls // asked)
    found.add(Product(rows, gates * inner, model.hidden, asked, at.format), layers)
    found.add(Product(rows, model.hidden, inner, asked, at.format), layers)
    if at.joins_activations and not model.is_gated:
        return
    acted = rows * asked * inner * ACTIVATION_BYTES[_half(at)]
    found.add(Traffic(gates * acted, acted, Flow.ACTIVATION, rows=rows * asked), layers)


def _head(found: Pass, model: Transformer, at: Setting) -> None:
    """The last position's scores over the vocabulary, and a choice among them."""
    rows = at.batch
    found.add(Product(rows, max(1, model.vocab // at.degree), model.hidden, format=_half(at)))
    logits = rows * model.vocab * 4.0
    found.add(Traffic(3 * logits, 2 * logits, Flow.SOFTMAX, rows=rows), 2)


def _attention(
    found: Pass, at: Setting, heads: tuple[int, int, int], format: str, layers: int
) -> None:
    query_heads, kv_heads, dim = heads
    if at.is_fused and format not in WIDE:
        work = Attention(
            at.batch, query_heads, kv_heads, dim, at.queries, at.keys, at.is_causal, format
        )
        found.add(work, layers)
        if at.calls_kernels and at.queries > 1:
            placed = at.batch * at.queries * (query_heads + 2 * kv_heads) * dim
            size = placed * ACTIVATION_BYTES[format]
            found.add(Traffic(size, size, Flow.COPY), layers)
        return
    lanes = at.batch * query_heads
    queries, keys = (at.padded, at.padded) if at.padded else (at.queries, at.keys)
    scores = lanes * queries * keys * ACTIVATION_BYTES[format]
    found.add(Product(queries, keys, dim, lanes, format), layers)
    found.add(Traffic(scores, scores, Flow.SOFTMAX, rows=lanes * queries), layers)
    found.add(Product(queries, dim, keys, lanes, format), layers)
    moved = lanes * queries * dim * ACTIVATION_BYTES[format]
    found.add(Traffic(3 * moved, 3 * moved, Flow.COPY), 2 * layers)
