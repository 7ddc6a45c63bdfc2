"""Whether two models give the same answers on the same inputs. Runs in the sandbox."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.errors import InfoptError

if TYPE_CHECKING:
    from planner.spec.session import GraphLevel

Feeds = Mapping[str, Any]
Outputs = Mapping[str, Any]
Run = Callable[[Path, Feeds, int], Sequence[Outputs]]
"""Runs the model in a file so many times in one session: a random draw differs only from the one
before it. A module-level function, for it travels to another process."""

MAX_NMSE = 1e-6
_RANDOM_NMSE = 1e-9
"""More than this between two runs of one model is a random draw, not rounding."""
_EXACT_KINDS = "biuOUS"
_LUCK = 2.0
"""Two ways to round the same sums differ by chance: up to this ratio they count as alike."""
_MOST_ROUNDING = 1e-2
"""An output that rounding changes by more tells nothing about two models being the same."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two models differ."""

    nmse: Mapping[str, float]
    """Per compared output."""
    random: tuple[str, ...]
    """Outputs that are drawn, or differ between two runs of the reference itself: not compared."""
    differing: tuple[str, ...]
    """Outputs beyond the limit, of another type or shape, or integers that are not equal."""
    failure: str | None = None
    """Why the reference itself does not run; then nothing was compared."""


def run_with_onnxruntime(path: Path, feeds: Feeds, times: int) -> list[Outputs]:
    """All outputs of the model in a file, by name; one thread, nothing optimised.

    Unoptimised because ONNX Runtime would otherwise apply the very rewrites that are being checked.
    """
    from planner.spec.session import GraphLevel

    return _run(path, feeds, times, GraphLevel.DISABLED)


def run_optimised(path: Path, feeds: Feeds, times: int) -> list[Outputs]:
    """The same with all of ONNX Runtime's optimisations: what its users get."""
    from planner.spec.session import GraphLevel

    return _run(path, feeds, times, GraphLevel.ALL)


def _run(path: Path, feeds: Feeds, times: int, level: GraphLevel) -> list[Outputs]:
    from planner.runtime import ort, refusals
    from planner.spec.session import SessionSettings

    settings = SessionSettings(intra_op_threads=1, graph_level=level, extra=ort.NO_PREPACKING)
    session = ort.make_session(path, settings)
    names = [spec.name for spec in ort.tensor_specs(session)[1]]
    call = ort.bind(session, names)
    try:
        return [dict(zip(names, call(ort.feed_dict(feeds)), strict=True)) for _ in range(times)]
    except refusals.ORT_ERRORS as error:
        raise refusals.run_error(error, str(path)) from None


def compare(
    reference: Path,
    candidate: Path,
    samples: Sequence[Feeds],
    run: Run,
    max_nmse: float = MAX_NMSE,
    drawn: Sequence[str] = (),
    rounded: Run | None = None,
) -> Comparison:
    """On every sample, runs the reference twice and the candidate once; the worst of all samples.

    Args:
        max_nmse: above it an output counts as differing.
        drawn: outputs known to be random.
        rounded: runs the reference as its users do. Where that alone changes an output as much as
            the candidate does, the difference is the model's own rounding and counts as none.

    Raises:
        InfoptError: the candidate does not run.
    """
    pair = (run, run)
    found = _compared(reference, candidate, samples, pair, max_nmse, drawn)
    if rounded is None or not found.differing or found.failure is not None:
        return found
    own = _compared(reference, reference, samples, (run, rounded), max_nmse, drawn).nmse
    differing = (
        name
        for name in found.differing
        if own.get(name, 0.0) > _MOST_ROUNDING or found.nmse[name] > _LUCK * own.get(name, 0.0)
    )
    return replace(found, differing=tuple(differing))


def _compared(
    reference: Path,
    candidate: Path,
    samples: Sequence[Feeds],
    runs: tuple[Run, Run],
    max_nmse: float,
    drawn: Sequence[str],
) -> Comparison:
    found = Comparison({}, tuple(drawn), ())
    for feeds in samples:
        found = _worse(found, _compare(reference, candidate, feeds, runs, max_nmse))
        if found.failure is not None:
            break
    return found


def _worse(one: Comparison, other: Comparison) -> Comparison:
    random = tuple(dict.fromkeys((*one.random, *other.random)))
    nmse = {
        name: max(one.nmse.get(name, 0.0), other.nmse.get(name, 0.0))
        for name in (*one.nmse, *other.nmse)
        if name not in random
    }
    differing = dict.fromkeys((*one.differing, *other.differing))
    return Comparison(
        nmse,
        random,
        tuple(name for name in differing if name not in random),
        one.failure or other.failure,
    )


def _compare(
    reference: Path, candidate: Path, feeds: Feeds, runs: tuple[Run, Run], max_nmse: float
) -> Comparison:
    from planner.runtime.compare import nmse

    run, run_candidate = runs

    try:
        first, again = run(reference, feeds, 2)
    except InfoptError as error:
        reason = error.what.replace(f"Load model from {reference} failed:", "")
        return Comparison({}, (), (), failure=reason)
    (values,) = run_candidate(candidate, feeds, 1)
    random = tuple(name for name in first if nmse(first[name], again[name]) > _RANDOM_NMSE)
    errors = {
        name: nmse(first[name], values[name]) if _is_like(first[name], values[name]) else math.inf
        for name in first
        if name not in random
    }
    differing = (
        name for name, error in errors.items() if not _is_same(first[name], error, max_nmse)
    )
    return Comparison(errors, random, tuple(differing))


def _is_like(reference: Any, value: Any) -> bool:
    """Whether both are of one type."""
    return not isinstance(reference, np.ndarray) or reference.dtype == np.asarray(value).dtype


def _is_same(reference: Any, error: float, max_nmse: float) -> bool:
    if not isinstance(reference, np.ndarray):
        return error <= max_nmse
    return error == 0.0 if reference.dtype.kind in _EXACT_KINDS else error <= max_nmse
