"""How much of its activations' scales each product hands to its weights before both are rounded.

    X·W = (X / s)·(s·W),     s_j = max|X_j|**a / max|W_j|**(1 - a)

for every channel j: a few channels of transformers are a hundred times as large as the others, and
one scale for a whole tensor leaves those no levels (SmoothQuant: Xiao et al. 2023, arXiv
2211.10438, equation 4). s is rounded to powers of two (`shifts`). Products that read one tensor
share one s, from the largest of their weights; a is the one of a few with the least error of the
rounded products on some rows and columns of what they really multiply.

Only a few runs are looked at, each once: extremes of each channel, and rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from planner.compress import rounding, shifts, surgery
from planner.compress.base import Array
from planner.compress.groups import groups_within
from planner.compress.multiply import Multiplication, multiplication
from planner.compress.probe import (
    Probe,
    quiet_settings,
    run_session,
    session_of,
    size_of,
    with_outputs,
)
from planner.compress.samples import Samples
from planner.graph import weights
from planner.ir.graph import Graph
from planner.spec.session import SessionSettings

_LEAST_RATIO = 2.0**-8
"""Channels whose largest value is smaller than this share of the tensor's count as if it were that:
they vanish in the rounding of the tensor as it is, and may be larger on other inputs."""


@dataclass(frozen=True, slots=True)
class SmoothingSettings:
    """What shifts depend on besides model and samples."""

    exponents: tuple[float, ...] = (0.35, 0.5, 0.65, 0.8)
    """Candidates for a; 0.5 is the paper's, and 0.65 left MiniLM the least error."""
    runs: int = 8
    """Runs looked at, spread evenly over the samples."""
    rows: int = 96
    """Rows of each tensor that products are tried on."""
    columns: int = 128
    """Columns of the matrices that they are tried with."""
    least_error: float = 3e-4
    """NMSE of a product below which little is to be won: 8 bits do 1.5e-4 to normal values."""
    least_gain: float = 1.5
    """Products whose error falls by less are left alone: dividing takes 5 % of a product's time."""
    memory_size_bytes: int = 256 << 20
    """Activations held at once."""


@dataclass(slots=True)
class _Seen:
    """What the runs showed of one tensor; a row of each array a run."""

    lows: list[Array] = field(default_factory=list)
    highs: list[Array] = field(default_factory=list)
    rows: list[Array] = field(default_factory=list)

    def add(self, value: Array, rows: int) -> None:
        matrix = value.reshape(-1, value.shape[-1])
        chosen = np.linspace(0, len(matrix) - 1, min(rows, len(matrix))).round().astype(int)
        self.lows.append(matrix.min(axis=0))
        self.highs.append(matrix.max(axis=0))
        self.rows.append(matrix[chosen])

    @property
    def peaks(self) -> Array:
        """Largest absolute value of each channel."""
        lows, highs = np.min(self.lows, axis=0), np.max(self.highs, axis=0)
        return np.asarray(np.maximum(-lows, highs))


def smoothing(
    model_path: Path,
    graph: Graph,
    ops: Collection[str],
    samples: Sequence[Samples],
    session: SessionSettings,
    settings: SmoothingSettings = SmoothingSettings(),
) -> dict[str, str]:
    """Product -> the shifts of its channels (`shifts.spelt`), where dividing by them pays.

    Args:
        ops: products with constant matrices; others are left out of the answer.
    """
    onnx_model = onnx.load(model_path, load_external_data=False)
    readers = _products(onnx_model, ops)
    matrices = _Matrices(onnx_model, model_path.parent)
    multiply = multiplication()
    seen = _seen(model_path, graph, readers, samples, session, settings)
    found: dict[str, str] = {}
    for tensor, products in readers.items():
        if tensor in seen:
            own = [matrices.of(name) for name in products]
            best = _best(seen[tensor], own, multiply, settings)
            found.update(dict.fromkeys(products, best) if best else {})
    return found


class _Matrices:
    """Matrices of products, channels first."""

    def __init__(self, onnx_model: ModelProto, folder: Path) -> None:
        self._folder = folder
        self._tensors = surgery.initialisers(onnx_model)
        self._nodes = {node.name: node for node in onnx_model.graph.node}

    def of(self, product: str) -> Array:
        node = self._nodes[product]
        matrix = weights.to_array(self._tensors[node.input[1]], self._folder)
        return matrix.T if surgery.attributes_of(node).get("transB", 0) else matrix


def _products(onnx_model: ModelProto, ops: Collection[str]) -> dict[str, list[str]]:
    """Tensor -> products that multiply its last axis with a constant matrix."""
    constants = surgery.initialisers(onnx_model)
    found: dict[str, list[str]] = {}
    for node in onnx_model.graph.node:
        if node.name not in ops or node.op_type not in ("MatMul", "Gemm"):
            continue
        matrix = constants.get(node.input[1])
        turned = surgery.attributes_of(node).get("transA", 0)
        if matrix is not None and len(matrix.dims) == 2 and not turned:
            found.setdefault(node.input[0], []).append(node.name)
    return {tensor: names for tensor, names in found.items() if tensor not in constants}


def _seen(
    model_path: Path,
    graph: Graph,
    tensors: Mapping[str, object],
    samples: Sequence[Samples],
    session: SessionSettings,
    settings: SmoothingSettings,
) -> dict[str, _Seen]:
    """Tensors without values, or with values that are not finite, are absent."""
    if not tensors:
        return {}
    used = [each.whole_runs().first(settings.runs) for each in samples]
    rows = -(-settings.rows // max(sum(each.runs for each in used), 1))
    found: dict[str, _Seen] = {}
    inner = [name for name in tensors if name not in graph.inputs]
    for each in used:
        for feeds in each:
            for name in set(tensors) - set(inner):
                _look(found, name, feeds[name], rows)
    if inner:
        exposed = with_outputs(model_path, inner)
        with session_of(exposed, quiet_settings(session), model_path.parent) as probe:
            for group in groups_within(inner, size_of(graph.tensors), settings.memory_size_bytes):
                _look_at(probe, group, used, rows, found)
    return {name: one for name, one in found.items() if np.isfinite(one.peaks).all()}


def _look_at(
    probe: Probe,
    names: Sequence[str],
    samples: Sequence[Samples],
    rows: int,
    found: dict[str, _Seen],
) -> None:
    for feeds in (feeds for each in samples for feeds in each):
        for name, value in run_session(probe, names, feeds).items():
            _look(found, name, value, rows)


def _look(found: dict[str, _Seen], name: str, value: Array, rows: int) -> None:
    if value.size:
        found.setdefault(name, _Seen()).add(value, rows)


def _best(
    seen: _Seen, matrices: Sequence[Array], multiply: Multiplication, settings: SmoothingSettings
) -> str | None:
    """The shifts with the least error; None where none is enough better than no shifts."""
    peaks = seen.peaks
    weight_peaks = np.max([_peaks(matrix) for matrix in matrices], axis=0)
    alive = (peaks > 0) & (weight_peaks > 0)
    if not alive.any() or not np.isfinite(weight_peaks).all():
        return None
    share = -(-settings.columns // len(matrices))
    part = np.concatenate([_columns(matrix, share) for matrix in matrices], axis=1)
    exact = multiply(np.concatenate(seen.rows), part)
    tried = [candidate(peaks, weight_peaks, a, alive) for a in settings.exponents]
    unmoved = np.zeros(len(peaks), np.int32)
    products = [multiply(*_rounded(seen, part, one)) for one in (unmoved, *tried)]
    plain, *errors = [_nmse(found, exact) for found in products]
    least = int(np.argmin(errors))
    is_much = np.isfinite(plain) and plain >= settings.least_error
    is_won = errors[least] * settings.least_gain <= plain
    return shifts.spelt(tried[least]) if is_much and is_won else None


def candidate(peaks: Array, weight_peaks: Array, a: float, alive: Array) -> Array:
    """log2 of s, rounded, about their median (one factor for all channels changes nothing); 0 for
    channels that are nowhere alive."""
    large = np.maximum(peaks, peaks.max() * _LEAST_RATIO)[alive].astype(np.float64)
    exact = a * np.log2(large) - (1 - a) * np.log2(weight_peaks[alive].astype(np.float64))
    found = np.zeros(len(peaks), np.int32)
    found[alive] = np.clip(np.rint(exact - np.median(exact)), -shifts.MOST, shifts.MOST)
    return found


def _peaks(matrix: Array) -> Array:
    """Largest absolute value of each row; no copy is made, for matrices may be large."""
    return np.asarray(np.maximum(matrix.max(axis=1), -matrix.min(axis=1)))


def _columns(matrix: Array, count: int) -> Array:
    chosen = np.linspace(0, matrix.shape[1] - 1, min(count, matrix.shape[1])).round().astype(int)
    return np.asarray(matrix[:, np.unique(chosen)], np.float32)


def _rounded(seen: _Seen, matrix: Array, shift: Array) -> tuple[Array, Array]:
    """Both sides moved and rounded; each run's activations over their own range."""
    runs: list[Array] = []
    for low, high, rows in zip(seen.lows, seen.highs, seen.rows, strict=True):
        least = float(shifts.divided(low, shift).min())
        most = float(shifts.divided(high, shift).max())
        runs.append(rounding.round_affine(shifts.divided(rows, shift), (least, most)))
    weight = rounding.round_symmetric(shifts.multiplied(matrix, shift), -1)
    return np.concatenate(runs), weight


def _nmse(found: Array, exact: Array) -> float:
    """NaN where a product is beyond float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        noise = float(np.square(found - exact, dtype=np.float64).sum())
        power = float(np.square(exact, dtype=np.float64).sum())
        return noise / power if power > 0 else 0.0
