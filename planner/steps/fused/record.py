"""What was decided, as the sections of plan.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from planner.cost.rates import capability
from planner.fuse.build import Draft
from planner.fuse.schedule import chain
from planner.graph.levels import operators_in_a_row
from planner.graph.segments import Cut, Segment
from planner.ir.graph import Graph
from planner.kernels.compile import ARCHITECTURES
from planner.kernels.estimate import floor, launch_floor_us
from planner.kernels.source import Part
from planner.spec.fusion import (
    BucketPlan,
    Edge,
    FloorPlan,
    FusionPlan,
    LaunchPlan,
    SegmentPlan,
    StagePlan,
)
from planner.spec.profile import DeviceProfile
from planner.steps.fused.prices import Prices, loop_of, size_of
from planner.steps.fused.solving import Decided, arena_bytes, bucket_name, ort_us


def fusion_plan(
    profile: DeviceProfile,
    shapes: Sequence[str],
    cuts: Sequence[Cut],
    decided: Decided,
    graph: Graph,
) -> FusionPlan:
    """Every launch of every part under every shape.

    Args:
        graph: the operators that all of them compute.
    """
    return FusionPlan(
        device=profile.name,
        architectures=tuple(sorted({*ARCHITECTURES, capability(profile)} - {0})),
        number_format=decided.form.dtype,
        rounding_error=decided.form.noise,
        buckets=tuple(
            _bucket(shape, found, decided) for shape, found in zip(shapes, cuts, strict=True)
        ),
        covered_ops=cuts[0].covered,
        ops=cuts[0].operators,
        operators_in_a_row=operators_in_a_row(graph),
    )


def _bucket(shape: str, found: Cut, decided: Decided) -> BucketPlan:
    segments, floors, arena = [], [], 0
    measured: list[float] = []
    for number, segment in enumerate(found.segments):
        name = bucket_name(shape, number)
        draft, tuned = decided.drafts.get(name), decided.tuned.get(name)
        if draft is None:
            segments.append(_library(segment))
            continue
        percent = None if tuned is None else tuned.shared_percent
        segments.append(_fused(segment, draft, decided.prices, percent))
        measured += [] if tuned is None else [tuned.device_us]
        floors.append(floor(draft.program, draft.numbers, decided.rates))
        arena += arena_bytes(draft)
    least = FloorPlan(
        total_us=sum(one.total_us for one in floors),
        launch_us=sum(one.launch_us for one in floors),
        memory_us=sum(one.memory_us for one in floors),
        compute_us=sum(one.compute_us for one in floors),
        levels=sum(one.levels for one in floors),
        level_us=floors[0].level_us,
    )
    return BucketPlan(
        shape=shape,
        segments=tuple(segments),
        predicted_us=sum(segment.predicted_us for segment in segments),
        measured_us=sum(measured) if len(measured) == len(floors) else None,
        floor=least,
        arena_size_bytes=arena,
    )


def _library(segment: Segment) -> SegmentPlan:
    return SegmentPlan(
        kind="ort",
        ops=segment.nodes,
        inputs=segment.inputs,
        outputs=segment.outputs,
        predicted_us=ort_us(segment),
        reasons=segment.reasons,
    )


def _fused(
    segment: Segment, draft: Draft, prices: Prices, shared_percent: int | None
) -> SegmentPlan:
    levels = chain(draft)
    launches = tuple(
        _launch(number, parts, draft, prices, segment.owners, levels[number])
        for number, (parts, _) in enumerate(draft.launches)
    )
    return SegmentPlan(
        kind="fused",
        ops=segment.nodes,
        inputs=segment.inputs,
        outputs=segment.outputs,
        launches=launches,
        shared_percent=shared_percent,
        reasons=draft.remarks,
        predicted_us=prices.rates.launch_us + sum(launch.predicted_us for launch in launches),
    )


def _launch(
    number: int,
    parts: Sequence[Part],
    draft: Draft,
    prices: Prices,
    owners: Mapping[str, str],
    level: int,
) -> LaunchPlan:
    program, numbers, rates = draft.program, draft.numbers, prices.rates
    inside = {name for part in parts for name in (*part.stage.makes, *part.stage.internal)}
    made = [nest.name for nest in program.nests if nest.name in inside]
    kept = inside - {name for part in parts for name in part.stage.makes}
    moved = {name for part in parts for name in (*part.stage.reads, *part.stage.makes)}
    item = draft.kernels[number]
    is_ahead = rates.has_dependent_launch and item.name not in draft.waiting
    edge: Edge = "dependent launch" if is_ahead else "graph node"
    loop = loop_of(draft, number)
    if loop is not None and number > loop[0]:
        edge = "loop"

    def size_bytes(name: str) -> int:
        return size_of(draft, name)

    return LaunchPlan(
        name=f"{number:03d}:{parts[0].stage.root}",
        kernel=item.name,
        ops=tuple(dict.fromkeys(owners[name] for name in made if name in owners)),
        stages=tuple(_stage(part, draft) for part in parts),
        edge="first" if number == 0 else edge,
        lets_go_early=item.lets_go_early,
        level=level,
        programs=sum(part.tiling.programs for part in parts),
        warps=max(part.tiling.config.warps for part in parts),
        predicted_us=prices.launch_us(draft, number),
        floor_us=launch_floor_us(program, parts, numbers, rates),
        kept_bytes=sum(size_bytes(n) for n in kept if not program.by_name[n].is_view),
        moved_bytes=sum(size_bytes(name) for name in moved if name not in program.constants),
    )


def _stage(part: Part, draft: Draft) -> StagePlan:
    stage = part.stage
    reads = tuple(name for name in stage.reads if name not in draft.program.constants)
    return StagePlan(
        root=stage.root, also=stage.also, reads=reads, config=asdict(part.tiling.config)
    )
