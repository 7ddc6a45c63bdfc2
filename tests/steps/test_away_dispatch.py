"""A memory limit that generated kernels cannot keep is not the last word: weights may stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from planner.spec.conflict import ConflictingLimit, ConflictReport
from planner.spec.constraints import Constraints
from planner.steps.away import dispatch
from planner.steps.conflict import ConflictError
from planner.steps.fused import plan as fused
from tests.ops import models

STREAMED = object()


def conflict(key: str, nearest: float = 2e9) -> ConflictError:
    """Of one limit."""
    limit = ConflictingLimit(key=key, value=1e9, nearest=nearest, unit="bytes")
    return ConflictError(
        ConflictReport(
            model="model.onnx",
            feasible=False,
            limits=(limit,),
            fastest_us=None,
            latency_percentile=99,
            reason="no plan",
        )
    )


class Notes:
    """A workspace of which only what is reported counts."""

    def __init__(self) -> None:
        self.reporter = self
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


Ask = Callable[..., tuple[Any, list[str]]]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    """Plans for an H200 where each way answers or refuses as told."""
    onnx.save(models.block(), tmp_path / "model.onnx")

    def asked(
        kernels: ConflictError, library: ConflictError | None = None, offload: tuple[str, ...] = ()
    ) -> tuple[Any, list[str]]:
        def refused(*_: Any) -> Any:
            raise kernels

        def answered(*_: Any) -> Any:
            if library is not None:
                raise library
            return STREAMED

        monkeypatch.setattr(fused, "plan_fused", refused)
        monkeypatch.setattr(dispatch, "plan_away", answered)
        target = {"device": "h200-sxm-141gb", "memory": "1GB", "offload": list(offload)}
        given = {"model": tmp_path / "model.onnx", "target": target}
        notes: Any = Notes()
        return dispatch.plan_elsewhere(Constraints.model_validate(given), notes), notes.notes

    return asked


def test_a_limit_on_memory_lets_weights_stream(ask: Ask) -> None:
    found, notes = ask(conflict("target.memory"), offload=("host",))
    assert found is STREAMED
    assert ["weights may stream" in note for note in notes] == [True]


def test_any_other_limit_is_the_last_word(ask: Ask) -> None:
    with pytest.raises(ConflictError):
        ask(conflict("slo.latency.p99"), offload=("host",))


def test_weights_that_must_stay_do_not_stream(ask: Ask) -> None:
    with pytest.raises(ConflictError):
        ask(conflict("target.memory"))


def test_where_streaming_does_not_fit_either_the_nearer_way_out_is_told(ask: Ask) -> None:
    library = conflict("target.memory", 9e9)
    with pytest.raises(ConflictError) as refused:
        ask(conflict("target.memory", 3e9), library, ("host",))
    assert refused.value.report.limits[0].nearest == 3e9
