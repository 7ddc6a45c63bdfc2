"""Which of the timed variants ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from planner.spec.plan import Timing

Kind = Literal["plan", "uniform", "plain"]


def pick(
    kinds: Mapping[str, Kind],
    timings: Mapping[str, Timing],
    threshold: float,
    *,
    ground: float = 1.0,
    wants_memory: bool = False,
    is_pinned: bool = False,
) -> tuple[str | None, str]:
    """The name of the variant that ships (None: the plain graph), and why.

    The fastest over the whole workload ships if it beats the plain graph by the threshold; a
    solver's plan that does so as well is preferred if it loses to the fastest by less than that. No
    workload shape may become slower, however much the others gain.

    Args:
        threshold: how many times faster one must be to count as faster.
        ground: ratio of the plain graph called as engines call it; a variant must be worth more
            than that call.
        kinds: name -> kind of everyone who may ship.
        timings: of everyone who could be run.
        wants_memory: the plan was made to need least memory, so it need not be faster.
        is_pinned: operators must take a compressed format: the plain graph breaks that, however
            fast it is.
    """
    ran = [name for name in kinds if name in timings]
    if not ran:
        return None, "no other variant could be run"
    if is_pinned:
        return _pinned(ran, kinds, timings, threshold)
    kept = [name for name in ran if _slowest(timings[name])[1] >= 1 / threshold]
    if not kept:
        best = max(ran, key=lambda name: timings[name].ratio)
        shape, ratio = _slowest(timings[best])
        return None, (
            f"nothing keeps up with plain ONNX Runtime on every shape (best: {best}, "
            f"{ratio:.3f}x on {shape})"
        )
    best = max(kept, key=lambda name: timings[name].ratio)
    plan = next((name for name in kept if kinds[name] == "plan"), None)
    if wants_memory and plan is not None:
        return plan, "least memory, and not slower than plain ONNX Runtime"
    if plan is not None and timings[plan].ratio >= threshold * ground:
        best = plan if timings[best].ratio / timings[plan].ratio <= threshold else best
    return _against_plain(best, plan, timings, threshold, ground)


def _pinned(
    ran: Sequence[str], kinds: Mapping[str, Kind], timings: Mapping[str, Timing], threshold: float
) -> tuple[str, str]:
    """The best of those that keep what was pinned, the solver's plan if it is as good."""
    best = max(ran, key=lambda name: timings[name].ratio)
    plan = next((name for name in ran if kinds[name] == "plan"), best)
    best = plan if timings[best].ratio / timings[plan].ratio <= threshold else best
    ratio = timings[best].ratio
    return best, f"measured {ratio:.3f}x plain ONNX Runtime, which breaks what is pinned"


def _against_plain(
    best: str, plan: str | None, timings: Mapping[str, Timing], threshold: float, ground: float
) -> tuple[str | None, str]:
    ratio = timings[best].ratio
    if ratio < threshold * ground:
        return None, (
            f"nothing beat the plain graph ({ground:.3f}x in an engine) by more than "
            f"{threshold:.3f}x, which is how much plain ONNX Runtime differs from itself (best: "
            f"{best}, {ratio:.3f}x)"
        )
    if plan is not None and best != plan:
        return best, (
            f"measured {ratio:.3f}x plain ONNX Runtime; the solver's plan only "
            f"{timings[plan].ratio:.3f}x"
        )
    beside = f", {ratio / ground:.3f}x the plain graph in an engine" if ratio < threshold else ""
    return best, f"measured {ratio:.3f}x plain ONNX Runtime{beside}"


def _slowest(timing: Timing) -> tuple[str, float]:
    """The shape that gains least, and how fast it is relative to plain ONNX Runtime."""
    name, found = min(timing.shapes.items(), key=lambda pair: pair[1].ratio)
    return repr(name), found.ratio
