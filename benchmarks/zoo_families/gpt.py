"""Decoders with a KV cache: GPT-2, GPT-3, Megatron-Turing, and M6 (one stack that is both halves).

One graph serves both shapes of generation: prefill reads `sequence` tokens with a past of 0, decode
reads one token with a past. GPT-3's alternating banded attention is built dense, as all public
reproductions do.

Sources: Radford et al. 2019 (GPT-2); Brown et al. 2020, table 2.1 (GPT-3; its 1.3B row says 24
heads of 128 at width 2048, which does not give the count it states: 16 do); Smith et al. 2022
(530B: 105 layers, 20480 wide, 128 heads); Lin et al. 2021 (M6-10B: 50 layers, 4096 wide; one stack
whose mask makes it encoder over the source and decoder over the target).
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto, TensorProto

from benchmarks.zoo_families.builder import Builder, Dim


@dataclass(frozen=True, slots=True)
class Decoder:
    """Sizes of one model."""

    layers: int
    width: int
    heads: int
    head_width: int
    vocabulary: int = 50257
    positions: int = 2048


SIZES = {
    "gpt2": Decoder(12, 768, 12, 64, positions=1024),
    "gpt2-medium": Decoder(24, 1024, 16, 64, positions=1024),
    "gpt2-large": Decoder(36, 1280, 20, 64, positions=1024),
    "gpt2-xl": Decoder(48, 1600, 25, 64, positions=1024),
    "gpt3-125m": Decoder(12, 768, 12, 64),
    "gpt3-350m": Decoder(24, 1024, 16, 64),
    "gpt3-760m": Decoder(24, 1536, 16, 96),
    "gpt3-1.3b": Decoder(24, 2048, 16, 128),
    "gpt3-2.7b": Decoder(32, 2560, 32, 80),
    "gpt3-6.7b": Decoder(32, 4096, 32, 128),
    "gpt3-13b": Decoder(40, 5140, 40, 128),
    "gpt3-175b": Decoder(96, 12288, 96, 128),
    "mt-nlg-530b": Decoder(105, 20480, 128, 160),
    "m6-10b": Decoder(50, 4096, 32, 128, vocabulary=21128, positions=1024),
}


def build(name: str, dtype: str) -> ModelProto:
    """The decoder `name`: tokens and past in, logits and present out."""
    size = SIZES[name]
    b = Builder(name, dtype)
    tokens = b.input("input_ids", ["batch", "sequence"], TensorProto.INT64)
    past = [_past(b, size, layer) for layer in range(size.layers)]
    table = b.weight("wte", size.vocabulary, size.width)
    first, total = _span(b, tokens, past[0][0])
    positions = b.node("Range", first, total, b.whole(1))
    placed = b.node("Gather", b.weight("wpe", size.positions, size.width), positions)
    x = b.node("Add", b.node("Gather", table, tokens), placed)
    mask = _causal_mask(b, positions, total)
    for layer in range(size.layers):
        b.enter(f"h.{layer}")
        x = _layer(b, size, x, mask, past[layer], layer)
        b.leave()
    x = b.layer_norm(x, size.width, "ln_f")
    logits = b.node("Gemm", b.reshape(x, -1, size.width), table, transB=1)
    shape = b.node("Concat", b.node("Shape", tokens), b.ints(size.vocabulary), axis=0)
    logits = b.node("Reshape", logits, shape)
    b.output(logits, "logits", ["batch", "sequence", size.vocabulary])
    return b.build()


def _past(b: Builder, size: Decoder, layer: int) -> tuple[str, str]:
    dims: list[Dim] = ["batch", size.heads, "past", size.head_width]
    return b.input(f"past_key_{layer}", dims), b.input(f"past_value_{layer}", dims)


def _span(b: Builder, tokens: str, past_key: str) -> tuple[str, str]:
    """First and one past the last position of the tokens."""
    first = b.node("Squeeze", b.node("Shape", past_key, start=2, end=3))
    count = b.node("Squeeze", b.node("Shape", tokens, start=1, end=2))
    return first, b.node("Add", first, count)


def _causal_mask(b: Builder, positions: str, total: str) -> str:
    """`[S, T]`: 0 where a token may look, far below elsewhere."""
    keys = b.node("Range", b.whole(0), total, b.whole(1))
    seen = b.node("LessOrEqual", keys, b.node("Unsqueeze", positions, b.ints(1)))
    return b.node("Where", seen, b.scalar(0.0), b.scalar(-1e4))


def _layer(b: Builder, size: Decoder, x: str, mask: str, past: tuple[str, str], layer: int) -> str:
    """Pre-norm attention and feed-forward, each beside a residual."""
    x = b.node(
        "Add", x, _attention(b, size, b.layer_norm(x, size.width, "ln_1"), mask, past, layer)
    )
    hidden = b.linear(b.layer_norm(x, size.width, "ln_2"), size.width, 4 * size.width, "c_fc")
    hidden = b.node("Gelu", hidden, approximate="tanh")
    return b.node("Add", x, b.linear(hidden, 4 * size.width, size.width, "c_proj"))


def _attention(
    b: Builder, size: Decoder, x: str, mask: str, past: tuple[str, str], layer: int
) -> str:
    inner = size.heads * size.head_width
    query, key, value = (
        b.heads(b.linear(x, size.width, inner, f"attn.{part}"), size.heads, size.head_width)
        for part in ("q", "k", "v")
    )
    key = b.node("Concat", past[0], key, axis=2)
    value = b.node("Concat", past[1], value, axis=2)
    dims: list[Dim] = ["batch", size.heads, "total", size.head_width]
    b.output(key, f"present_key_{layer}", dims)
    b.output(value, f"present_value_{layer}", dims)
    scores = b.node("MatMul", query, b.node("Transpose", key, perm=[0, 1, 3, 2]))
    scores = b.node("Mul", scores, b.scalar(size.head_width**-0.5))
    weights = b.node("Softmax", b.node("Add", scores, mask), axis=-1)
    mixed = b.merge_heads(b.node("MatMul", weights, value), inner)
    return b.linear(mixed, inner, size.width, "attn.c_proj")
