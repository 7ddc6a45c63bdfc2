"""The kernels of a transformer: what one pass runs on one rank, with counts."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.tables.architectures import Transformer
from benchmarks.tables.latent import latent_attention
from benchmarks.tables.passes import WIDE, Pass, Setting
from planner.cost.work import ACTIVATION_BYTES, Attention, Experts, Flow, Product, Traffic


def transformer_pass(model: Transformer, at: Setting, *, has_head: bool = True) -> Pass:
    """One pass over `queries` new positions that see `keys` positions."""
    found = Pass()
    tokens, layers = at.batch * at.queries, model.layers
    row = tokens * model.hidden * ACTIVATION_BYTES[at.half]
    _front(found, model, at)
    _self_attention(found, model, at, layers)
    _inners(found, model, at, layers)
    found.add(Traffic(2 * row, 2 * row, norm_of(model), rows=tokens), 2 * layers)
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


def norm_of(model: Transformer) -> Flow:
    """How it normalises: gated inner layers came with norms without means (Touvron et al. 2023),
    plain ones have both (Vaswani et al. 2017)."""
    return Flow.RMS_NORMALISATION if model.is_gated else Flow.NORMALISATION


def decoder_pass(model: Transformer, at: Setting, seen: int) -> Pass:
    """One step of an encoder-decoder's decoder, which has made `seen` tokens.

    Args:
        at: of the encoder: `keys` positions of it are attended to in every layer. Their keys and
            values are computed once a query, which is neglected against the encoder itself.
    """
    found = Pass()
    layers, dim, half = model.decoder_layers, model.width, at.half
    own = replace(at, queries=1, keys=seen, is_causal=True)
    row = at.batch * model.hidden * ACTIVATION_BYTES[half]
    _self_attention(found, model, own, layers)
    heads = max(1, model.heads // at.degree)
    for n, k in ((heads * dim, model.hidden), (model.hidden, heads * dim)):
        found.add(Product(at.batch, n, k, format=at.format), layers)
    across = replace(at, queries=1, is_causal=False)
    _attention(found, across, (heads, heads, dim), half, layers)
    _inners(found, model, own, layers)
    found.add(Traffic(2 * row, 2 * row, norm_of(model), rows=at.batch), 3 * layers)
    if not at.is_fused:
        found.add(Traffic(2 * row, row, Flow.ELEMENTWISE), 6 * layers)
    if at.degree > 1:
        found.reductions[row] += 3 * layers
    if at.stages > 1:
        found.hops[row] += at.stages - 1
    _head(found, model, own)
    return found


def _front(found: Pass, model: Transformer, at: Setting) -> None:
    """Two convolutions over a spectrogram of twice as many positions."""
    if model.bands:
        rows, width = at.batch * at.queries, model.hidden
        found.add(Product(2 * rows, width, 3 * model.bands, format=at.half))
        found.add(Product(rows, width, 3 * width, format=at.half))


def _self_attention(found: Pass, model: Transformer, at: Setting, layers: int) -> None:
    if at.spreads_requests:
        at = replace(at, batch=-(-at.batch // at.degree), degree=1)
    heads = max(1, model.heads // at.degree)
    if model.latent:
        latent_attention(found, model.latent, (model.hidden, heads), at, layers)
        return
    tokens, dim = at.batch * at.queries, model.width
    if model.relative_positions:
        at = replace(at, is_whole=False)
        _relative(found, model, at, heads, layers)
    kv_heads = max(1, model.kv_heads // at.degree)
    for n, k in (((heads + 2 * kv_heads) * dim, model.hidden), (model.hidden, heads * dim)):
        found.add(Product(tokens, n, k, format=at.format), layers)
    _attention(found, at, (heads, kv_heads, dim), at.half, layers)


def _relative(found: Pass, model: Transformer, at: Setting, heads: int, layers: int) -> None:
    """What queries and keys make of distances (He et al. 2021, section 3.1): both projected, each
    multiplied by the other side of all positions, and gathered."""
    distances = min(2 * at.keys, model.relative_positions)
    lanes, dim, size = at.batch * heads, model.width, ACTIVATION_BYTES[at.half]
    found.add(Product(distances, heads * dim, model.hidden, format=at.format), 2 * layers)
    found.add(Product(at.queries, distances, dim, lanes, at.half), layers)
    found.add(Product(at.keys, distances, dim, lanes, at.half), layers)
    gathered = float(lanes * at.queries * at.keys * size)
    found.add(Traffic(2 * gathered, gathered, Flow.GATHER), 2 * layers)


def _inners(found: Pass, model: Transformer, at: Setting, layers: int) -> None:
    """Inner layers: with experts, or without in the first few; and those that all tokens share."""
    dense = min(layers, model.dense_layers)
    if dense:
        _inner(found, replace(model, experts=0, ffn=model.dense_ffn), at, dense)
    _inner(found, model, at, layers - dense)
    if model.shared_experts:
        shared = replace(model, experts=0, ffn=model.shared_experts * model.ffn)
        _inner(found, shared, at, layers - dense)


def _inner(found: Pass, model: Transformer, at: Setting, layers: int) -> None:
    """The two products between which the inner layer is activated; with experts, of those asked,
    behind the product that scores them."""
    tokens, inner = at.batch * at.queries, max(1, model.ffn // at.degree)
    if model.experts:
        calls, sizes = tokens * model.active_experts, (model.hidden, inner, model.experts)
        found.add(Product(tokens, model.experts, model.hidden, format=at.half), layers)
        found.add(Experts(tokens, calls, *sizes, model.is_gated, at.format), layers)
        return
    gates = 2 if model.is_gated else 1
    found.add(Product(tokens, gates * inner, model.hidden, format=at.format), layers)
    found.add(Product(tokens, model.hidden, inner, format=at.format), layers)
    if at.joins_activations and not model.is_gated:
        return
    acted = tokens * inner * ACTIVATION_BYTES[at.half]
    found.add(Traffic(gates * acted, acted, Flow.ACTIVATION, rows=tokens), layers)


def _head(found: Pass, model: Transformer, at: Setting) -> None:
    """The last position's scores over the vocabulary, and a choice among them."""
    rows = at.batch
    found.add(Product(rows, max(1, model.vocab // at.degree), model.hidden, format=at.half))
    logits = rows * model.vocab * 4.0
    found.add(Traffic(3 * logits, 2 * logits, Flow.SOFTMAX, rows=rows), 2)


def _attention(
    found: Pass, at: Setting, heads: tuple[int, int, int], format: str, layers: int
) -> None:
    query_heads, kv_heads, dim = heads
    if at.is_fused and at.is_whole and format not in WIDE:
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
