"""Memory of a model in use: weights, cache, activations, and what the software keeps for itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.tables import metrics
from benchmarks.tables.architectures import Transformer
from benchmarks.tables.degrees import spreads_requests, with_degrees
from benchmarks.tables.hardware import device_of
from benchmarks.tables.precision import format_of, precision_of
from benchmarks.tables.rows import Row, UnpredictableError
from benchmarks.tables.shapes import transformer_of
from planner.cost.work import ACTIVATION_BYTES, WEIGHT_BYTES

Array = npt.NDArray[np.float64]

GB = 1e9


def parts_of(row: Row) -> list[float]:
    """Weights, cache and activations of one device in 10^9 bytes.

    Raises:
        UnpredictableError: the model or format is unknown.
    """
    model = transformer_of(row)
    if model is None:
        raise UnpredictableError(f"memory of {row.model!r} is not modelled")
    format = format_of(precision_of(row.precision, row.model), row.sparsity)
    return parts(model, with_degrees(row, model), format)


def parts(model: Transformer, row: Row, format: str) -> list[float]:
    """The same for a known model."""
    degree, stages = row.number("tp", 1), row.number("pp", 1)
    held = degree if spreads_requests(row) else model.cache_shares(degree)
    batch, length = row.number("batch", 1), row.number("seq_in", 128)
    positions = length + row.number("seq_out", 0)
    wide = ACTIVATION_BYTES[format] if format not in ("int8", "fp8") else 2.0
    outer = model.vocab * model.hidden * wide
    weights = model.layer_weights * WEIGHT_BYTES[format] + outer
    keeping = {"encoder": 0, "decoder": model.layers}.get(model.kind, 2 * model.decoder_layers)
    cache = keeping * model.cached * batch * positions * wide
    inner = 6 * model.hidden + (2 if model.is_gated else 1) * model.ffn
    active = batch * length * inner * wide
    shares = ((weights, degree), (cache, held), (active, degree))
    return [size / GB / (over * stages) for size, over in shares]


def is_memory(row: Row) -> bool:
    """Whether a row weighs a model instead of timing it."""
    return re.search(r"memory|\bmem_|_mem_|peak_mem|footprint", row.metric.lower()) is not None


def is_out_of_memory(row: Row) -> bool:
    """Whether the row says that the model did not fit."""
    return re.search(r"\boom\b|out.of.memory", f"{row.value} {row.notes}".lower()) is not None


def measured_gb(row: Row) -> float:
    """10^9 bytes that a row weighed."""
    return row.measured * metrics.size_scale(row.metric)


def capacity_gb(row: Row) -> float:
    """Of the row's device, as its driver reports it where that is known."""
    device = device_of(row.gpu)
    return (device.reported_memory or device.memory_size).value / GB


def features(rows: Sequence[Row]) -> Array:
    """[rows, 3]."""
    return np.array([parts_of(row) for row in rows]).reshape(-1, 3)
