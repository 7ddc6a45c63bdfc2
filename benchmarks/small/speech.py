"""Speech models of the suite."""

from __future__ import annotations

import onnx

from benchmarks.small.graph import GraphWriter

LEFT_CONTEXT = 64
"""Earlier positions that attention sees through its caches."""


def conformer_chunk(
    dtype: str = "float32",
    *,
    layers: int = 6,
    width: int = 256,
    heads: int = 4,
    hidden: int = 1024,
    kernel: int = 15,
    frames: int = 32,
    batch: int = 1,
) -> onnx.ModelProto:
    """One chunk of a streaming Conformer encoder: attention and convolution caches in and out.

    Gulati et al., Interspeech 2020: half-step feed-forward, attention, convolution, half-step
    feed-forward, normalisation. Batch normalisation is folded into the depthwise convolution, and
    the factors 1/2 and 1/sqrt(d) into weights, as exporters do. Chunks of a batch lie behind
    each other; each has its own caches.
    """
    g = GraphWriter("conformer_chunk", dtype)
    x, sizes = g.input("x", batch * frames, width), (batch, frames, width)
    for layer in range(layers):
        x = _feed_forward(g, x, width, hidden)
        x = _attention(g, x, sizes, heads, layer)
        x = _convolution(g, x, sizes, kernel, layer)
        x = _feed_forward(g, x, width, hidden)
        last = layer == layers - 1
        scale, shift = g.weight(width, scale=0.1, shift=1.0), g.weight(width, scale=0.1)
        x = g.op("LayerNormalization", x, scale, shift, to="y" if last else None, axis=-1)
    g.output("y", batch * frames, width)
    return g.model()


def _feed_forward(g: GraphWriter, x: str, width: int, hidden: int) -> str:
    inner = g.swish(g.gemm(g.norm(x, width), width, hidden))
    return g.op("Add", x, g.gemm(inner, hidden, width))


Sizes = tuple[int, int, int]
"""Batch, frames, width."""


def _attention(g: GraphWriter, x: str, sizes: Sizes, heads: int, layer: int) -> str:
    batch, frames, width = sizes
    size = width // heads
    joined = g.gemm(g.norm(x, width), width, 3 * width)
    parts = g.ops("Split", joined, count=3, axis=1, num_outputs=3)
    shape = g.whole(batch, frames, heads, size)
    q, k, v = (g.op("Transpose", g.op("Reshape", p, shape), perm=[0, 2, 1, 3]) for p in parts)
    k = _with_cache(g, k, f"k{layer}", (batch, heads, LEFT_CONTEXT, size), axis=2)
    v = _with_cache(g, v, f"v{layer}", (batch, heads, LEFT_CONTEXT, size), axis=2)
    scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2]))
    seen = g.op("MatMul", g.op("Softmax", scores, axis=-1), v)
    turned = g.op("Transpose", seen, perm=[0, 2, 1, 3])
    merged = g.op("Reshape", turned, g.whole(batch * frames, width))
    return g.op("Add", x, g.gemm(merged, width, width))


def _with_cache(g: GraphWriter, new: str, name: str, shape: tuple[int, ...], axis: int) -> str:
    """cache ++ new; the cache for the next chunk is its end."""
    whole = g.op("Concat", g.input(f"{name}_in", *shape), new, axis=axis)
    kept = shape[axis]
    start, end, axes = g.whole(-kept), g.whole(2**31 - 1), g.whole(axis)
    g.op("Slice", whole, start, end, axes, to=f"{name}_out")
    g.output(f"{name}_out", *shape)
    return whole


def _convolution(g: GraphWriter, x: str, sizes: Sizes, kernel: int, layer: int) -> str:
    batch, frames, width = sizes
    rows = g.op("Reshape", g.norm(x, width), g.whole(batch, frames, width))
    turned = g.op("Transpose", rows, perm=[0, 2, 1])
    wide = g.op("Conv", turned, g.weight(2 * width, width, 1), g.weight(2 * width, scale=0.1))
    value, gate = g.ops("Split", wide, count=2, axis=1, num_outputs=2)
    gated = g.op("Mul", value, g.op("Sigmoid", gate))
    whole = _with_cache(g, gated, f"c{layer}", (batch, width, kernel - 1), axis=2)
    depth = g.weight(width, 1, kernel, scale=1 / kernel**0.5)
    moved = g.op("Conv", whole, depth, g.weight(width, scale=0.1), group=width)
    made = g.op("Conv", g.swish(moved), g.weight(width, width, 1), g.weight(width, scale=0.1))
    turned = g.op("Transpose", made, perm=[0, 2, 1])
    return g.op("Add", x, g.op("Reshape", turned, g.whole(batch * frames, width)))
