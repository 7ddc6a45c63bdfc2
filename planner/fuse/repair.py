"""Drafts whose kernels do not compile, or spill registers, in configurations that do neither."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from planner.fuse.build import Draft
from planner.fuse.tune import Class, changed, classes
from planner.kernels.compile import Compiled
from planner.kernels.source import Kernel, Part

MAX_TRIES = 12
"""Configurations of a stage that are compiled before it stays as it is."""
Compile = Callable[[Sequence[Kernel]], Mapping[str, Compiled]]


def repaired(plan: Draft, compile_each: Compile) -> Draft:
    """The draft with other configurations where one asks for more than a multiprocessor has."""
    made = compile_each(plan.kernels)
    bad = {item.name for item in plan.kernels if not _is_sound(made, item)}
    if not bad:
        return plan
    where = {part.stage.root: item.name for parts, item in plan.launches for part in parts}
    for one in classes(plan, limit=MAX_TRIES):
        if not {where[root] for root in one.roots} & bad:
            continue
        drafts = [changed(plan, one.roots, config) for config in one.configs[1:]]
        made = compile_each([item for draft in drafts for item in draft.kernels])
        here = [launch for launch, (parts, _) in enumerate(plan.launches) if _holds(parts, one)]
        good = (d for d in drafts if all(_is_sound(made, d.kernels[place]) for place in here))
        plan = next(good, plan)
    return plan


def _holds(parts: Sequence[Part], one: Class) -> bool:
    return any(part.stage.root in one.roots for part in parts)


def _is_sound(made: Mapping[str, Compiled], item: Kernel) -> bool:
    found = made.get(item.name)
    return found is not None and found.resources.stack_size_bytes == 0
