"""A request that nothing meets: which limits conflict, and the nearest values that can be kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from planner.ir.problem import Option
from planner.ir.solution import Status
from planner.place.again import is_remade
from planner.place.variant import HOST
from planner.spec.conflict import MEMORY_KEY, ConflictingLimit, ConflictReport
from planner.spec.constraints import Constraints
from planner.steps.away.offers import Posed
from planner.steps.away.search import Found
from planner.steps.away.target import Away
from planner.steps.conflict import ConflictError
from planner.units import format_duration, format_size


def refusal(
    constraints: Constraints, posed: Posed, away: Away, tried: Sequence[Found]
) -> ConflictError | None:
    """The conflict, where it is proved; None where time ended first."""
    most = away.machine.gpus
    asked = [one for one in tried if one.has_slo and one.devices == most]
    if not any(one.solution.status is Status.INFEASIBLE for one in asked):
        return None
    free = [one for one in tried if not one.has_slo and one.is_plan]
    limits = []
    fastest = _slowest_shape(free)
    latency = constraints.promise.latency_us
    if latency is not None and fastest is not None:
        limits.append(_limit(_slo_key(constraints), latency, fastest, "us"))
    if fastest is None:
        limits += _capacity(constraints, posed, away)
    reason = _reason(constraints, posed, away, fastest)
    return ConflictError(
        ConflictReport(
            model=str(constraints.model),
            feasible=False,
            limits=tuple(limits),
            fastest_us=fastest,
            latency_percentile=constraints.promise.latency_percentile,
            reason=reason,
        )
    )


def _slowest_shape(free: Sequence[Found]) -> float | None:
    """The latency that some plan surely keeps for every shape: upper ends of its intervals."""
    totals = [one.solution.totals for one in free]
    return min((max(t.latency_high_us) for t in totals if t is not None), default=None)


def _slo_key(constraints: Constraints) -> str:
    return f"slo.latency.p{constraints.promise.latency_percentile:g}"


def _limit(key: str, value: float, nearest: float | None, unit: str) -> ConflictingLimit:
    return ConflictingLimit.model_validate(
        {"key": key, "value": value, "nearest": nearest, "unit": unit}
    )


def _capacity(constraints: Constraints, posed: Posed, away: Away) -> list[ConflictingLimit]:
    """Memory and error: how many bytes the most compressed weights need, without streaming, with
    what is alive beside them where one device holds all; no value where that would fit."""
    found = []
    if constraints.accuracy.max_error is not None:
        found.append(_limit("accuracy.max_error", constraints.accuracy.max_error, None, "NMSE"))
    asked = constraints.target.memory_size_bytes
    if asked is not None:
        gpus = away.machine.gpus
        alive = least_activation_bytes(posed) if gpus == 1 else 0
        needed = least_bytes(posed) / gpus + alive + posed.fixed_bytes
        found.append(_limit(MEMORY_KEY, asked, needed if needed > asked else None, "bytes"))
    return found


def least_activation_bytes(posed: Posed) -> int:
    """What is alive on one device at the fullest moment, and the largest scratch memory, where
    every group takes the option with the least of both and nothing is made again."""
    least: dict[int, Option] = {}
    for variant in posed.variants.values():
        if variant.ends.degree > 1 or variant.residency == HOST or is_remade(variant.option):
            continue
        known = least.get(variant.group)
        if known is None or _alive(variant.option) < _alive(known):
            least[variant.group] = variant.option
    change: Counter[int] = Counter()
    for option in least.values():
        for hold in option.holds:
            change[hold.start] += hold.size_bytes
            change[hold.end] -= hold.size_bytes
    peak = max(accumulate(change[moment] for moment in sorted(change)), default=0)
    return peak + max((option.workspace_size_bytes for option in least.values()), default=0)


def _alive(option: Option) -> int:
    return sum(hold.size_bytes for hold in option.holds) + option.workspace_size_bytes


def least_bytes(posed: Posed) -> float:
    """Resident weights and caches of the most compressed plan, over all devices."""
    least: dict[int, float] = {}
    for variant in posed.variants.values():
        option = variant.option
        size = float(option.weight_size_bytes + option.cache_size_bytes) * variant.ends.degree
        least[variant.group] = min(size, least.get(variant.group, size))
    return sum(least.values())


def _reason(constraints: Constraints, posed: Posed, away: Away, fastest: float | None) -> str:
    promise = constraints.promise
    device = f"{away.machine.gpus} x {away.device.name}"
    if promise.latency_us is not None and fastest is not None:
        return (
            f"no plan on up to {device} keeps a latency of {format_duration(promise.latency_us)} "
            "with the other limits, even at the lower ends of all intervals"
        )
    size = format_size(away.machine.memory_size_bytes)
    if posed.fixed_bytes >= away.machine.memory_size_bytes:
        return (
            f"no model fits in {size} of a {away.device.name}: the runtime with its libraries, and "
            f"what this model is given, take {format_size(posed.fixed_bytes)}"
        )
    return (
        f"the model does not fit on up to {device} with {size} each within the error budget; "
        "more --gpus, a larger --max-error, or offload: [host]"
    )
