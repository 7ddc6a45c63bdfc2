"""Whether an engine can keep what a plan for devices elsewhere decides; the rest is told, not lost.

Such plans may use everything that libraries on their target have. Engines are ONNX parts that ONNX
Runtime runs, so some of it needs another runtime, which `plan.json` and `--annotate` tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from planner.compress.methods import METHODS
from planner.errors import EnvironmentMismatchError
from planner.spec.formats import Format
from planner.spec.plan import Plan


def obstacles(plan: Plan) -> tuple[str, ...]:
    """What of a plan no engine can do, in words; none where it can be built."""
    found = []
    if plan.placement is not None:
        found += _unstreamable(plan, [group.residency for group in plan.placement.groups])
        again = len(plan.placement.recomputed)
        if again:
            found.append(
                f"{again} activation{'s are' if again > 1 else ' is'} made again, which engines of "
                "plans for devices elsewhere do not do"
            )
    made = {Format.FP32, *(method.format for method in METHODS)}
    lacking = Counter(form for form in plan.formats.values() if form not in made)
    known = {Format.FP16, *plan.formats.values()} & made - {Format.FP32}
    found += [
        f"no engine has {form}, which {count} operators take (--formats "
        f"{','.join(sorted(known))} plans without)"
        for form, count in lacking.most_common()
    ]
    return tuple(found)


def _unstreamable(plan: Plan, residencies: Sequence[str]) -> list[str]:
    """Weights that come from where engines cannot fetch them."""
    lent = residencies.count("peer")
    found = [f"{lent} groups stream from a neighbour, which no engine can"] if lent else []
    streamed = residencies.count("host")
    if streamed and plan.ranks > 1:
        found.append(
            f"{streamed} groups stream their weights into {plan.ranks} ranks; engines stream on one"
        )
    return found


def refuse_unrealisable(plan: Plan) -> None:
    """Before anything is built.

    Raises:
        EnvironmentMismatchError: with every obstacle.
    """
    found = obstacles(plan)
    if found:
        raise EnvironmentMismatchError(
            f"no engine of this plan can be built: {'; '.join(found)}",
            fix="plan with what engines can do (--formats fp16, target.offload: []), or run "
            "plan.json with a runtime that can",
        )
