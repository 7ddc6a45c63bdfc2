"""Networks that make images step by step: Stable Diffusion's U-Nets and their decoder.

A picture is `steps` passes of the U-Net, each over two samples (with and without the prompt: Ho and
Salimans 2022), then one of the decoder that turns what they leave, an eighth as wide, into pixels.
What reads the prompt is one pass over 77 positions and left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchmarks.tables.canvas import Canvas
from benchmarks.tables.passes import WIDE, Pass
from planner.cost.work import ACTIVATION_BYTES, Attention, Flow, Product, Traffic

_PROMPT = 77
"""Positions of the prompt."""
_SHRUNK = 8
"""Pixels along a side for one of what the U-Net works on."""


@dataclass(frozen=True, slots=True)
class Diffusion:
    """A U-Net (Rombach et al. 2022; Podell et al. 2023)."""

    widths: tuple[int, ...]
    """Channels of each level."""
    depths: tuple[int, ...]
    """Transformer layers behind each block of a level."""
    middle_depth: int
    prompt_width: int
    heads: int
    """Of every layer; 0: as many as are 64 wide."""
    side: int
    """Of its own pictures, in pixels."""


_V1 = Diffusion((320, 640, 1280, 1280), (1, 1, 1, 0), 1, 768, 8, 512)
_V2 = Diffusion((320, 640, 1280, 1280), (1, 1, 1, 0), 1, 1024, 0, 768)
_XL = Diffusion((320, 640, 1280), (0, 2, 10), 10, 2048, 0, 1024)
_BLOCKS = 2
"""Of each level on the way down; one more on the way up."""


def diffusion_of(name: str) -> Diffusion | None:
    """The U-Net that a name in lower case means, or None."""
    if re.search(r"(?:stable[-_ ]?diffusion|\bsd)[-_ ]?xl|\bsdxl", name):
        return None if re.search(r"refiner|turbo|lightning", name) else _XL
    found = re.search(r"(?:stable[-_ ]?diffusion|\bsd)[-_ ]?v?(\d)(?:[-_.](\d))?", name)
    if found is None:
        return None
    if (found[1], found[2]) == ("2", "1") and "base" in name:
        return Diffusion(_V2.widths, _V2.depths, 1, _V2.prompt_width, 0, 512)
    return {"1": _V1, "2": _V2}.get(found[1])


def canvas_of(side: int, batch: int, format: str, *, is_fused: bool) -> Canvas:
    """What the U-Net works on for pictures of so many pixels."""
    return Canvas(batch, side // _SHRUNK, 4, format, is_fused)


def unet_pass(model: Diffusion, canvas: Canvas) -> Pass:
    """One pass; the batch is that of samples, two a picture with guidance."""
    canvas.filter(model.widths[0], 3)
    kept = [canvas.channels]
    for level, (width, depth) in enumerate(zip(model.widths, model.depths, strict=True)):
        for _ in range(_BLOCKS):
            _block(model, canvas, width, depth)
            kept.append(width)
        if level < len(model.widths) - 1:
            canvas.filter(width, 3, 2)
            kept.append(width)
    _block(model, canvas, model.widths[-1], model.middle_depth)
    _block(model, canvas, model.widths[-1], 0)
    for level in reversed(range(len(model.widths))):
        for _ in range(_BLOCKS + 1):
            canvas.channels += kept.pop()
            _block(model, canvas, model.widths[level], model.depths[level])
        if level:
            canvas.side *= 2
            canvas.filter(canvas.channels, 3)
    canvas.normalise()
    canvas.filter(4, 3)
    return canvas.found


def pixels_pass(canvas: Canvas) -> Pass:
    """The pixels of one picture (Rombach et al. 2022: f = 8)."""
    canvas.filter(512, 3)
    _residual(canvas, 512)
    _attend(canvas, 1, canvas.side**2, canvas.channels)
    _residual(canvas, 512)
    for level, width in enumerate((512, 512, 256, 128)):
        for _ in range(_BLOCKS + 1):
            _residual(canvas, width)
        if level < 3:
            canvas.side *= 2
            canvas.filter(width, 3)
    canvas.normalise()
    canvas.filter(3, 3)
    return canvas.found


def _block(model: Diffusion, canvas: Canvas, width: int, depth: int) -> None:
    _residual(canvas, width, model.widths[0] * 4)
    if depth:
        _transformer(model, canvas, depth)


def _residual(canvas: Canvas, width: int, clock_width: int = 0) -> None:
    """Two norms and convolutions around a shortcut.

    Args:
        clock_width: of what says which step it is; 0: nothing does.
    """
    before = canvas.channels
    canvas.normalise()
    canvas.filter(width, 3)
    if clock_width:
        canvas.found.add(Product(canvas.batch, width, clock_width, format=_half(canvas)))
    canvas.normalise()
    canvas.filter(width, 3)
    if before != width:
        canvas.found.add(Product(canvas.pixels, width, before, format=canvas.format))
    canvas.add_shortcut()


def _transformer(model: Diffusion, canvas: Canvas, depth: int) -> None:
    width = canvas.channels
    heads = model.heads or width // 64
    canvas.normalise()
    _multiply(canvas, canvas.pixels, width, width, 2)
    for _ in range(depth):
        canvas.normalise()
        _attend(canvas, heads, canvas.side**2, width)
        canvas.normalise()
        _attend(canvas, heads, _PROMPT, model.prompt_width)
        canvas.normalise()
        _multiply(canvas, canvas.pixels, 8 * width, width)
        moved = 4 * canvas.size_bytes
        canvas.found.add(Traffic(2 * moved, moved, Flow.ACTIVATION, rows=canvas.pixels))
        _multiply(canvas, canvas.pixels, width, 4 * width)
    canvas.add_shortcut()


def _attend(canvas: Canvas, heads: int, keys: int, key_width: int) -> None:
    """Every pixel to so many keys, which come from vectors of a width."""
    width, batch = canvas.channels, canvas.batch
    _multiply(canvas, canvas.pixels, width, width, 2)
    _multiply(canvas, batch * keys, width, key_width, 2)
    queries, dim, half = canvas.side**2, width // heads, _half(canvas)
    if canvas.is_fused and half not in WIDE:
        core = Attention(batch, heads, heads, dim, queries, keys, is_causal=False, format=half)
        canvas.found.add(core)
        return
    lanes = batch * heads
    scores = lanes * queries * keys * ACTIVATION_BYTES[half]
    canvas.found.add(Product(queries, keys, dim, lanes, half))
    canvas.found.add(Traffic(scores, scores, Flow.SOFTMAX, rows=lanes * queries))
    canvas.found.add(Product(queries, dim, keys, lanes, half))


def _multiply(canvas: Canvas, rows: int, columns: int, inner: int, count: int = 1) -> None:
    canvas.found.add(Product(rows, columns, inner, format=canvas.format), count)


def _half(canvas: Canvas) -> str:
    return canvas.format if canvas.format in WIDE else "fp16"
