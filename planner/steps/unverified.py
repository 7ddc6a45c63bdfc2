"""The verdict where an engine's device is not here: complete as far as this machine can tell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from planner.spec.plan import Plan
from planner.spec.verdict import Check, Verdict


def unverified(
    engine: Path, plan: Plan, checks: Sequence[Check], device: str, reason: str
) -> Verdict:
    """What could be checked, and what is left to do.

    Args:
        device: what the engine was built for.
        reason: why it is not run here.
    """
    detail = f"unverified: built for {device}, and here {reason}"
    return Verdict(
        engine=str(engine),
        passed=all(check.passed for check in checks),
        is_unverified=True,
        checks=(*checks, Check(name="device", passed=True, detail=detail)),
        predicted_us=plan.prediction.latency_p50_us,
        warnings=(
            *plan.warnings,
            f"unverified: run `infopt verify {engine.name}` on the device before it is served",
        ),
    )
