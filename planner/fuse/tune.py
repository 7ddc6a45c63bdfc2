"""Configurations and edges chosen by measuring the whole graph: coordinate descent within a budget.

First, how much of a multiprocessor all kernels ask for as shared memory.
Stages with equal bodies (layers, experts, steps) are one *class* and change together. A class is
tried in each of its configurations with everything else as it stands, the most expensive class
first; then, kernel by kernel, whether its launch waits for the end of the one in front of it, and
whether it lets go of what follows at its start or once it has its inputs; last, whether launches
ask for the weights of what follows them (`planner.fuse.ahead`), and whether runs of equal launches
become loops (`planner.fuse.roll`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from planner.fuse.ahead import brought
from planner.fuse.build import Draft
from planner.fuse.live import Live
from planner.fuse.loop_trial import tried
from planner.fuse.schedule import plan_part
from planner.kernels.compile import Compile
from planner.kernels.configs import candidates
from planner.kernels.source import Kernel, kernel, let_go, stage_body
from planner.kernels.stage import Config
from planner.kernels.tiling import shape_of
from planner.runtime.fused.driver import SHARED_PERCENT, SHARES

MANY_STAGES = 64
"""More stages in a class (steps of a recurrence) stay as they are: each change writes all anew."""
GAIN = 0.997
"""A change is kept where it takes at most this share of the time: smaller ones are noise."""
MANY_LAUNCHES = 24
"""Of one kernel (the steps of a recurrence): its edges decide more than any configuration does, and
are tried before them."""


@dataclass(frozen=True, slots=True)
class Class:
    """Stages that are the same kernel body, and what they may become."""

    roots: tuple[str, ...]
    configs: tuple[Config, ...]
    """The one in force first."""


@dataclass(slots=True)
class Tuned:
    """What was found, and how."""

    plan: Draft
    chosen: dict[str, Config]
    """Root -> configuration."""
    waiting: frozenset[str]
    """Kernels that are not launched ahead."""
    first_us: float
    best_us: float
    trials: int = 0
    shared_percent: int = SHARED_PERCENT
    """Of a multiprocessor's memory, asked for by every kernel while this was measured."""
    table: dict[str, dict[str, float]] = field(default_factory=dict)
    """First root of a class -> configuration -> microseconds of the whole graph."""


def classes(plan: Draft, *, limit: int = 10) -> tuple[Class, ...]:
    """Classes of a draft in launch order, with at most `limit` configurations each."""
    found: dict[tuple[object, ...], list[str]] = {}
    parts = {}
    for launch, _ in plan.launches:
        for part in launch:
            body = stage_body(plan.program, part, plan.numbers)
            key = (body.lines, body.types, part.tiling.programs, len(launch))
            found.setdefault(key, []).append(part.stage.root)
            parts[part.stage.root] = part, len(launch)
    made = []
    for roots in found.values():
        part, companions = parts[roots[0]]
        shape = shape_of(plan.program, part.stage)
        listed = candidates(shape, companions=companions)
        configs = dict.fromkeys((part.tiling.config, *listed))
        most = limit if len(roots) <= MANY_STAGES else 1
        made.append(Class(tuple(roots), tuple(configs)[:most]))
    return tuple(made)


def changed(plan: Draft, roots: Sequence[str], config: Config) -> Draft:
    """The draft with some stages in another configuration; other launches stay as they are."""
    wanted = set(roots)
    launches = []
    for parts, item in plan.launches:
        if not any(part.stage.root in wanted for part in parts):
            launches.append((parts, item))
            continue
        moved = tuple(
            plan_part(plan.program, part.stage, config) if part.stage.root in wanted else part
            for part in parts
        )
        launches.append((moved, kernel(plan.program, moved, plan.numbers)))
    return replace(plan, launches=tuple(launches))


def variants(plan: Draft, *, limit: int = 10) -> list[Kernel]:
    """The draft's kernels and those that a change of one class makes, to be compiled at once."""
    kernels: dict[str, Kernel] = {item.name: item for item in plan.kernels}
    for one in classes(plan, limit=limit):
        for config in one.configs[1:]:
            for item in changed(plan, one.roots, config).kernels:
                kernels.setdefault(item.name, item)
    for item in plan.kernels:
        other = let_go(item, early=not item.lets_go_early)
        kernels.setdefault(other.name, other)
    return list(kernels.values())


def tune(
    plan: Draft,
    live: Live,
    compile_each: Compile,
    *,
    budget_s: float = 20,
    limit: int = 10,
) -> Tuned:
    """The best found within the budget; never slower than the draft.

    Args:
        live: the draft on a device.
        compile_each: compiles a list of kernels, as many at once as it can.
    """
    begin = time.monotonic()
    live.load(compile_each(plan.kernels))
    percent = _share(plan, live)
    found = _first(plan, live)
    found.shared_percent = percent
    many = [name for name, count in _counted(plan) if count >= MANY_LAUNCHES]
    _try_edges(found, live, compile_each, many, begin + budget_s / 2)
    listed = _by_cost(plan, live, classes(plan, limit=limit))
    for one in listed:
        if time.monotonic() - begin > budget_s:
            break
        _try_class(found, live, compile_each, one)
    every = [name for name, _ in _counted(found.plan)]
    _try_edges(found, live, compile_each, every, begin + budget_s * 1.3)
    _try_ahead(found, live, compile_each)
    found.plan = replace(found.plan, waiting=found.waiting)
    _try_loops(found, live, compile_each)
    return found


def _try_loops(found: Tuned, live: Live, compile_each: Compile) -> None:
    """Runs of equal launches as loops (`planner.fuse.loop_trial`)."""
    trial = tried(found.plan, found.best_us, GAIN, live, compile_each)
    found.plan, found.best_us = trial.plan, trial.taken_us
    found.trials += trial.was_timed


def _share(plan: Draft, live: Live) -> int:
    """How much shared memory all kernels ask for while the rest is tuned: what suits the draft.
    Where the engine runs, `infopt verify` starts from it and asks again."""
    taken_us = {}
    for percent in SHARES:
        live.ask_for(percent)
        taken_us[percent] = live.graph_us(plan.kernels)
    best = min(SHARES, key=taken_us.__getitem__)
    gains = taken_us[best] < taken_us[SHARED_PERCENT] * GAIN
    chosen = best if gains else SHARED_PERCENT
    live.ask_for(chosen)
    return chosen


def _configs(plan: Draft) -> dict[str, Config]:
    return {part.stage.root: part.tiling.config for parts, _ in plan.launches for part in parts}


def _first(plan: Draft, live: Live) -> Tuned:
    """The draft as it is, with all launches ahead or none."""
    everyone = frozenset(item.name for item in plan.kernels)
    ahead_us, plain_us = (live.graph_us(plan.kernels, w) for w in (frozenset(), everyone))
    waiting = frozenset() if ahead_us <= plain_us else everyone
    return Tuned(plan, _configs(plan), waiting, ahead_us, min(ahead_us, plain_us), 2)


def _by_cost(plan: Draft, live: Live, listed: Sequence[Class]) -> list[Class]:
    """The classes that take most of the time first: by launches, as all cost about the same."""
    where = {part.stage.root: item.name for parts, item in plan.launches for part in parts}
    counts = Counter(item.name for item in plan.kernels)
    alone = {
        name: live.graph_us([next(k for k in plan.kernels if k.name == name)] * 8) / 8
        for name in counts
    }

    def cost(one: Class) -> float:
        names = {where[root] for root in one.roots}
        return -sum(alone[name] * counts[name] for name in names)

    return sorted(listed, key=cost)


def _try_class(found: Tuned, live: Live, compile_each: Compile, one: Class) -> None:
    drafts = {config: changed(found.plan, one.roots, config) for config in one.configs}
    missing = [k for plan in drafts.values() for k in plan.kernels if not live.knows([k])]
    if missing:
        live.load(compile_each(missing))
    row: dict[str, float] = {}
    for config, plan in drafts.items():
        if not live.knows(plan.kernels):
            continue
        waiting = _carried(found, plan)
        taken_us = live.graph_us(plan.kernels, waiting)
        found.trials += 1
        row[config.text] = round(taken_us, 2)
        if taken_us < found.best_us * GAIN and _agrees(found.plan, plan, live):
            found.plan, found.waiting, found.best_us = plan, waiting, taken_us
            found.chosen |= dict.fromkeys(one.roots, config)
    found.table[one.roots[0]] = row


def _agrees(old: Draft, new: Draft, live: Live) -> bool:
    """Whether what changed still computes the same; equal kernels are tried once."""
    pairs = zip(old.kernels, new.kernels, strict=True)
    changed = {after.name: (before, after) for before, after in pairs if before.name != after.name}
    return all(live.agrees(before, after) for before, after in changed.values())


def _carried(found: Tuned, plan: Draft) -> frozenset[str]:
    """The waiting launches of the best draft, by place, under the kernel names of another."""
    pairs = zip(found.plan.kernels, plan.kernels, strict=True)
    return frozenset(new.name for old, new in pairs if old.name in found.waiting)


def _counted(plan: Draft) -> list[tuple[str, int]]:
    """Kernels and how often they are launched, the most frequent first."""
    return Counter(item.name for item in plan.kernels).most_common()


def _try_edges(
    found: Tuned, live: Live, compile_each: Compile, names: Sequence[str], until: float
) -> None:
    """Each kernel: waiting for the end of what is in front of it, and letting go of what follows
    early or late."""
    wanted = set(names)
    others = [let_go(k, early=not k.lets_go_early) for k in found.plan.kernels if k.name in wanted]
    live.load(compile_each([item for item in others if not live.knows([item])]))
    for name in names:
        if time.monotonic() > until:
            return
        _keep(found, live, found.plan, found.waiting ^ {name})
        turned = _turned(found.plan, name)
        if live.knows(turned.kernels):
            _keep(found, live, turned, _carried(found, turned))


def _try_ahead(found: Tuned, live: Live, compile_each: Compile) -> None:
    """Weights asked for one launch ahead, where they do not stay in L2."""
    other = brought(replace(found.plan, waiting=found.waiting))
    if other.kernels == found.plan.kernels:
        return
    live.load(compile_each([item for item in other.kernels if not live.knows([item])]))
    if live.knows(other.kernels):
        _keep(found, live, other, other.waiting)


def _turned(plan: Draft, name: str) -> Draft:
    launches = tuple(
        (parts, let_go(item, early=not item.lets_go_early) if item.name == name else item)
        for parts, item in plan.launches
    )
    return replace(plan, launches=launches)


def _keep(found: Tuned, live: Live, plan: Draft, waiting: frozenset[str]) -> None:
    taken_us = live.graph_us(plan.kernels, waiting)
    found.trials += 1
    if taken_us < found.best_us * GAIN:
        found.plan, found.waiting, found.best_us = plan, waiting, taken_us
