"""Formats that weights may take where no weights are there to look at: a-priori error and support.

Errors are of one layer, relative to the energy of its output, for weights drawn from a normal
distribution: what rounding does by itself. They are no measurement of a model, and plans say so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from planner.cost.predictor import Predictor
from planner.cost.work import WEIGHT_BYTES
from planner.spec.formats import Format


@dataclass(frozen=True, slots=True)
class Prior:
    """What is assumed of a format before anything is measured."""

    error: float
    """Energy of the error of one product / energy of its result."""
    why: str


PRIORS: dict[str, Prior] = {
    "fp32": Prior(0.0, "the model's own"),
    "tf32": Prior(5e-8, "10 bits of mantissa: 2^-22 / 3 of the energy, both operands"),
    "fp16": Prior(5e-8, "10 bits of mantissa: 2^-22 / 3 of the energy, both operands"),
    "bf16": Prior(4e-6, "7 bits of mantissa: 2^-16 / 3 of the energy, both operands"),
    "fp8": Prior(1.4e-3, "E4M3, 3 bits of mantissa: 7e-4 of the energy, both operands"),
    "int8": Prior(6e-4, "127 steps to the largest of 4096 values, both; activations with outliers"),
    "int8_wo": Prior(4e-5, "127 steps to the largest of 128 values"),
    "int4_wo": Prior(1.0e-2, "7 steps to the largest of 128 values"),
    "2:4": Prior(9e-2, "the two smallest of four go, nothing is retrained"),
}
"""Format -> prior. `tests/place/test_formats.py` draws them from a normal distribution."""
BASES = ("fp16", "bf16", "fp32")
"""Formats that everything may be computed in, best first."""
_OF_PRODUCTS_ONLY = ("int8_wo", "int4_wo", "2:4")
"""Formats for which libraries have matrix products, and no convolutions or recurrences."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Formats that a plan may use, and those that it may not, with the reason."""

    base: str
    """What everything without a format of its own is computed in."""
    formats: tuple[str, ...]
    """For weights; the base first."""
    excluded: dict[str, str]


def offer(
    predictor: Predictor, allowed: tuple[Format, ...] | None, most_error: float = math.inf
) -> Offer:
    """What the device runs, of what the request allows (everything when it names nothing).

    Args:
        most_error: of a product where everything is in the base; a base that errs by more is left
            out where another is allowed.
    """
    names = [str(form) for form in allowed] if allowed is not None else list(PRIORS)
    excluded: dict[str, str] = {}
    for name in names:
        reason = predictor.why_not(name) if name in WEIGHT_BYTES else _unknown(name)
        if reason is not None:
            excluded[name] = reason
    bases = [n for n in BASES if n in names and n not in excluded] or ["fp32"]
    fine = [name for name in bases if PRIORS[name].error <= most_error] or bases
    coarse = bases[: bases.index(fine[0])]
    excluded |= dict.fromkeys(coarse, "everything in it errs by more than the error budget")
    usable = [n for n in names if n in PRIORS and n not in excluded and n not in (*BASES, "tf32")]
    return Offer(fine[0], (fine[0], *usable), excluded)


def whole_error(base: str, error: float) -> float:
    """Error of a plan that sums up to `error` over its weights: all else is rounded to the base."""
    return max(error, PRIORS[base].error)


def _unknown(name: str) -> str:
    return f"{name} is a format of the CPU path; the GPU path has {', '.join(PRIORS)}"


def suits(form: str, op_type: str) -> bool:
    """Whether libraries have a kernel of an operator in a format."""
    return form not in _OF_PRODUCTS_ONLY or op_type in ("MatMul", "Gemm", "FusedMatMul")


def stored_bytes(form: str, elements: float) -> float:
    """Bytes of weights in a format."""
    return elements * WEIGHT_BYTES.get(form, 4.0)
