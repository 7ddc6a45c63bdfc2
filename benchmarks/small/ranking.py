"""Ranking models and chains of products."""

from __future__ import annotations

import onnx

from benchmarks.small.graph import GraphWriter


def mmoe(
    dtype: str, *, features: int = 100, experts: int = 16, width: int = 8, batch: int = 1
) -> onnx.ModelProto:
    """Multi-gate mixture of experts (Ma et al., KDD 2018), two tasks."""
    g = GraphWriter("mmoe", dtype)
    x = g.input("x", batch, features)
    made = [g.op("Relu", g.gemm(x, features, width)) for _ in range(experts)]
    shaped = [g.op("Reshape", expert, g.whole(batch, 1, width)) for expert in made]
    stacked = g.op("Concat", *shaped, axis=1)
    for task in range(2):
        gate = g.op("Softmax", g.gemm(x, features, experts), axis=-1)
        weighted = g.op("MatMul", g.op("Reshape", gate, g.whole(batch, 1, experts)), stacked)
        flat = g.op("Reshape", weighted, g.whole(batch, width))
        hidden = g.op("Relu", g.gemm(flat, width, width))
        g.op("Sigmoid", g.gemm(hidden, width, 1), to=f"task{task}")
        g.output(f"task{task}", batch, 1)
    return g.model()


def dlrm(
    dtype: str, *, candidates: int = 64, tables: int = 26, rows: int = 2000, batch: int = 1
) -> onnx.ModelProto:
    """Naumov et al., 2019: embeddings, a bottom network, pairwise products, a top network.

    A request ranks `candidates` items; `batch` is the number of requests.
    """
    g = GraphWriter("dlrm", dtype)
    width, items = 16, batch * candidates
    dense = g.input("dense", items, 13)
    sparse = g.input("sparse", items, tables, dtype="int64")
    for inputs, outputs in ((13, 512), (512, 256), (256, width)):
        dense = g.op("Relu", g.gemm(dense, inputs, outputs))
    parts = [g.op("Reshape", dense, g.whole(items, 1, width))]
    for table in range(tables):
        column = g.op("Slice", sparse, g.whole(table), g.whole(table + 1), g.whole(1))
        parts.append(g.op("Gather", g.weight(rows, width, scale=0.5), column, axis=0))
    joined = g.op("Concat", *parts, axis=1)
    pairs = g.op("MatMul", joined, g.op("Transpose", joined, perm=[0, 2, 1]))
    count = tables + 1
    x = g.op("Concat", dense, g.op("Reshape", pairs, g.whole(items, count * count)), axis=1)
    for inputs, outputs in ((width + count * count, 512), (512, 256)):
        x = g.op("Relu", g.gemm(x, inputs, outputs))
    g.op("Sigmoid", g.gemm(x, 256, 1), to="y")
    g.output("y", items, 1)
    return g.model()


def nerf(
    dtype: str, *, points: int = 4096, width: int = 64, layers: int = 7, batch: int = 1
) -> onnx.ModelProto:
    """A radiance field's network: narrow layers over many points."""
    g = GraphWriter("nerf", dtype)
    points *= batch
    x = g.input("x", points, width)
    for _ in range(layers - 1):
        x = g.op("Relu", g.op("MatMul", x, g.weight(width, width)))
    g.op("MatMul", x, g.weight(width, 4), to="y")
    g.output("y", points, 4)
    return g.model()


def lora(
    dtype: str, *, rows: int = 16, width: int = 256, outputs: int = 4096, batch: int = 1
) -> onnx.ModelProto:
    """A product and its low-rank correction."""
    g = GraphWriter("lora", dtype)
    rows *= batch
    x = g.input("x", rows, width)
    low = g.op("MatMul", g.op("MatMul", x, g.weight(width, 16)), g.weight(16, outputs))
    g.op("Add", g.op("MatMul", x, g.weight(width, outputs)), low, to="y")
    g.output("y", rows, outputs)
    return g.model()


def gated_mlp(dtype: str, *, rows: int = 8, width: int = 4096, batch: int = 1) -> onnx.ModelProto:
    """silu(x W1) * (x W2)."""
    g = GraphWriter("gated_mlp", dtype)
    rows *= batch
    x = g.input("x", rows, width)
    gate = g.swish(g.op("MatMul", x, g.weight(width, width)))
    g.op("Mul", gate, g.op("MatMul", x, g.weight(width, width)), to="y")
    g.output("y", rows, width)
    return g.model()
