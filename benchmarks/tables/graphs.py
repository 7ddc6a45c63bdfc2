"""The kernels of a whole model: what one pass of a transformer or a ResNet runs, with counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.tables.shapes import Transformer
from planner.cost.work import (
    ACTIVATION_BYTES,
    Attention,
    Convolution,
    Flow,
    Product,
    Traffic,
    Work,
)

_WIDE = {"fp32", "tf32"}


@dataclass(slots=True)
class Pass:
    """Everything one pass runs on one rank."""

    works: Counter[Work] = field(default_factory=Counter)
    reductions: Counter[float] = field(default_factory=Counter)
    """Bytes of each all_reduce."""
    operators: float = 0.0
    """What a framework dispatches."""

    def add(self, work: Work, count: int = 1) -> None:
        """One kernel, `count` times."""
        self.works[work] += count
        self.operators += count

    def times(self, count: int) -> Pass:
        """The pass for several batches, one after the other."""
        works = Counter({work: n * count for work, n in self.works.items()})
        reductions = Counter({size: n * count for size, n in self.reductions.items()})
        return Pass(works, reductions, self.operators * count)


@dataclass(frozen=True, slots=True)
class Setting:
    """How a model runs."""

    batch: int
    queries: int
    keys: int
    format: str
    degree: int = 1
    is_fused: bool = True
    is_causal: bool = True


def transformer_pass(model: Transformer, at: Setting, *, has_head: bool = True) -> Pass:
    """One pass over `queries` new positions that see `keys` positions."""
    found = Pass()
    half = "fp16" if at.format not in _WIDE else at.format
    size = ACTIVATION_BYTES[half]
    tokens, layers = at.batch * at.queries, model.layers
    heads = max(1, model.heads // at.degree)
    kv_heads = max(1, model.kv_heads // at.degree)
    inner = model.ffn // at.degree
    dim = model.width

    for n, k in (
        ((heads + 2 * kv_heads) * dim, model.hidden),
        (model.hidden, heads * dim),
        ((2 if model.is_gated else 1) * inner, model.hidden),
        (model.hidden, inner),
    ):
        found.add(Product(tokens, n, k, format=at.format), layers)
    _attention(found, at, (heads, kv_heads, dim), half, layers)

    row = tokens * model.hidden * size
    found.add(Traffic(2 * row, 2 * row, Flow.NORMALISATION, rows=tokens), 2 * layers)
    read = tokens * inner * size * (2 if model.is_gated else 1)
    found.add(Traffic(read, tokens * inner * size, Flow.ACTIVATION, rows=tokens), layers)
    if not at.is_fused:
        found.add(Traffic(2 * row, row, Flow.ELEMENTWISE), 4 * layers)
    if at.degree > 1:
        found.reductions[row] += 2 * layers
    if model.vocab and model.kind == "decoder" and has_head:
        rows = at.batch
        found.add(Product(rows, model.vocab // at.degree, model.hidden, format=half))
        logits = rows * model.vocab * 4.0
        found.add(Traffic(3 * logits, 2 * logits, Flow.SOFTMAX, rows=rows), 2)
    found.add(Traffic(row, row, Flow.GATHER, rows=tokens), 2)
    return found


def _attention(
    found: Pass, at: Setting, heads: tuple[int, int, int], format: str, layers: int
) -> None:
    query_heads, kv_heads, dim = heads
    if at.is_fused and format not in _WIDE:
        work = Attention(
            at.batch, query_heads, kv_heads, dim, at.queries, at.keys, at.is_causal, format
        )
        found.add(work, layers)
        return
    lanes = at.batch * query_heads
    scores = lanes * at.queries * at.keys * ACTIVATION_BYTES[format]
    found.add(Product(at.queries, at.keys, dim, lanes, format), layers)
    found.add(Traffic(scores, scores, Flow.SOFTMAX, rows=lanes * at.queries), layers)
    found.add(Product(at.queries, dim, at.keys, lanes, format), layers)
    moved = lanes * at.queries * dim * ACTIVATION_BYTES[format]
    found.add(Traffic(3 * moved, 3 * moved, Flow.COPY), 2 * layers)


def residual_pass(
    depths: Sequence[int], is_bottleneck: bool, batch: int, format: str, *, is_fused: bool = True
) -> Pass:
    """One pass of a ResNet over 224 x 224 images (He et al. 2015, stride in the 3 x 3)."""
    found = Pass()
    size = ACTIVATION_BYTES[format]

    def convolve(cin: int, cout: int, side: int, kernel: int, stride: int = 1) -> None:
        work = Convolution(batch, cin, cout, side, side, (kernel, kernel), stride, format=format)
        found.add(work)
        if not is_fused:
            moved = batch * cout * side * side * size
            found.add(Traffic(moved, moved, Flow.ELEMENTWISE), 2)

    convolve(3, 64, 112, 7, 2)
    pooled = batch * 64 * size
    found.add(Traffic(pooled * 112 * 112, pooled * 56 * 56, Flow.REDUCTION))
    channels, side = 64, 56
    for stage, blocks in enumerate(depths):
        width = 64 * 2**stage
        out = width * (4 if is_bottleneck else 1)
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            before, side = side, side // stride
            if is_bottleneck:
                convolve(channels, width, before, 1)
                convolve(width, width, side, 3, stride)
                convolve(width, out, side, 1)
            else:
                convolve(channels, width, side, 3, stride)
                convolve(width, width, side, 3)
            if channels != out:
                convolve(channels, out, side, 1, stride)
            moved = batch * out * side * side * size
            if not is_fused:
                found.add(Traffic(2 * moved, moved, Flow.ELEMENTWISE))
            channels = out
    found.add(Traffic(batch * channels * 49 * size, batch * channels * size, Flow.REDUCTION))
    found.add(Product(batch, 1000, channels, format="fp16" if format not in _WIDE else format))
    return found
