"""Image classifiers: ViT, Swin and ResNet-50, 224 x 224 pixels and 1000 classes.

Sources: Dosovitskiy et al. 2021, table 1 (ViT: 86M, 307M); Liu et al. 2021 (Swin; 28.3M and 87.8M
as released); He et al. 2016 (ResNet-50; 25.6M, stride on the 3 x 3 convolution as in the released
v1.5, batch normalisation as an operator: it cannot be folded without weights).
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto

from benchmarks.zoo_families.builder import Builder

CLASSES = 1000
PIXELS = 224


@dataclass(frozen=True, slots=True)
class Vit:
    """Sizes of one ViT with patches of 16."""

    layers: int
    width: int
    heads: int


@dataclass(frozen=True, slots=True)
class Swin:
    """Sizes of one Swin: layers and heads per stage; patches of 4, windows of 7."""

    width: int
    layers: tuple[int, ...]
    heads: tuple[int, ...]


VITS = {"vit-b16": Vit(12, 768, 12), "vit-l16": Vit(24, 1024, 16)}
SWINS = {
    "swin-t": Swin(96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "swin-b": Swin(128, (2, 2, 18, 2), (4, 8, 16, 32)),
}
RESNETS = {"resnet-50": (3, 4, 6, 3)}
PATCH = 16
WINDOW = 7


def build(name: str, dtype: str) -> ModelProto:
    """The classifier `name`: pixels in, logits out."""
    b = Builder(name, dtype)
    pixels = b.input("pixels", ["batch", 3, PIXELS, PIXELS])
    if name in VITS:
        logits = _vit(b, VITS[name], pixels)
    elif name in SWINS:
        logits = _swin(b, SWINS[name], pixels)
    else:
        logits = _resnet(b, RESNETS[name], pixels)
    b.output(logits, "logits", ["batch", CLASSES])
    return b.build()


def _patches(b: Builder, pixels: str, width: int, patch: int) -> str:
    """`[B, 3, H, W] -> [B, H / patch * W / patch, width]`."""
    kernel = b.weight("patch.weight", width, 3, patch, patch)
    bias = b.weight("patch.bias", width)
    grid = b.node("Conv", pixels, kernel, bias, strides=[patch, patch])
    return b.node("Transpose", b.reshape(grid, 0, width, -1), perm=[0, 2, 1])


def _vit(b: Builder, size: Vit, pixels: str) -> str:
    x = _patches(b, pixels, size.width, PATCH)
    first = b.weight("class_token", 1, 1, size.width)
    batch = b.node("Shape", pixels, start=0, end=1)
    shape = b.node("Concat", batch, b.ints(1, size.width), axis=0)
    x = b.node("Concat", b.node("Expand", first, shape), x, axis=1)
    x = b.node("Add", x, b.weight("place", 1, (PIXELS // PATCH) ** 2 + 1, size.width))
    for layer in range(size.layers):
        b.enter(f"layer.{layer}")
        normed = b.layer_norm(x, size.width, "norm_1")
        x = b.node("Add", x, _attention(b, normed, size.width, size.heads))
        x = b.node("Add", x, _mlp(b, b.layer_norm(x, size.width, "norm_2"), size.width))
        b.leave()
    x = b.layer_norm(x, size.width, "norm")
    return b.linear(b.node("Gather", x, b.whole(0), axis=1), size.width, CLASSES, "head")


def _mlp(b: Builder, x: str, width: int) -> str:
    hidden = b.node("Gelu", b.linear(x, width, 4 * width, "fc1"))
    return b.linear(hidden, 4 * width, width, "fc2")


def _attention(b: Builder, x: str, width: int, heads: int, bias: tuple[str, ...] = ()) -> str:
    """Attention among the tokens of each row of the batch; `bias` is added to the scores."""
    head = width // heads
    query, value = (b.heads(b.linear(x, width, width, n), heads, head) for n in ("q", "v"))
    key = b.heads(b.linear(x, width, width, "k"), heads, head, is_key=True)
    scores = b.node("MatMul", b.node("Mul", query, b.scalar(head**-0.5)), key)
    for part in bias:
        scores = b.node("Add", scores, part)
    mixed = b.node("MatMul", b.node("Softmax", scores, axis=-1), value)
    return b.linear(b.merge_heads(mixed, width), width, width, "proj")


def _swin(b: Builder, size: Swin, pixels: str) -> str:
    side, width = PIXELS // 4, size.width
    x = b.layer_norm(_patches(b, pixels, width, 4), width, "patch_norm")
    for stage, (layers, heads) in enumerate(zip(size.layers, size.heads, strict=True)):
        b.enter(f"stage.{stage}")
        if stage:
            x = _merge_patches(b, x, side, width)
            side, width = side // 2, 2 * width
        for layer in range(layers):
            b.enter(f"{layer}")
            shift = WINDOW // 2 if layer % 2 and side > WINDOW else 0
            x = _swin_layer(b, x, (side, width, heads), shift)
            b.leave()
        b.leave()
    x = b.node("ReduceMean", b.layer_norm(x, width, "norm"), b.ints(1), keepdims=0)
    return b.linear(x, width, CLASSES, "head")


def _merge_patches(b: Builder, x: str, side: int, width: int) -> str:
    """Four neighbours become one token of twice the width."""
    half = side // 2
    x = b.reshape(x, -1, half, 2, half, 2, width)
    x = b.reshape(b.node("Transpose", x, perm=[0, 1, 3, 4, 2, 5]), -1, half * half, 4 * width)
    return b.linear(b.layer_norm(x, 4 * width, "merge"), 4 * width, 2 * width, "merge", bias=False)


def _swin_layer(b: Builder, x: str, sizes: tuple[int, int, int], shift: int) -> str:
    """Attention within windows, every second time shifted by half a window."""
    side, width, heads = sizes
    grid = b.reshape(b.layer_norm(x, width, "norm_1"), -1, side, side, width)
    grid = _rolled(b, grid, shift)
    count = side // WINDOW
    split = b.reshape(grid, -1, count, WINDOW, count, WINDOW, width)
    split = b.node("Transpose", split, perm=[0, 1, 3, 2, 4, 5])
    windows = b.reshape(split, -1, WINDOW * WINDOW, width)
    windows = _attention(b, windows, width, heads, (_window_bias(b, heads),))
    joined = b.reshape(windows, -1, count, count, WINDOW, WINDOW, width)
    joined = b.node("Transpose", joined, perm=[0, 1, 3, 2, 4, 5])
    grid = _rolled(b, b.reshape(joined, -1, side, side, width), -shift)
    x = b.node("Add", x, b.reshape(grid, -1, side * side, width))
    return b.node("Add", x, _mlp(b, b.layer_norm(x, width, "norm_2"), width))


def _rolled(b: Builder, grid: str, shift: int) -> str:
    """Both sides of the grid turned by `shift`, as torch.roll(-shift) does."""
    for axis in (1, 2) if shift else ():
        far = b.ints(2**31 - 1)
        head = b.node("Slice", grid, b.ints(0), b.ints(shift), b.ints(axis))
        tail = b.node("Slice", grid, b.ints(shift), far, b.ints(axis))
        grid = b.node("Concat", tail, head, axis=axis)
    return grid


def _window_bias(b: Builder, heads: int) -> str:
    """`[1, heads, 49, 49]` from a learnt table of (2 * 7 - 1)^2 distances; the mask of shifted
    windows has the same cost as this addition and is left out."""
    table = b.weight("relative_bias", (2 * WINDOW - 1) ** 2, heads)
    spots = [(row, column) for row in range(WINDOW) for column in range(WINDOW)]
    offset, stride = WINDOW - 1, 2 * WINDOW - 1
    index = [
        (here[0] - there[0] + offset) * stride + here[1] - there[1] + offset
        for here in spots
        for there in spots
    ]
    picked = b.reshape(b.node("Gather", table, b.table("window_index", index)), 49, 49, heads)
    return b.node("Unsqueeze", b.node("Transpose", picked, perm=[2, 0, 1]), b.ints(0))


def _conv(
    b: Builder, x: str, channels: tuple[int, int], kernel: int, stride: int, name: str
) -> str:
    """Convolution without bias, then batch normalisation."""
    n_in, n_out = channels
    pad = kernel // 2
    weight = b.weight(f"{name}.weight", n_out, n_in, kernel, kernel)
    x = b.node("Conv", x, weight, strides=[stride, stride], pads=[pad] * 4)
    scale, shift = b.weight(f"{name}.scale", n_out), b.weight(f"{name}.shift", n_out)
    mean, variance = (b.buffer(f"{name}.{part}", n_out) for part in ("mean", "variance"))
    return b.node("BatchNormalization", x, scale, shift, mean, variance)


def _resnet(b: Builder, stages: tuple[int, ...], pixels: str) -> str:
    x = b.node("Relu", _conv(b, pixels, (3, 64), 7, 2, "stem"))
    x = b.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    width = 64
    for stage, count in enumerate(stages):
        inner = 64 * 2**stage
        for block in range(count):
            b.enter(f"layer{stage + 1}.{block}")
            stride = 2 if stage and not block else 1
            x = _bottleneck(b, x, (width, inner), stride)
            width = 4 * inner
            b.leave()
    x = b.node("Flatten", b.node("GlobalAveragePool", x))
    return b.linear(x, width, CLASSES, "fc")


def _bottleneck(b: Builder, x: str, widths: tuple[int, int], stride: int) -> str:
    width, inner = widths
    beside = x if width == 4 * inner else _conv(b, x, (width, 4 * inner), 1, stride, "beside")
    y = b.node("Relu", _conv(b, x, (width, inner), 1, 1, "conv1"))
    y = b.node("Relu", _conv(b, y, (inner, inner), 3, stride, "conv2"))
    y = _conv(b, y, (inner, 4 * inner), 1, 1, "conv3")
    return b.node("Relu", b.node("Add", y, beside))
