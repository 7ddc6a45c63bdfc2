"""First plans of free assignments: groups go to kinds of slots, then each kind's slots are filled.

Chains cannot use slots that only some groups suit where those groups lie scattered: a segment ends
at each of them. Free plans lay a linear order over the slots of each kind on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from planner.solve.assign.fill import fill
from planner.solve.assign.instance import Groups
from planner.solve.assign.windows import worth


def fill_by_kind(
    groups: Groups, order: Sequence[int], is_over: Callable[[], bool]
) -> list[int] | None:
    """The slot of each group; None: its kind has no room for all that suit it best, or no time was
    left.

    Args:
        order: all groups, such that few results are open between neighbours.
    """
    kind_of = worth(groups).argmin(axis=0).tolist()
    slots = [-1] * groups.count
    for k, kind in enumerate(groups.kinds):
        part = [group for group in order if kind_of[group] == k]
        found = fill(groups, part, is_over, (k,)) if part else None
        if part and found is None:
            return None
        for group in part:
            assert found is not None
            slots[group] = kind.slots[found.stage[group]]
    return slots
