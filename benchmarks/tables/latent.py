"""Attention over latent vectors (DeepSeek-AI 2024): a position's keys and values of all heads are
made from one vector, which is all that a cache holds.

A prompt makes them (section 2.1); a single new position multiplies its queries with what would have
made the keys instead, attends to the vectors themselves, and makes its values at the end.
"""

from __future__ import annotations

from benchmarks.tables.architectures import Latent
from benchmarks.tables.passes import WIDE, Pass, Setting
from planner.cost.work import ACTIVATION_BYTES, Attention, Flow, Product, Traffic

DEEPSEEK = Latent(keys=512, queries=1536)
"""As in DeepSeek-V2 and V3 (DeepSeek-AI 2024, section 3.1.2)."""


def prompt_core(latent: Latent, batch: int, heads: int, lengths: tuple[int, int]) -> Attention:
    """Of new positions whose keys and values are made: keys and values differ in width, and their
    mean has the operations and bytes of both.

    Args:
        lengths: new positions, and positions seen.
    """
    width = (latent.plain + latent.rotated + latent.values) // 2
    return Attention(batch, heads, heads, width, *lengths)


def step_core(latent: Latent, batch: int, heads: int, keys: int) -> Attention:
    """Of one new position to cached vectors: all heads share them, and values are a part of keys,
    so that they are read once."""
    width = latent.keys + latent.rotated // 2
    return Attention(batch, heads, 1, width, 1, keys, cached=latent.cached)


def latent_attention(
    found: Pass, latent: Latent, shape: tuple[int, int], at: Setting, layers: int
) -> None:
    """Everything between two norms, on one rank.

    Args:
        shape: width of the model, heads of this rank.
    """
    (hidden, heads), tokens = shape, at.batch * at.queries
    asked = heads * (latent.plain + latent.rotated)
    if latent.queries:
        found.add(Product(tokens, latent.queries + latent.cached, hidden, format=at.format), layers)
        found.add(Product(tokens, asked, latent.queries, format=at.format), layers)
    else:
        found.add(Product(tokens, asked + latent.cached, hidden, format=at.format), layers)
    size = ACTIVATION_BYTES[at.half]
    moved = tokens * (latent.queries + latent.cached) * size
    found.add(Traffic(moved, moved, Flow.RMS_NORMALISATION, rows=tokens), 2 * layers)
    if at.queries > 1:
        made = heads * (latent.plain + latent.values)
        found.add(Product(at.batch * at.keys, made, latent.keys, format=at.format), layers)
        _attend(found, prompt_core(latent, at.batch, heads, (at.queries, at.keys)), at, layers)
    else:
        found.add(Product(at.batch, latent.keys, latent.plain, heads, at.half), layers)
        _attend(found, step_core(latent, at.batch, heads, at.keys), at, layers)
        found.add(Product(at.batch, latent.values, latent.keys, heads, at.half), layers)
    found.add(Product(tokens, hidden, heads * latent.values, format=at.format), layers)
    placed = tokens * (heads * latent.rotated + latent.cached) * size
    for _ in range(2):  # queries and keys rotated, the position put into the cache
        found.add(Traffic(placed, placed, Flow.COPY), layers)
    if at.format == "fp8":
        _scaled(found, (hidden, latent.queries, heads * latent.values), tokens, layers)


def _scaled(found: Pass, widths: tuple[int, ...], tokens: int, layers: int) -> None:
    """Inputs of products scaled by tiles of 128 while they are read (DeepSeek-AI 2024, 3.3.2): a
    kernel before each product."""
    for width in (each for each in widths if each):
        read = float(tokens * width * ACTIVATION_BYTES["bf16"])
        found.add(Traffic(read, read / 2, Flow.ELEMENTWISE), layers)


def _attend(found: Pass, core: Attention, at: Setting, layers: int) -> None:
    """One kernel, or what frameworks and 32-bit formats run in its place."""
    if at.is_fused and at.half not in WIDE:
        found.add(core, layers)
        return
    lanes, size = core.batch * core.heads, ACTIVATION_BYTES[at.half]
    scores = float(lanes * core.queries * core.keys * size)
    found.add(Product(core.queries, core.keys, core.head_dim, lanes, at.half), layers)
    found.add(Traffic(scores, scores, Flow.SOFTMAX, rows=lanes * core.queries), layers)
    found.add(Product(core.queries, core.head_dim, core.keys, lanes, at.half), layers)
