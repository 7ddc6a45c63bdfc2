"""Whether two models give the same answers on the same inputs. Runs in the sandbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from planner.errors import InfoptError

Feeds = Mapping[str, Any]
Outputs = Mapping[str, Any]
Run = Callable[[Path, Feeds, int], Sequence[Outputs]]
"""Runs the model in a file so many times in one session: a random draw differs only from the one
before it. A module-level function, for it travels to another process."""

MAX_NMSE = 1e-6
_RANDOM_NMSE = 1e-9
"""More than this between two runs of one model is a random draw, not rounding."""
_EXACT_KINDS = "biuOUS"


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
    from planner.runtime import ort
    from planner.spec.session import GraphLevel, SessionSettings

    settings = SessionSettings(
        intra_op_threads=1, graph_level=GraphLevel.DISABLED, extra=ort.NO_PREPACKING
    )
    session = ort.make_session(path, settings)
    names = [spec.name for spec in ort.tensor_specs(session)[1]]
    call = ort.bind(session, names)
    try:
        return [dict(zip(names, call(ort.feed_dict(feeds)), strict=True)) for _ in range(times)]
    except ort.ORT_ERRORS as error:
        raise ort.run_error(error, str(path)) from None


def compare(
    reference: Path,
    candidate: Path,
    samples: Sequence[Feeds],
    run: Run,
    max_nmse: float = MAX_NMSE,
    drawn: Sequence[str] = (),
) -> Comparison:
    """On every sample, runs the reference twice and the candidate once; the worst of all samples.

    Args:
        max_nmse: above it an output counts as differing.
        drawn: outputs known to be random.

    Raises:
        InfoptError: the candidate does not run.
    """
    found = Comparison({}, tuple(drawn), ())
    for feeds in samples:
        found = _worse(found, _compare(reference, candidate, feeds, run, max_nmse))
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
    reference: Path, candidate: Path, feeds: Feeds, run: Run, max_nmse: float
) -> Comparison:
    from planner.runtime.compare import nmse

    try:
        first, again = run(reference, feeds, 2)
    except InfoptError as error:
        reason = error.what.replace(f"Load model from {reference} failed:", "")
        return Comparison({}, (), (), failure=reason)
    (values,) = run(candidate, feeds, 1)
    random = tuple(name for name in first if nmse(first[name], again[name]) > _RANDOM_NMSE)
    errors = {name: nmse(first[name], values[name]) for name in first if name not in random}
    differing = (
        name
        for name, error in errors.items()
        if not _is_same(first[name], values[name], error, max_nmse)
    )
    return Comparison(errors, random, tuple(differing))


def _is_same(reference: Any, value: Any, error: float, max_nmse: float) -> bool:
    if not isinstance(reference, np.ndarray):
        return error <= max_nmse
    if reference.dtype != np.asarray(value).dtype:
        return False
    return error == 0.0 if reference.dtype.kind in _EXACT_KINDS else error <= max_nmse
