"""Encoders: BERT, and a six-billion one of the same form.

Source: Devlin et al. 2019 (BERT; 110M and 340M with the pooler). The large one takes BERT's form to
28 layers of 4096 with a vocabulary of 64,000: no published model, a size that fills half of a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto, TensorProto

from benchmarks.zoo_families.builder import Builder


@dataclass(frozen=True, slots=True)
class Encoder:
    """Sizes of one model."""

    layers: int
    width: int
    heads: int
    vocabulary: int = 30522
    positions: int = 512


SIZES = {
    "bert-base": Encoder(12, 768, 12),
    "bert-large": Encoder(24, 1024, 16),
    "encoder-6b": Encoder(28, 4096, 32, vocabulary=64000),
}


def build(name: str, dtype: str) -> ModelProto:
    """The encoder `name`: tokens, segments and mask in; hidden states and pooled state out."""
    size = SIZES[name]
    b = Builder(name, dtype)
    dims = ["batch", "sequence"]
    tokens = b.input("input_ids", dims, TensorProto.INT64)
    seen = b.input("attention_mask", dims, TensorProto.INT64)
    segments = b.input("token_type_ids", dims, TensorProto.INT64)
    mask = _mask(b, seen)
    x = _embed(b, size, tokens, segments)
    for layer in range(size.layers):
        b.enter(f"layer.{layer}")
        x = _layer(b, size, x, mask)
        b.leave()
    first = b.node("Gather", x, b.whole(0), axis=1)
    pooled = b.node("Tanh", b.linear(first, size.width, size.width, "pooler"))
    b.output(x, "last_hidden_state", [*dims, size.width])
    b.output(pooled, "pooler_output", ["batch", size.width])
    return b.build()


def _mask(b: Builder, seen: str) -> str:
    """`[B, 1, 1, S]`: 0 where a token may be looked at, far below elsewhere."""
    wide = b.node("Cast", b.node("Unsqueeze", seen, b.ints(1, 2)), to=b.dtype)
    return b.node("Mul", b.node("Sub", b.scalar(1.0), wide), b.scalar(-1e4))


def _embed(b: Builder, size: Encoder, tokens: str, segments: str) -> str:
    length = b.node("Squeeze", b.node("Shape", tokens, start=1, end=2))
    places = b.node("Range", b.whole(0), length, b.whole(1))
    words = b.node("Gather", b.weight("word", size.vocabulary, size.width), tokens)
    kinds = b.node("Gather", b.weight("segment", 2, size.width), segments)
    x = b.node("Add", words, kinds)
    x = b.node("Add", x, b.node("Gather", b.weight("place", size.positions, size.width), places))
    return b.layer_norm(x, size.width, "embedding_norm")


def _layer(b: Builder, size: Encoder, x: str, mask: str) -> str:
    """Attention and feed-forward, each followed by residual and normalisation."""
    width, head = size.width, size.width // size.heads
    query = b.heads(b.linear(x, width, width, "query"), size.heads, head)
    key = b.heads(b.linear(x, width, width, "key"), size.heads, head, is_key=True)
    value = b.heads(b.linear(x, width, width, "value"), size.heads, head)
    scores = b.node("Mul", b.node("MatMul", query, key), b.scalar(head**-0.5))
    weights = b.node("Softmax", b.node("Add", scores, mask), axis=-1)
    mixed = b.merge_heads(b.node("MatMul", weights, value), width)
    mixed = b.linear(mixed, width, width, "attention_output")
    x = b.layer_norm(b.node("Add", mixed, x), width, "attention_norm")
    hidden = b.node("Gelu", b.linear(x, width, 4 * width, "intermediate"))
    hidden = b.linear(hidden, 4 * width, width, "output")
    return b.layer_norm(b.node("Add", hidden, x), width, "output_norm")
