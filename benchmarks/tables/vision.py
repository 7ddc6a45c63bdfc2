"""Rows that run a network over images, or one that makes them."""

from __future__ import annotations

import re
from functools import partial

from benchmarks.tables import metrics
from benchmarks.tables.canvas import Canvas
from benchmarks.tables.diffusion import (
    Diffusion,
    canvas_of,
    diffusion_of,
    pixels_pass,
    unet_pass,
)
from benchmarks.tables.images import residual_pass, window_pass
from benchmarks.tables.networks import network_of
from benchmarks.tables.passes import Passes, Setting
from benchmarks.tables.rows import Row, UnpredictableError
from benchmarks.tables.shapes import residual_of, resolution_of, windows_of

_IMAGE = 224
"""Side of an image, where a row states none."""
_STEPS = re.compile(r"\bsteps\s*[=:]\s*(\d+)|(\d+)[- ]?(?:\w+ )?steps(?!\s*[=:])")
"""How many a picture takes."""


def vision_passes(row: Row, batch: int, format: str, *, is_fused: bool) -> Passes | None:
    """What runs of a network over images; None of plain transformers, and of what is no such one.

    Raises:
        UnpredictableError: a variant that is unknown, or pictures of an unknown number of steps.
    """
    windows = windows_of(row)
    if windows is not None:
        at = Setting(batch, 0, 0, format, is_fused=is_fused, is_causal=False)
        return ((window_pass(windows, at), 1.0),)
    diffusion = diffusion_of(row.model.lower())
    if diffusion is not None:
        return _diffusion_passes(row, diffusion, batch, format, is_fused=is_fused)
    residual, network = residual_of(row), network_of(row.model.lower())
    if residual is not None:
        network = partial(residual_pass, residual), _IMAGE
    if network is None:
        return None
    run, side = network
    canvas = Canvas(batch, resolution_of(row) or side, 3, format, is_fused)
    return ((run(canvas), 1.0),)


def _diffusion_passes(
    row: Row, model: Diffusion, batch: int, format: str, *, is_fused: bool
) -> Passes:
    """A U-Net alone, one of its steps, or pictures of so many steps."""
    side = resolution_of(row) or model.side
    is_alone = re.search(r"u-?net", row.model.lower()) is not None
    samples = batch if is_alone else 2 * batch
    step = unet_pass(model, canvas_of(side, samples, format, is_fused=is_fused))
    if is_alone or metrics.counts_batches(row.metric):
        return ((step, 1.0),)
    steps = _STEPS.search(f"{row.params} {row.model} {row.notes}".lower())
    if steps is None:
        raise UnpredictableError("no number of steps")
    last = pixels_pass(canvas_of(side, batch, format, is_fused=is_fused))
    return ((step, float(steps[1] or steps[2])), (last, 1.0))
