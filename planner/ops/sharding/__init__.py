"""How operators shard, derived from what their indices run over: `indices(call)`.

One file a family, as in `planner/ops`. Nothing here looks at a name. An operator without a rule, or
in a form that a rule does not cover, stays whole: `indices` says None or has no index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from planner.ops.sharding import (
    contraction,
    convolution,
    elementwise,
    movement,
    quantisation,
    reduction,
    sequence,
)
from planner.ops.sharding.base import Axis, Call, Index, Kind

RULES: Mapping[str, Callable[[Call], list[Index]]] = {
    **elementwise.RULES,
    **movement.RULES,
    **reduction.RULES,
    **contraction.RULES,
    **convolution.RULES,
    **quantisation.RULES,
    **sequence.RULES,
}
"""Operator (`Add`, `com.microsoft::FusedMatMul`) -> its rule."""
UNSHARED = frozenset(("Shape", "Size", "Constant", "ConstantOfShape", "Range", "NonZero"))
"""They make small tensors from shapes: every rank makes them itself, and nothing is missed."""


def indices(call: Call) -> tuple[Index, ...] | None:
    """The indices an operator shards by; None where no rule knows it."""
    rule = RULES.get(call.op_type)
    if rule is None:
        return None
    if any(shape is None for shape in call.outputs[:1]):
        return ()
    return tuple(rule(call))


__all__ = ("RULES", "UNSHARED", "Axis", "Call", "Index", "Kind", "indices")
