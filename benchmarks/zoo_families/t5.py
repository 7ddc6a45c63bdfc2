"""Encoder-decoders of T5's form, dense or with experts (Switch Transformer).

One graph serves both shapes of generation. Prefill: `source` tokens, one `target` token, both pasts
0 long. Decode: 0 source tokens, one target token, the decoder's own past and the cross-attention's
keys and values of the source as past. On no tokens the encoder computes nothing.

Experts are real operators, and every expert's weights stand on the leading axis of one tensor:

    router     MatMul [T, H] x [H, E], Softmax, TopK 1
    position   of a token among those of its expert: CumSum over a one-hot [T, E]
    dispatch   ScatterND into [E * C, H]; C is the capacity; what does not fit is passed by
    experts    MatMul [E, C, H] x [E, H, F], Relu, MatMul [E, C, F] x [E, F, H]
    combine    Gather by slot, times the router's probability

Sharding by expert splits axis 0 of both products and of their weights. The capacity is computed in
the graph from the number of tokens, at least one slot an expert, so that decoding a few tokens runs
every expert once: as the published implementation does.

Sources: Raffel et al. 2020 (sizes; the counts are those of the released checkpoints, with one
embedding for input and output); Fedus et al. 2022, table 9 (Switch-C, Switch-XXL) and the released
`switch-base-128`, `switch-large-128` (plain ReLU experts of 3072 and 4096, every second layer).
Table 9 lists 64 experts for Switch-XXL; its 395B parameters are those of the released 128.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto, TensorProto

from benchmarks.zoo_families.builder import Builder, Dim

BUCKETS = 32
"""Of relative positions (Raffel et al. 2020, section 2.1)."""
FAR = 128
"""Distance from which on all positions share the last bucket."""
CAPACITY_PERCENT = 125
"""Slots of an expert over an even share (Fedus et al. 2022, section 2.2: 1.0 to 1.25)."""


@dataclass(frozen=True, slots=True)
class EncoderDecoder:
    """Sizes of one model."""

    layers: int
    """Of the encoder, and as many of the decoder."""
    width: int
    heads: int
    head_width: int
    hidden: int
    """Of the feed-forward."""
    is_gated: bool = False
    experts: int = 0
    expert_every: int = 2
    """Every so many layers the feed-forward is one of experts."""
    vocabulary: int = 32128

    @property
    def inner(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_width


SIZES = {
    "t5-small": EncoderDecoder(6, 512, 8, 64, 2048),
    "t5-base": EncoderDecoder(12, 768, 12, 64, 3072),
    "t5-large": EncoderDecoder(24, 1024, 16, 64, 4096),
    "t5-3b": EncoderDecoder(24, 1024, 32, 128, 16384),
    "t5-11b": EncoderDecoder(24, 1024, 128, 128, 65536),
    "switch-base": EncoderDecoder(12, 768, 12, 64, 3072, experts=128),
    "switch-large": EncoderDecoder(24, 1024, 16, 64, 4096, experts=128),
    "switch-xxl": EncoderDecoder(24, 4096, 64, 64, 10240, is_gated=True, experts=128),
    "switch-c": EncoderDecoder(15, 2080, 32, 64, 6144, experts=2048, expert_every=1),
}

Past = tuple[str, str]


def build(name: str, dtype: str) -> ModelProto:
    """The model `name`: source, target and pasts in; logits and presents out."""
    size = SIZES[name]
    b = Builder(name, dtype)
    source = b.input("input_ids", ["batch", "source"], TensorProto.INT64)
    target = b.input("decoder_input_ids", ["batch", "target"], TensorProto.INT64)
    own = [_past(b, size, f"self_{layer}", "past") for layer in range(size.layers)]
    cross = [_past(b, size, f"cross_{layer}", "past_source") for layer in range(size.layers)]
    table = b.weight("shared", size.vocabulary, size.width)
    state = _encode(b, size, b.node("Gather", table, source))
    x = _decode(b, size, b.node("Gather", table, target), state, (own, cross))
    flat = b.node("Mul", b.reshape(x, -1, size.width), b.scalar(size.width**-0.5))
    logits = b.node("Gemm", flat, table, transB=1)
    shape = b.node("Concat", b.node("Shape", target), b.ints(size.vocabulary), axis=0)
    b.output(b.node("Reshape", logits, shape), "logits", ["batch", "target", size.vocabulary])
    return b.build()


def _past(b: Builder, size: EncoderDecoder, name: str, length: str) -> Past:
    dims: list[Dim] = ["batch", size.heads, length, size.head_width]
    return b.input(f"past_key_{name}", dims), b.input(f"past_value_{name}", dims)


def _length(b: Builder, x: str, axis: int) -> str:
    return b.node("Squeeze", b.node("Shape", x, start=axis, end=axis + 1))


def _encode(b: Builder, size: EncoderDecoder, x: str) -> str:
    places = b.node("Range", b.whole(0), _length(b, x, 1), b.whole(1))
    b.enter("encoder")
    bias = _position_bias(b, size, places, places, is_causal=False)
    for layer in range(size.layers):
        b.enter(f"{layer}")
        normed = b.rms_norm(x, size.width, "attention_norm")
        keys = _keys(b, size, normed, "self")
        x = b.node("Add", x, _attend(b, size, normed, keys, bias))
        x = _feed_forward(b, size, x, layer)
        b.leave()
    x = b.rms_norm(x, size.width, "final_norm")
    b.leave()
    return x


def _decode(
    b: Builder, size: EncoderDecoder, x: str, state: str, pasts: tuple[list[Past], list[Past]]
) -> str:
    first = _length(b, pasts[0][0][0], 2)
    total = b.node("Add", first, _length(b, x, 1))
    queries = b.node("Range", first, total, b.whole(1))
    keys = b.node("Range", b.whole(0), total, b.whole(1))
    b.enter("decoder")
    bias = _position_bias(b, size, queries, keys, is_causal=True)
    for layer in range(size.layers):
        b.enter(f"{layer}")
        normed = b.rms_norm(x, size.width, "attention_norm")
        seen = _extended(b, size, pasts[0][layer], _keys(b, size, normed, "self"), f"self_{layer}")
        x = b.node("Add", x, _attend(b, size, normed, seen, bias))
        normed = b.rms_norm(x, size.width, "cross_norm")
        given = _keys(b, size, state, "cross")
        seen = _extended(b, size, pasts[1][layer], given, f"cross_{layer}")
        x = b.node("Add", x, _attend(b, size, normed, seen, None))
        x = _feed_forward(b, size, x, layer)
        b.leave()
    x = b.rms_norm(x, size.width, "final_norm")
    b.leave()
    return x


def _position_bias(
    b: Builder, size: EncoderDecoder, queries: str, keys: str, *, is_causal: bool
) -> str:
    """`[1, heads, S, T]`: learnt per bucket of distance; far below where a token may not look."""
    # Buckets grow with the logarithm in the original; linear ones cost the same.
    distance = b.node("Sub", keys, b.node("Unsqueeze", queries, b.ints(1)))
    near = b.node("Clip", distance, b.whole(-FAR), b.whole(FAR))
    bucket = b.node(
        "Div", b.node("Mul", b.node("Abs", near), b.whole(BUCKETS // 2 - 1)), b.whole(FAR)
    )
    if not is_causal:
        ahead = b.node("Cast", b.node("Greater", distance, b.whole(0)), to=TensorProto.INT64)
        bucket = b.node("Add", bucket, b.node("Mul", ahead, b.whole(BUCKETS // 2)))
    bias = b.node("Gather", b.weight("relative_bias", BUCKETS, size.heads), bucket)
    bias = b.node("Unsqueeze", b.node("Transpose", bias, perm=[2, 0, 1]), b.ints(0))
    if not is_causal:
        return bias
    return b.node("Where", b.node("Greater", distance, b.whole(0)), b.scalar(-1e4), bias)


def _keys(b: Builder, size: EncoderDecoder, x: str, name: str) -> Past:
    key, value = (
        b.heads(
            b.linear(x, size.width, size.inner, f"{name}.{part}", bias=False),
            size.heads,
            size.head_width,
        )
        for part in ("k", "v")
    )
    return key, value


def _extended(b: Builder, size: EncoderDecoder, past: Past, new: Past, name: str) -> Past:
    """Keys and values with those of the past before them; handed out for the next step."""
    dims: list[Dim] = ["batch", size.heads, f"total_{name}", size.head_width]
    key, value = (b.node("Concat", old, add, axis=2) for old, add in zip(past, new, strict=True))
    b.output(key, f"present_key_{name}", dims)
    b.output(value, f"present_value_{name}", dims)
    return key, value


def _attend(b: Builder, size: EncoderDecoder, x: str, seen: Past, bias: str | None) -> str:
    """Attention without scaling (T5 folds it into its initialisation)."""
    query = b.linear(x, size.width, size.inner, "q", bias=False)
    query = b.heads(query, size.heads, size.head_width)
    scores = b.node("MatMul", query, b.node("Transpose", seen[0], perm=[0, 1, 3, 2]))
    if bias is not None:
        scores = b.node("Add", scores, bias)
    mixed = b.node("MatMul", b.node("Softmax", scores, axis=-1), seen[1])
    return b.linear(b.merge_heads(mixed, size.inner), size.inner, size.width, "o", bias=False)


def _feed_forward(b: Builder, size: EncoderDecoder, x: str, layer: int) -> str:
    normed = b.rms_norm(x, size.width, "ff_norm")
    has_experts = size.experts and layer % size.expert_every == size.expert_every - 1
    return b.node("Add", x, (_experts if has_experts else _dense)(b, size, normed))


def _dense(b: Builder, size: EncoderDecoder, x: str) -> str:
    hidden = b.linear(x, size.width, size.hidden, "wi", bias=False)
    if size.is_gated:
        gate = b.node("Gelu", hidden, approximate="tanh")
        hidden = b.node("Mul", gate, b.linear(x, size.width, size.hidden, "wi_1", bias=False))
    else:
        hidden = b.node("Relu", hidden)
    return b.linear(hidden, size.hidden, size.width, "wo", bias=False)


def _experts(b: Builder, size: EncoderDecoder, x: str) -> str:
    """The feed-forward of each token's best expert."""
    tokens = b.reshape(x, -1, size.width)
    router = b.linear(tokens, size.width, size.experts, "router", bias=False)
    chance, expert = b.nodes("TopK", 2, b.node("Softmax", router, axis=-1), b.ints(1), axis=-1)
    capacity = _capacity(b, size, tokens)
    slot, fits = _slots(b, size, expert, capacity)
    rows = b.node("Mul", capacity, b.ints(size.experts))
    # One row more than there are slots takes what does not fit, and is dropped.
    sent = b.node("Where", fits, slot, rows)
    made = _run_experts(b, size, tokens, sent, (capacity, rows))
    slot = b.node("Squeeze", b.node("Where", fits, slot, b.ints(0)), b.ints(1))
    back = b.node("Gather", made, slot, axis=0)
    scaled = b.node("Mul", b.node("Mul", back, chance), b.node("Cast", fits, to=b.dtype))
    # No tokens are no dimension to copy: a zero means zero.
    return b.node("Reshape", scaled, b.node("Shape", x), allowzero=1)


def _capacity(b: Builder, size: EncoderDecoder, tokens: str) -> str:
    """Slots of one expert, `[1]`: its share of the tokens and a quarter more, rounded up."""
    count = b.node("Shape", tokens, start=0, end=1)
    wanted = b.node("Mul", count, b.ints(CAPACITY_PERCENT))
    share = b.node("Add", wanted, b.ints(100 * size.experts - 1))
    slots = b.node("Div", share, b.ints(100 * size.experts))
    return b.node("Max", slots, b.ints(1))


def _slots(b: Builder, size: EncoderDecoder, expert: str, capacity: str) -> tuple[str, str]:
    """Slot of each token `[T, 1]` among all experts' slots, and whether its expert had room."""
    flat = b.node("Squeeze", expert, b.ints(1))
    hot = b.node("OneHot", flat, b.ints(size.experts), b.ints(0, 1), axis=-1)
    before = b.node("CumSum", hot, b.whole(0), exclusive=1)
    place = b.node("ReduceSum", b.node("Mul", before, hot), b.ints(1), keepdims=1)
    return b.node("Add", b.node("Mul", expert, capacity), place), b.node("Less", place, capacity)


def _run_experts(
    b: Builder, size: EncoderDecoder, tokens: str, slot: str, extent: tuple[str, str]
) -> str:
    """`[E * C, H]`: what each expert makes of the tokens in its slots.

    Args:
        extent: slots of one expert, and of all.
    """
    capacity, rows = extent
    width = b.ints(size.width)
    space = b.node("Concat", b.node("Add", rows, b.ints(1)), width, axis=0)
    sent = b.node("ScatterND", b.node("Expand", b.scalar(0.0), space), slot, tokens)
    kept = b.node("Slice", sent, b.ints(0), rows, b.ints(0))
    by_expert = b.node("Concat", b.ints(size.experts), capacity, width, axis=0)
    x = b.node("Reshape", kept, by_expert)
    hidden = b.node("MatMul", x, b.weight("experts.wi", size.experts, size.width, size.hidden))
    if size.is_gated:
        gate = b.node("Gelu", hidden, approximate="tanh")
        second = b.weight("experts.wi_1", size.experts, size.width, size.hidden)
        hidden = b.node("Mul", gate, b.node("MatMul", x, second))
    else:
        hidden = b.node("Relu", hidden)
    made = b.node("MatMul", hidden, b.weight("experts.wo", size.experts, size.hidden, size.width))
    return b.reshape(made, -1, size.width)
