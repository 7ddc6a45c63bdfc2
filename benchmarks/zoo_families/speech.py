"""Speech: a streaming Conformer transducer and DeepSpeech 2.

Conformer L (Gulati et al. 2020, table 1: 118.8M; 17 layers of 512, 8 heads, kernel of 32, an LSTM
of 640 as predictor), streamed: each call takes a chunk of frames and caches of what came before, 32
frames of attention and the tail of each convolution. DeepSpeech 2 (Amodei et al. 2016: three
convolutions, seven bidirectional recurrent layers, 100M parameters; the paper gives the count of
its best English model and not its width, which follows: 1840).
"""

from __future__ import annotations

from onnx import ModelProto

from benchmarks.zoo_families.builder import Builder

NAMES = ("conformer-l-streaming", "deepspeech2")

LAYERS, WIDTH, HEADS, KERNEL = 17, 512, 8, 32
MELS = 80
LEFT = 32
"""Frames of the past that attention sees, after subsampling by 4."""
PREDICTOR = 640
TOKENS = 1024

RECURRENT, RECURRENT_WIDTH = 7, 1840
BINS = 161
CHARACTERS = 29


def build(name: str, dtype: str) -> ModelProto:
    """The model `name`."""
    b = Builder(name, dtype)
    if name == "deepspeech2":
        _deepspeech(b)
    else:
        _conformer(b)
    return b.build()


def _conformer(b: Builder) -> None:
    frames = b.input("frames", ["batch", 1, "time", MELS])
    x = _subsampled(b, frames)
    places = b.weight("relative_places", 2 * LEFT + 1, WIDTH)
    for layer in range(LAYERS):
        b.enter(f"layer.{layer}")
        x = _conformer_layer(b, x, places, layer)
        b.leave()
    _transducer(b, x)


def _subsampled(b: Builder, frames: str) -> str:
    """Two convolutions of stride 2: a quarter of the frames, `[B, T / 4, width]`."""
    x, n_in = frames, 1
    for index in range(2):
        kernel, bias = b.weight(f"conv{index}", WIDTH, n_in, 3, 3), b.weight(f"bias{index}", WIDTH)
        x = b.node("Conv", x, kernel, bias, strides=[2, 2], pads=[1, 1, 1, 1])
        x, n_in = b.node("Relu", x), WIDTH
    bins = MELS // 4
    x = b.node("Transpose", x, perm=[0, 2, 1, 3])
    return b.linear(b.reshape(x, 0, -1, WIDTH * bins), WIDTH * bins, WIDTH, "subsampled")


def _conformer_layer(b: Builder, x: str, places: str, layer: int) -> str:
    """Half a feed-forward, attention, convolution, half a feed-forward (figure 1)."""
    x = _half_step(b, x, "ff_1")
    x = b.node("Add", x, _cached_attention(b, b.layer_norm(x, WIDTH, "norm_a"), places, layer))
    x = b.node("Add", x, _cached_convolution(b, b.layer_norm(x, WIDTH, "norm_c"), layer))
    return b.layer_norm(_half_step(b, x, "ff_2"), WIDTH, "norm")


def _swish(b: Builder, x: str) -> str:
    return b.node("Mul", x, b.node("Sigmoid", x))


def _half_step(b: Builder, x: str, name: str) -> str:
    hidden = b.linear(b.layer_norm(x, WIDTH, f"{name}.norm"), WIDTH, 4 * WIDTH, f"{name}.up")
    made = b.linear(_swish(b, hidden), 4 * WIDTH, WIDTH, f"{name}.down")
    return b.node("Add", x, b.node("Mul", made, b.scalar(0.5)))


def _cached_attention(b: Builder, x: str, places: str, layer: int) -> str:
    """Attention of the chunk over itself and the cached frames, with relative positions."""
    head = WIDTH // HEADS
    past = b.input(f"past_frames_{layer}", ["batch", LEFT, WIDTH])
    seen = b.node("Concat", past, x, axis=1)
    kept = b.node("Slice", seen, b.ints(-LEFT), b.ints(2**31 - 1), b.ints(1))
    b.output(kept, f"present_frames_{layer}", ["batch", LEFT, WIDTH])
    query = b.reshape(b.linear(x, WIDTH, WIDTH, "q"), 0, 0, HEADS, head)
    key = b.heads(b.linear(seen, WIDTH, WIDTH, "k"), HEADS, head, is_key=True)
    value = b.heads(b.linear(seen, WIDTH, WIDTH, "v"), HEADS, head)
    content = b.node("Add", query, b.weight("content_bias", HEADS, head))
    scores = b.node("MatMul", b.node("Transpose", content, perm=[0, 2, 1, 3]), key)
    scores = b.node("Add", scores, _place_scores(b, query, seen, places))
    weights = b.node("Softmax", b.node("Mul", scores, b.scalar(head**-0.5)), axis=-1)
    mixed = b.merge_heads(b.node("MatMul", weights, value), WIDTH)
    return b.linear(mixed, WIDTH, WIDTH, "out")


def _place_scores(b: Builder, query: str, seen: str, places: str) -> str:
    """Scores by distance (Dai et al. 2019), the first of them for each frame seen."""
    head = WIDTH // HEADS
    turned = b.linear(places, WIDTH, WIDTH, "place", bias=False)
    turned = b.node("Transpose", b.reshape(turned, -1, HEADS, head), perm=[1, 2, 0])
    biased = b.node("Add", query, b.weight("place_bias", HEADS, head))
    scores = b.node("MatMul", b.node("Transpose", biased, perm=[0, 2, 1, 3]), turned)
    return b.node("Slice", scores, b.ints(0), b.node("Shape", seen, start=1, end=2), b.ints(3))


def _cached_convolution(b: Builder, x: str, layer: int) -> str:
    """Pointwise, gate, causal depthwise over chunk and cache, norm, swish, pointwise."""
    wide = b.linear(x, WIDTH, 2 * WIDTH, "pointwise_1")
    value, gate = b.nodes("Split", 2, wide, axis=-1, num_outputs=2)
    gated = b.node("Mul", value, b.node("Sigmoid", gate))
    past = b.input(f"past_conv_{layer}", ["batch", KERNEL - 1, WIDTH])
    seen = b.node("Concat", past, gated, axis=1)
    kept = b.node("Slice", seen, b.ints(1 - KERNEL), b.ints(2**31 - 1), b.ints(1))
    b.output(kept, f"present_conv_{layer}", ["batch", KERNEL - 1, WIDTH])
    kernel, bias = b.weight("depthwise", WIDTH, 1, KERNEL), b.weight("depthwise.bias", WIDTH)
    y = b.node("Conv", b.node("Transpose", seen, perm=[0, 2, 1]), kernel, bias, group=WIDTH)
    scale, shift = b.weight("batch.scale", WIDTH), b.weight("batch.shift", WIDTH)
    mean, variance = (b.buffer(f"batch.{part}", WIDTH) for part in ("mean", "variance"))
    y = _swish(b, b.node("BatchNormalization", y, scale, shift, mean, variance))
    return b.linear(b.node("Transpose", y, perm=[0, 2, 1]), WIDTH, WIDTH, "pointwise_2")


def _transducer(b: Builder, x: str) -> None:
    """One step of the predictor, joined with every frame of the chunk."""
    token = b.input("token", ["batch"], 7)
    state = [b.input(name, [1, "batch", PREDICTOR]) for name in ("hidden", "cell")]
    embedded = b.node("Gather", b.weight("embedding", TOKENS, PREDICTOR), token)
    weights = [b.weight(f"lstm.{n}", 1, 4 * PREDICTOR, PREDICTOR) for n in ("w", "r")]
    bias = b.weight("lstm.bias", 1, 8 * PREDICTOR)
    step = b.node("Unsqueeze", embedded, b.ints(0))
    _, hidden, cell = b.nodes("LSTM", 3, step, *weights, bias, "", *state, hidden_size=PREDICTOR)
    for made, name in ((hidden, "hidden_out"), (cell, "cell_out")):
        b.output(made, name, [1, "batch", PREDICTOR])
    spoken = b.linear(b.node("Transpose", hidden, perm=[1, 0, 2]), PREDICTOR, PREDICTOR, "spoken")
    joint = b.node("Tanh", b.node("Add", b.linear(x, WIDTH, PREDICTOR, "heard"), spoken))
    b.output(b.linear(joint, PREDICTOR, TOKENS, "joint"), "logits", ["batch", "frames", TOKENS])


def _deepspeech(b: Builder) -> None:
    """Spectrogram in, characters out."""
    x = b.input("spectrogram", ["batch", 1, BINS, "time"])
    n_in, bins = 1, BINS
    for index, (n_out, high, stride) in enumerate(((32, 41, 2), (32, 21, 1), (96, 21, 1))):
        kernel = b.weight(f"conv{index}", n_out, n_in, high, 11)
        pads, strides = [high // 2, 5, high // 2, 5], [2, stride]
        x = b.node("Conv", x, kernel, b.weight(f"bias{index}", n_out), strides=strides, pads=pads)
        x = b.node("Clip", x, b.scalar(0.0), b.scalar(20.0))
        n_in, bins = n_out, -(-bins // 2)
    x = b.reshape(b.node("Transpose", x, perm=[3, 0, 1, 2]), 0, 0, n_in * bins)
    width = n_in * bins
    for layer in range(RECURRENT):
        b.enter(f"rnn.{layer}")
        x = _both_ways(b, x, width)
        width = RECURRENT_WIDTH
        b.leave()
    x = b.node("Clip", b.linear(x, width, width, "fc"), b.scalar(0.0), b.scalar(20.0))
    logits = b.node("LogSoftmax", b.linear(x, width, CHARACTERS, "out"), axis=-1)
    b.output(logits, "logits", ["frames", "batch", CHARACTERS])


def _both_ways(b: Builder, x: str, width: int) -> str:
    """A bidirectional layer; the directions are added."""
    weights = [
        b.weight(n, 2, RECURRENT_WIDTH, w) for n, w in (("w", width), ("r", RECURRENT_WIDTH))
    ]
    bias = b.weight("bias", 2, 2 * RECURRENT_WIDTH)
    made = b.node(
        "RNN",
        *(x, *weights, bias),
        direction="bidirectional",
        hidden_size=RECURRENT_WIDTH,
        activations=["Relu", "Relu"],
    )
    return b.node("ReduceSum", made, b.ints(1), keepdims=0)
