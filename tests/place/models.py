"""Small graphs of the zoo, written without weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto, numpy_helper

from benchmarks.zoo_families.builder import Builder, save
from planner import resources
from planner.cost.predictor import Predictor
from planner.graph.skeleton import Skeleton, read_skeleton
from planner.spec.profile import read_profile


def transformer(layers: int = 2, width: int = 64, heads: int = 4, words: int = 100) -> ModelProto:
    """Residual blocks of attention with a cache and a feed-forward, and a head."""
    b = Builder("small", "float32")
    x = b.input("x", ["batch", "sequence", width])
    for layer in range(layers):
        b.enter(f"odd name {layer}")
        past = b.input(f"past_{layer}", ["batch", heads, "past", width // heads])
        normed = b.layer_norm(x, width, "n")
        query, key, value = (
            b.heads(b.linear(normed, width, width, part), heads, width // heads)
            for part in ("a", "b", "c")
        )
        key = b.node("Concat", past, key, axis=2)
        b.output(key, f"present_{layer}", ["batch", heads, "total", width // heads])
        value = b.node("Concat", past, value, axis=2)
        scores = b.node("MatMul", query, b.node("Transpose", key, perm=[0, 1, 3, 2]))
        mixed = b.node("MatMul", b.node("Softmax", scores, axis=-1), value)
        x = b.node("Add", x, b.linear(b.merge_heads(mixed, width), width, width, "d"))
        hidden = b.node("Gelu", b.linear(b.layer_norm(x, width, "m"), width, 4 * width, "e"))
        x = b.node("Add", x, b.linear(hidden, 4 * width, width, "f"))
        b.leave()
    b.output(b.linear(x, width, words, "head"), "y", ["batch", "sequence", words])
    return b.build()


def shapes(tokens: int, past: int, width: int = 64, heads: int = 4) -> dict[str, tuple[int, ...]]:
    """Of the inputs of `transformer`."""
    return {"x": (1, tokens, width), "past_0": (1, heads, past, width // heads)}


def written(folder: Path, layers: int = 2) -> Path:
    """The model's file."""
    path = folder / "small.onnx"
    save(transformer(layers), path)
    return path


def skeleton(folder: Path, layers: int = 2) -> Skeleton:
    """Prefill of 32 tokens, and one token after them."""
    workload = {"prefill": shapes(32, 0), "decode": shapes(1, 32)}
    return read_skeleton(written(folder, layers), workload)


def filled(model: ModelProto) -> ModelProto:
    """The same model with random weights in it."""
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        if tensor.external_data:
            scale = 1 / np.sqrt(tensor.dims[0])
            values = rng.standard_normal(tuple(tensor.dims)) * scale
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
    return model


def memory(device: str, free_mib: float) -> str:
    """A limit that leaves so much of a device for what a plan decides, whatever the runtime and the
    libraries take of it by the profile."""
    path = next(p for p in resources.profiles() if p.stem == device)
    known = Predictor(read_profile(path))
    taken = known.runtime_context_bytes + known.workspace_bytes
    return f"{taken / 2**20 + free_mib:.0f}MiB"
