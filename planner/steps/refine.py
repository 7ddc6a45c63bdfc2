"""What the CPU provider gains from beyond simplification: fewer operators, and no half precision.

Each step is checked by running the model before and after; where answers would change, the step is
left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.compress.base import Array
from planner.errors import InfoptError
from planner.graph.equality import MAX_NMSE, Run, compare, run_optimised, run_with_onnxruntime
from planner.graph.model import BoundModel, LoadedModel
from planner.graph.rewrite import rewrite
from planner.graph.sandbox import Bounds, Sandbox
from planner.graph.wide import widen
from planner.runtime.fingerprint import convolution_block, read_cpu

_REWRITTEN = "rewritten.onnx"
_WIDE = "wide.onnx"
_MAX_REWRITTEN_BYTES = 2**28
"""Larger models spend their time on their weights, not on their operators."""
_MAX_ROUNDING_NMSE = 1e-4
"""What float32 may change in the answers of a model in half precision. It changes as much as half
precision itself had wrong: 2e-8 an operator (relative rounding of 2**-11, uniform), growing with
depth. More is no rounding: something overflowed, or a decision fell otherwise."""


@dataclass(frozen=True, slots=True)
class Refined:
    """The file to go on with, and what to tell about it."""

    path: Path
    notes: tuple[str, ...]


def refine(
    bound: BoundModel, path: Path, samples: Sequence[Mapping[str, Array]], loaded: LoadedModel
) -> Refined:
    """The model at `path`, made from `bound`, in the form that suits the CPU provider.

    Args:
        samples: inputs, by name, on which answers are compared.
    """
    where, bounds = str(loaded.path), Bounds().for_size(2 * loaded.size_bytes)

    def refusal(
        candidate: Path, max_nmse: float, rounded: Run | None = None
    ) -> tuple[str | None, float]:
        """Why its answers are not those of the bound model, and how far they are off."""
        found = Sandbox("comparing the refined model", where, bounds).call(
            compare, bound.path, candidate, samples, run_with_onnxruntime, max_nmse, (), rounded
        )
        changed = f"output {found.differing[0]!r} would change" if found.differing else None
        return found.failure or changed, max(found.nmse.values(), default=0.0)

    best, notes = path, []
    try:
        out = path.with_name(_REWRITTEN)
        is_small = loaded.size_bytes <= _MAX_REWRITTEN_BYTES
        rewriting = Sandbox("rewriting the model", where, bounds)
        block = convolution_block(read_cpu())
        if is_small and rewriting.call(rewrite, best, out, bound.shapes, block):
            best = best if refusal(out, MAX_NMSE, run_optimised)[0] else out
    except InfoptError:
        pass  # the simplified model does as well
    try:
        out = path.with_name(_WIDE)
        if Sandbox("widening the model", where, bounds).call(widen, best, out):
            reason, nmse = refusal(out, _MAX_ROUNDING_NMSE)
            best = best if reason else out
            notes.append(f"half precision is kept: {reason}" if reason else _widened_text(nmse))
    except InfoptError as error:
        notes.append(f"half precision is kept: {error.what}")
    return Refined(best, tuple(notes))


def _widened_text(nmse: float) -> str:
    return (
        "half precision is computed in fp32, as ONNX Runtime's CPU provider does, without casts"
        f" between operators (answers differ by NMSE {nmse:.1g})"
    )
