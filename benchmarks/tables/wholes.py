"""Rows that time a whole model: what runs, how often, and what their value means."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from benchmarks.tables import metrics
from benchmarks.tables.architectures import Transformer
from benchmarks.tables.degrees import copies, spreads_requests, with_degrees
from benchmarks.tables.graphs import decoder_pass, transformer_pass
from benchmarks.tables.hardware import device_of, node_of
from benchmarks.tables.kin import OFFLOAD, key_of
from benchmarks.tables.offload import Placement, placement_of
from benchmarks.tables.passes import Passes, Setting
from benchmarks.tables.precision import format_of, precision_of
from benchmarks.tables.rows import Row, UnpredictableError
from benchmarks.tables.serving import (
    has_clients,
    prompts_between,
    refuse_clients,
    refuse_untold,
    running,
)
from benchmarks.tables.shapes import image_tokens, transformer_of
from benchmarks.tables.software import UNFUSED, calls_kernels, joins_activations, runtime_of
from benchmarks.tables.vision import vision_passes
from planner.spec.node import NodeProfile
from planner.spec.profile import DeviceProfile

_DEFAULT_CONTEXT = 128
"""Positions in the cache where a decode row states none."""
_DECODE = re.compile(
    r"decode|tpot|(?<![a-z])itl(?![a-z])|per_(?:output_)?token|/token|inter_?token|generation_step"
)
_PREFILL = re.compile(r"prefill|ttft|prompt|context_phase|(?:first|1st)_?token")


@dataclass(frozen=True, slots=True)
class Whole:
    """One row that runs a whole model."""

    row: Row
    device: DeviceProfile
    node: NodeProfile | None
    runtime: str
    format: str
    model: Transformer | None
    passes: Passes
    scale: float
    """Value of the row = scale * latency in us, or scale / latency for a rate."""
    is_rate: bool
    placement: Placement | None

    @property
    def key(self) -> str:
        """Of the curve that its software is learnt into."""
        kind = self.model.kind if self.model else "images"
        return key_of(self.runtime, kind, OFFLOAD if self.placement else self.format)

    def latency_us(self, value: float) -> float:
        """The latency behind a value, or the value of a latency: the map is its own inverse."""
        return self.scale / value if self.is_rate else value / self.scale

    def value(self, latency_us: float) -> float:
        """The value of a latency."""
        return self.scale / latency_us if self.is_rate else latency_us * self.scale


def whole_of(row: Row) -> Whole:
    """What a row runs.

    Raises:
        UnpredictableError: its model, device, format or metric is unknown.
    """
    device = device_of(row.gpu)
    row = replace(row, precision=precision_of(row.precision, row.model))
    runtime, format = runtime_of(row), format_of(row.precision, row.sparsity)
    placement = placement_of(row, runtime)
    if placement is not None and placement.packs_weights:
        format = "fp16"
    refuse_untold(row, runtime)
    batch = _batch(row)
    is_fused = runtime not in UNFUSED
    model, passes = None, vision_passes(row, batch, format, is_fused=is_fused)
    if passes is None:
        model = transformer_of(row)
        if model is None:
            raise UnpredictableError(f"model {row.model!r} is unknown")
        blocks = placement.batches if placement else 1
        row = with_degrees(row, model)
        batch = running(row, model, format, batch)
        each = _transformer_passes(row, model, format, max(1, batch // blocks), runtime)
        passes = tuple((one.times(blocks), count) for one, count in each)
    refuse_clients(row, model)
    scale, is_rate = _unit(row, batch, model)
    return Whole(
        row=row,
        device=device,
        node=node_of(row, device),
        runtime=runtime,
        format=format,
        model=model,
        passes=passes,
        scale=scale,
        is_rate=is_rate,
        placement=placement,
    )


def _batch(row: Row) -> int:
    """Queries at once; of a rate that a row states without, none can be told.

    Raises:
        UnpredictableError: they are not stated, but matter.
    """
    if not row.batch and re.search(r"(?<![a-z])(?:offline|server)(?![a-z])", row.notes.lower()):
        raise UnpredictableError("no batch")
    return row.number("batch", 1)


def _transformer_passes(
    row: Row, model: Transformer, format: str, batch: int, runtime: str
) -> Passes:
    phase = _phase(row)
    default = _DEFAULT_CONTEXT if phase == "decode" else image_tokens(row)
    length = model.positions or row.number("seq_in", default)
    answer = row.number("seq_out", 0)
    if model.bands and not answer and phase == "both" and "encoder" not in row.text:
        raise UnpredictableError("no seq_out")
    padded = length if "remove padding" in row.notes else 0
    if padded:  # half of the positions are real: products run over these alone
        length = max(1, length // 2)
    is_served = phase == "prefill" and has_clients(row)
    base = Setting(
        batch=1 if is_served else batch,  # clients come one after the other, not all at once
        queries=length,
        keys=length,
        format=format,
        degree=row.number("tp", 1),
        stages=row.number("pp", 1),
        spreads_requests=spreads_requests(row),
        is_fused=runtime not in UNFUSED,
        joins_activations=joins_activations(runtime),
        calls_kernels=calls_kernels(runtime),
        is_causal=model.kind == "decoder",
        padded=padded,
    )
    if model.kind == "encoder-decoder":
        return _encoder_decoder_passes(model, base, answer, phase)
    first = transformer_pass(model, base)
    if model.kind == "encoder" or phase == "prefill" or (not answer and phase != "decode"):
        return ((first, 1.0),)
    step = transformer_pass(model, replace(base, queries=1, keys=length + max(answer, 1) // 2))
    if phase == "decode":
        between = prompts_between(row, batch, answer)
        prompt = transformer_pass(model, replace(base, batch=1))
        return ((step, 1.0), (prompt, between)) if between else ((step, 1.0),)
    return ((first, 1.0), (step, float(max(answer - 1, 0))))


def _encoder_decoder_passes(model: Transformer, base: Setting, answer: int, phase: str) -> Passes:
    first = transformer_pass(model, base)
    step = decoder_pass(model, base, seen=max(1, answer // 2))
    if phase == "prefill":
        return ((first, 1.0),)
    if phase == "decode":
        return ((step, 1.0),)
    return ((first, 1.0), (step, float(max(answer, 1))))


def _phase(row: Row) -> str:
    """`prefill`, `decode` or `both`."""
    metric = row.metric.lower()
    if _DECODE.search(metric) or metrics.is_of_one_user(metric):
        return "decode"
    return "prefill" if _PREFILL.search(metric) else "both"


def _unit(row: Row, batch: int, model: Transformer | None) -> tuple[float, bool]:
    """(scale, whether a rate) from microseconds to the row's value.

    Raises:
        UnpredictableError: the metric is neither.
    """
    metric = row.metric.lower()
    unit = metrics.latency_scale(metric)
    if unit is not None:
        return 1.0 / unit, False
    if not metrics.is_rate(metric) or metrics.arithmetic_scale(metric) is not None:
        metrics.refuse(row.metric)
    if metrics.bandwidth_kind(metric) is not None:
        metrics.refuse(row.metric)
    if metrics.is_of_one_user(metric):
        return 1e6, True
    is_told = metrics.says_what_it_counts(metric) or not row.number("seq_out", 0)
    if model is not None and model.kind != "encoder" and not is_told:
        raise UnpredictableError(f"what {row.metric!r} counts is not stated")
    counted = 1.0 if metrics.counts_batches(metric) else batch * _counted(row, model)
    return counted * 1e6 * copies(row, metric), True


def _counted(row: Row, model: Transformer | None) -> float:
    """What a throughput counts of each input: itself, or its tokens; an encoder's are those it
    reads, for it writes none.

    Raises:
        UnpredictableError: tokens that are written, of which no number is stated.
    """
    if not metrics.counts_tokens(row.metric):
        return 1.0
    read, written = row.number("seq_in", 1), row.number("seq_out", 0)
    is_encoder = model is not None and model.kind == "encoder"
    if not written and not is_encoder and _phase(row) == "both":
        raise UnpredictableError("no seq_out")
    if metrics.counts_all_tokens(row.metric):
        return float(read + written)
    if metrics.counts_read_tokens(row.metric) and written:
        return float(read)
    lengths = {"decode": 1, "prefill": read, "both": read if is_encoder else written}
    return float(max(1, lengths[_phase(row)]))
