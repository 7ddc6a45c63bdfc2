"""Recurrent models of the suite. Recurrent operators are float32 or float16 like the rest."""

from __future__ import annotations

import onnx

from benchmarks.small.graph import GraphWriter
from benchmarks.small.vision import conv


def lstm_layer(
    g: GraphWriter,
    x: str,
    sizes: tuple[int, int, int, int],
    *,
    bidirectional: bool = False,
    state: tuple[str, str] | None = None,
) -> tuple[str, str, str]:
    """(sequence, last hidden, last cell) for (steps, batch, inputs, hidden)."""
    steps, batch, inputs, hidden = sizes
    ways = 2 if bidirectional else 1
    spread = hidden**-0.5
    weights = (
        g.weight(ways, 4 * hidden, inputs, scale=spread),
        g.weight(ways, 4 * hidden, hidden, scale=spread),
        g.weight(ways, 8 * hidden, scale=0.1),
    )
    rest = ("", *state) if state else ()
    direction = "bidirectional" if bidirectional else "forward"
    made = g.ops("LSTM", x, *weights, *rest, count=3, hidden_size=hidden, direction=direction)
    turned = g.op("Transpose", made[0], perm=[0, 2, 1, 3])
    joined = g.op("Reshape", turned, g.whole(steps, batch, ways * hidden))
    return joined, made[1], made[2]


def lstm_stack(
    dtype: str, *, layers: int = 10, steps: int = 100, width: int = 256, batch: int = 1
) -> onnx.ModelProto:
    """Layers of equal width (Rammer, OSDI 2020; Souffle, ASPLOS 2024)."""
    g = GraphWriter("lstm", dtype)
    x = g.input("x", steps, batch, width)
    for _ in range(layers):
        x, last, _ = lstm_layer(g, x, (steps, batch, width, width))
    g.op("Identity", last, to="y")
    g.output("y", 1, batch, width)
    return g.model()


def seq2seq(dtype: str, *, width: int = 128, batch: int = 1) -> onnx.ModelProto:
    """Encoder of 8 layers x 100 steps, decoder of 4 layers x 30 steps (Rammer, OSDI 2020)."""
    g = GraphWriter("seq2seq", dtype)
    x, y = g.input("source", 100, batch, width), g.input("target", 30, batch, width)
    state: tuple[str, str] | None = None
    for _ in range(8):
        x, hidden, cell = lstm_layer(g, x, (100, batch, width, width))
        state = (hidden, cell)
    for _ in range(4):
        y, _, _ = lstm_layer(g, y, (30, batch, width, width), state=state)
    flat = g.op("Reshape", y, g.whole(30 * batch, width))
    g.op("Softmax", g.gemm(flat, width, 1000), to="y", axis=-1)
    g.output("y", 30 * batch, 1000)
    return g.model()


def deepspeech2(dtype: str, *, batch: int = 1) -> onnx.ModelProto:
    """Amodei et al., ICML 2016, as in Rammer: 1 x 300 x 171, two convolutions, 7 LSTM of 256."""
    g = GraphWriter("deepspeech2", dtype)
    x = g.input("spectrum", batch, 1, 171, 300)
    for inputs, size, strides in ((1, [41, 11], [2, 2]), (32, [21, 11], [2, 1])):
        weight, bias = g.weight(32, inputs, *size), g.weight(32, scale=0.1)
        x = g.op("Relu", g.op("Conv", x, weight, bias, strides=strides))
    steps, rows = 135, 23
    x = g.op("Transpose", x, perm=[3, 0, 1, 2])
    x, width = g.op("Reshape", x, g.whole(steps, batch, 32 * rows)), 32 * rows
    for _ in range(7):
        x, _, _ = lstm_layer(g, x, (steps, batch, width, 256))
        width = 256
    flat = g.op("Reshape", x, g.whole(steps * batch, width))
    g.op("Softmax", g.gemm(flat, width, 29), to="y", axis=-1)
    g.output("y", steps * batch, 29)
    return g.model()


def crnn(dtype: str, *, batch: int = 1) -> onnx.ModelProto:
    """Shi et al., TPAMI 2017: convolutions over 32 x 320, two bidirectional LSTM."""
    g = GraphWriter("crnn", dtype)
    x, inputs = g.input("image", batch, 1, 32, 320), 1
    for width, pool in ((64, [2, 2]), (128, [2, 2]), (256, None), (256, [2, 1]), (512, [2, 1])):
        x = g.op("Relu", conv(g, x, inputs, width, 3))
        x = g.op("MaxPool", x, kernel_shape=pool, strides=pool) if pool else x
        inputs = width
    weight, bias = g.weight(512, 512, 2, 1), g.weight(512, scale=0.1)
    x = g.op("Relu", g.op("Conv", x, weight, bias))
    x = g.op("Transpose", g.op("Reshape", x, g.whole(batch, 512, 80)), perm=[2, 0, 1])
    x, _, _ = lstm_layer(g, x, (80, batch, 512, 256), bidirectional=True)
    x, _, _ = lstm_layer(g, x, (80, batch, 512, 256), bidirectional=True)
    g.op("Softmax", g.gemm(g.op("Reshape", x, g.whole(80 * batch, 512)), 512, 37), to="y", axis=-1)
    g.output("y", 80 * batch, 37)
    return g.model()


def voice_activity(dtype: str, *, batch: int = 1) -> onnx.ModelProto:
    """Shaped like a streaming detector: framed convolutions, one LSTM step with its state."""
    g = GraphWriter("voice_activity", dtype)
    x = g.op("Reshape", g.input("audio", batch, 512), g.whole(batch, 1, 512))
    frames = g.op("Conv", x, g.weight(258, 1, 256), strides=[128], pads=[64, 64])
    real, imaginary = g.ops("Split", frames, count=2, axis=1, num_outputs=2)
    power = g.op("Add", g.op("Mul", real, real), g.op("Mul", imaginary, imaginary))
    x, inputs = g.op("Sqrt", power), 129
    for width, stride in ((128, 1), (64, 2), (64, 2), (128, 1)):
        weight, bias = g.weight(width, inputs, 3), g.weight(width, scale=0.1)
        x = g.op("Relu", g.op("Conv", x, weight, bias, strides=[stride], pads=[1, 1]))
        inputs = width
    x = g.op("Transpose", x, perm=[2, 0, 1])
    state = (g.input("h", 1, batch, 128), g.input("c", 1, batch, 128))
    x, hidden, cell = lstm_layer(g, x, (1, batch, 128, 128), state=state)
    g.op("Identity", hidden, to="h_out")
    g.op("Identity", cell, to="c_out")
    score = g.gemm(g.op("Relu", g.op("Reshape", x, g.whole(batch, 128))), 128, 1)
    g.op("Sigmoid", score, to="y")
    for name, shape in (("y", (batch, 1)), ("h_out", (1, batch, 128)), ("c_out", (1, batch, 128))):
        g.output(name, *shape)
    return g.model()
