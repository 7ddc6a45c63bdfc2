"""The checker's part for devices: capacities, stores, links and counts (C2, C4, C6, C7, C11)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from planner.ir.problem import Problem
from planner.ir.solution import Totals
from planner.solve.price import slots_size_bytes, used_stores
from planner.solve.running import Chosen, Running, Violation


def check_devices(problem: Problem, chosen: Chosen, totals: Totals) -> Iterator[Violation]:
    """What a choice breaks beyond one device; also an impossible pair, wherever it runs."""
    if not all(math.isfinite(us) for us in totals.latency_expected_us):
        yield Violation("C5", "a forbidden pair, or a transfer without a link, is chosen")
    if not problem.places:
        return
    if len(chosen.stages) > problem.stages:
        yield Violation("C2", f"{len(chosen.stages)} stages, but {problem.stages} at most")
    pairs = zip(chosen.stages, totals.stage_memory_size_bytes, strict=True)
    for number, (stage, used) in enumerate(pairs):
        if not stage.options:
            yield Violation("C2", f"stage {number} runs nothing")
        yield from _check_stage(stage, number, used)
    yield from _check_counts(chosen)
    yield from _check_stores(chosen)


def _check_stage(stage: Running, number: int, used: int) -> Iterator[Violation]:
    capacity = stage.device.memory_size_bytes if stage.device else None
    if capacity is not None and used > capacity:
        what = f"stage {number} holds {used} bytes, more than {capacity}"
        yield Violation("C4", what, used - capacity)
    slots = slots_size_bytes(stage)
    options = {option.name: option for option in stage.options}
    for name, store in stage.stored.items():
        allowed = options[name].stores
        reaches = not store.devices or (stage.device and stage.device.name in store.devices)
        if (allowed is not None and store.name not in allowed) or not reaches:
            yield Violation("C7", f"the weights of {name!r} cannot stream from {store.name!r}")
        if store.slot_size_bytes is not None and slots[store.name] > store.slot_size_bytes:
            over = slots[store.name] - store.slot_size_bytes
            yield Violation("C7", f"slots of stage {number} for {store.name!r} overflow", over)


def _check_counts(chosen: Chosen) -> Iterator[Violation]:
    counts: Counter[str] = Counter()
    for stage in chosen.stages:
        if stage.device is not None:
            counts[stage.device.name] += stage.degree
    for device in {stage.device for stage in chosen.stages if stage.device is not None}:
        if device.count is not None and counts[device.name] > device.count:
            what = f"{counts[device.name]} devices {device.name!r}, but there are {device.count}"
            yield Violation("C11", what, counts[device.name] - device.count)


def _check_stores(chosen: Chosen) -> Iterator[Violation]:
    for store in used_stores(chosen).values():
        held = sum(
            option.weight_size_bytes * stage.degree
            for stage in chosen.stages
            for option in stage.options
            if stage.stored.get(option.name) == store
        )
        if store.memory_size_bytes is not None and held > store.memory_size_bytes:
            over = held - store.memory_size_bytes
            yield Violation("C7", f"store {store.name!r} holds {held} bytes", over)
