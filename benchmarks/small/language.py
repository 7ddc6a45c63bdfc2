"""Transformers of the suite: BERT, MiniLM, ViT."""

from __future__ import annotations

import numpy as np
import onnx

from benchmarks.small.graph import GraphWriter


def bert(
    dtype: str,
    *,
    tokens: int,
    layers: int,
    width: int,
    heads: int,
    vocabulary: int = 30522,
    batch: int = 1,
) -> onnx.ModelProto:
    """Encoder with embeddings (Devlin et al., NAACL 2019), post-normalisation, mask of ones."""
    g = GraphWriter("bert", dtype)
    sizes = (batch, tokens, width, heads)
    ids = g.input("input_ids", batch, tokens, dtype="int64")
    words = g.op("Gather", g.weight(vocabulary, width, scale=0.5), ids, axis=0)
    x = g.op("Add", words, g.weight(1, tokens, width, scale=0.5))
    x = g.norm(x, width)
    for _ in range(layers):
        x = g.norm(g.op("Add", x, self_attention(g, x, sizes)), width)
        x = g.norm(g.op("Add", x, feed_forward(g, x, width)), width)
    g.op("Identity", x, to="y")
    g.output("y", batch, tokens, width)
    return g.model()


def self_attention(g: GraphWriter, x: str, sizes: tuple[int, int, int, int]) -> str:
    """Three projections, scores, softmax, values, output projection.

    Args:
        sizes: batch, tokens, width, heads.
    """
    batch, tokens, width, heads = sizes
    size = width // heads
    shape = g.whole(batch, tokens, heads, size)
    q, k, v = (
        g.op("Transpose", g.op("Reshape", g.linear(x, width, width), shape), perm=order)
        for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
    )
    scale = g.constant(np.asarray(size**-0.5, g.dtype))
    scores = g.op("Mul", g.op("MatMul", q, k), scale)
    seen = g.op("MatMul", g.op("Softmax", scores, axis=-1), v)
    merged = g.op("Transpose", seen, perm=[0, 2, 1, 3])
    return g.linear(g.op("Reshape", merged, g.whole(batch, tokens, width)), width, width)


def feed_forward(g: GraphWriter, x: str, width: int) -> str:
    """Two products around a Gelu."""
    return g.linear(g.op("Gelu", g.linear(x, width, 4 * width)), 4 * width, width)


def vit(
    dtype: str,
    *,
    image: int = 224,
    patch: int = 32,
    width: int = 384,
    layers: int = 12,
    batch: int = 1,
) -> onnx.ModelProto:
    """Vision transformer (Dosovitskiy et al., ICLR 2021), pre-normalisation; S/32: 6 heads."""
    g = GraphWriter("vit", dtype)
    patches = (image // patch) ** 2
    x = g.input("image", batch, 3, image, image)
    weight, bias = g.weight(width, 3, patch, patch), g.weight(width, scale=0.1)
    x = g.op("Conv", x, weight, bias, strides=[patch, patch])
    x = g.op("Transpose", g.op("Reshape", x, g.whole(batch, width, patches)), perm=[0, 2, 1])
    first = g.weight(1, 1, width, scale=1)
    first = g.op("Expand", first, g.whole(batch, 1, width)) if batch > 1 else first
    x = g.op("Concat", first, x, axis=1)
    tokens = patches + 1
    sizes = (batch, tokens, width, width // 64)
    x = g.op("Add", x, g.weight(1, tokens, width, scale=1))
    for _ in range(layers):
        x = g.op("Add", x, self_attention(g, g.norm(x, width), sizes))
        x = g.op("Add", x, feed_forward(g, g.norm(x, width), width))
    head = g.op("Slice", g.norm(x, width), g.whole(0), g.whole(1), g.whole(1))
    logits = g.linear(g.op("Reshape", head, g.whole(batch, width)), width, 1000)
    g.op("Identity", logits, to="y")
    g.output("y", batch, 1000)
    return g.model()
