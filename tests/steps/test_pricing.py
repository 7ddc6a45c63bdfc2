"""Prices of pools whose processes saw different states of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from planner.cost.state import PROBE_REGIONS
from planner.profiling.store import KernelTime
from planner.progress import Silent
from planner.spec.session import SessionSettings
from planner.steps import pricing as module
from planner.steps.bench import Bench
from planner.steps.prepare import Prepared
from planner.steps.pricing import Pricing
from planner.steps.variants import Variant
from planner.steps.whole_runs import Observed
from planner.steps.workspace import Workspace

_PROBES_US = {1: 56.0, 2: 62.0}
"""The reference probe in the fast state."""
_SHORT_US, _LONG_US, _OVERHEAD_US, _CHANGE_US, _SHORT_ONES = 2.0, {1: 20.0, 2: 11.0}, 8.0, 0.5, 10
_ROUNDS = 40


_LATE_US = 2.3
"""What a parallel region takes longer where threads hear of each other late."""


def _timed(
    fast_us: float, threads: int, slow: Mapping[int, float], late_us: float = 0.0
) -> KernelTime:
    pace = slow[threads]
    us = fast_us * pace + (late_us if threads > 1 else 0.0)
    pool_us = _PROBES_US[threads] * pace + (PROBE_REGIONS * late_us if threads > 1 else 0.0)
    return KernelTime(us, us, us, pool_us, 20, threads=threads, alone_us=_PROBES_US[1] * pace)


def _whole(fast_us: float, threads: int) -> dict[str, Any]:
    return {
        "medians_us": [fast_us] * _ROUNDS,
        "beside_us": [_PROBES_US[threads]] * _ROUNDS,
        "alone_us": [_PROBES_US[1]] * _ROUNDS,
        "reference_us": _PROBES_US[threads],
        "percentiles_us": {"50": fast_us, "99": fast_us},
    }


def _pricing(
    slow: Mapping[int, float], monkeypatch: pytest.MonkeyPatch, late_us: float = 0.0
) -> tuple[Pricing, Variant]:
    """Of a model of short kernels, timed with one thread only, and a long one.

    Args:
        slow: threads -> how much slower the machine was while kernels were timed.
        late_us: how much later than else the threads met then.
    """
    executable = SimpleNamespace(key="native")
    native = SimpleNamespace(
        name="native", realised={}, level="all", executable=executable, executables=[executable]
    )
    times = {"short": _timed(_SHORT_US, 1, slow)}
    times |= {
        f"long {threads}": _timed(us, threads, slow, late_us) for threads, us in _LONG_US.items()
    }

    asked: list[int] = []
    kernels = [SimpleNamespace(op_type="Gemm", output_size_bytes=64, read_size_bytes=64)] * (
        _SHORT_ONES + 1
    )
    work = SimpleNamespace(reporter=Silent(), store=SimpleNamespace(kernel=times.get))

    def keys(_: object, threads: int) -> list[str]:
        return ["short"] * _SHORT_ONES + [f"long {threads}"]

    bench = SimpleNamespace(
        keys=keys,
        work=work,
        analysis=lambda _: SimpleNamespace(kernels=kernels),
        measure=lambda _, threads: asked.append(threads),
        asked=asked,
        rest=lambda: None,
        overhead=lambda _, threads: _timed(_OVERHEAD_US, threads, slow),
        change=lambda: _timed(_CHANGE_US, 1, slow),
    )
    sessions = tuple(SessionSettings(intra_op_threads=threads) for threads in _LONG_US)
    entries = [Observed(cast("Variant", native), session) for session in sessions]

    def runs(*_: object) -> list[tuple[Observed, dict[str, Any]]]:
        return [(e, _whole(_sum_us(e.session.intra_op_threads), _threads(e))) for e in entries]

    monkeypatch.setattr(module, "session_choices", lambda: sessions)
    monkeypatch.setattr(module, "observed", lambda *_: entries)
    monkeypatch.setattr(module, "whole_runs", runs)
    prepared = SimpleNamespace(shapes=[SimpleNamespace(share=1.0)])
    made = Pricing(
        cast("Prepared", prepared), cast("Bench", bench), cast("Workspace", work), percentile=99.0
    )
    made.learn([cast("Variant", native)])
    return made, cast("Variant", native)


def _threads(entry: Observed) -> int:
    return entry.session.intra_op_threads


def _sum_us(threads: int) -> float:
    change_us = (_SHORT_ONES + 1) * _CHANGE_US
    return _SHORT_ONES * _SHORT_US + _LONG_US[threads] + _OVERHEAD_US + change_us


@pytest.mark.parametrize("late_us", [0.0, _LATE_US])
@pytest.mark.parametrize("slow", [{1: 1.0, 2: 1.0}, {1: 1.6, 2: 1.0}, {1: 1.0, 2: 1.6}])
def test_a_pool_is_not_priced_by_the_state_in_which_another_one_was_timed(
    slow: dict[int, float], late_us: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels of one thread were timed beside a busy neighbour, the others were not, or met late:
    the sum is still that of one state, the one whole runs were timed in."""
    pricing, native = _pricing(slow, monkeypatch, late_us)
    for index, setting in enumerate(pricing.settings):
        wanted_us = _sum_us(setting.session.intra_op_threads)
        found_us = pricing.sum_of_kernels(native, setting.session, 0).expected_us
        assert found_us == pytest.approx(wanted_us, rel=0.1)
        assert pricing.predict(native, index)[0].expected == pytest.approx(wanted_us, rel=0.1)


@pytest.mark.parametrize(("threads", "wanted"), [(1, [1]), (2, [1, 2])])
def test_what_a_plan_adds_is_timed_as_uniform_variants_are(
    threads: int, wanted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one thread first: what is short then is not timed beside the probe of two, which a
    taken core slows down and a short kernel not."""
    pricing, native = _pricing({1: 1.0, 2: 1.0}, monkeypatch)
    asked = cast("Any", pricing.bench).asked
    asked.clear()
    pricing.extend(native, threads, [{"fp32": 1.0}])
    assert asked == wanted
