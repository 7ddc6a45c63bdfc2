"""The joint error of a built model against its reference, on the same samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.compress.pooled import PooledError, named
from planner.compress.samples import Samples
from planner.runtime.ort import bind, make_session, tensor_specs
from planner.runtime.refusals import ORT_ERRORS, run_error
from planner.spec.session import SessionSettings


@dataclass(frozen=True, slots=True)
class JointError:
    """NMSE at the outputs over all samples."""

    per_output: Mapping[str, float]
    worst: float
    runs: int


def joint_error(
    reference: Path, built: Path, samples: Samples, session: SessionSettings
) -> JointError:
    """NMSE of every output of `built` against `reference`, pooled over the samples.

    Both models are in memory at once, one run's outputs at a time. Picklable arguments: callable in
    a process of its own.
    """
    error = PooledError()
    first, second = runner(reference, session), runner(built, session)
    for feeds in samples.whole_runs():
        error.add(first(feeds), second(feeds))
    return JointError(error.per_output, error.worst, samples.whole_runs().runs)


def runner(model: Path, session: SessionSettings) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Named inputs to named outputs; inputs that the model does not have are left out.

    It raises DataError where the model refuses the inputs.
    """
    made = make_session(model, session.model_copy(update={"spinning": False}))
    inputs, outputs = tensor_specs(made)
    names = [spec.name for spec in outputs]
    wanted = [spec.name for spec in inputs]
    run = bind(made, names)

    def answer(feeds: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return named(names, run({name: feeds[name] for name in wanted if name in feeds}))
        except ORT_ERRORS as error:
            raise run_error(error, str(model)) from None

    return answer
