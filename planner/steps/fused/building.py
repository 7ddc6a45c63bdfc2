"""From a plan's groups to parts of an engine: cubins ahead of time, and the library path beside."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from planner.emit.engine import Part
from planner.errors import InfoptError, VerificationError
from planner.fuse.ahead import as_told
from planner.fuse.build import Draft, build, drafted
from planner.fuse.candidates import closure
from planner.fuse.roll import loops_of, rolled_up
from planner.graph.sandbox import Bounds, Sandbox
from planner.graph.segments import Segment, extract
from planner.kernels.cache import KernelCache
from planner.kernels.compile import Compiled
from planner.kernels.configs import candidates
from planner.kernels.pack import numbers_for
from planner.kernels.source import Kernel, kernel, let_go
from planner.kernels.source import Part as StagePart
from planner.kernels.stage import Config, Stage
from planner.kernels.tiling import shape_of, tile
from planner.ops.nest import Program
from planner.runtime.fused.loops import described
from planner.spec.fusion import FusionPlan, LaunchPlan, SegmentPlan, StagePlan
from planner.spec.plan import Plan
from planner.spec.session import SessionSettings
from planner.steps.files import Files
from planner.steps.fused.parts import read_cuts
from planner.steps.workspace import Workspace

LIBRARY = SessionSettings(provider="cuda")
"""How ONNX Runtime runs a part beside generated kernels."""
_RIVALS = 6
"""Other configurations tried where a chosen one does not compile."""
_Made = dict[tuple[str, int], Compiled]


def fused_parts(plan: Plan, files: Files, work: Workspace) -> tuple[Part, ...]:
    """Every part of the engine, in order.

    Raises:
        VerificationError: this version cuts or groups the model otherwise than the plan says.
        EnvironmentMismatchError: the compiler is not installed.
    """
    fusion = plan.fusion
    assert fusion is not None
    shapes = [shape.shapes for shape in plan.workload]
    cuts = read_cuts(files.model_path, shapes, plan.model.size_bytes)
    cache = KernelCache(work.kept.parent)
    parts = []
    for number, segment in enumerate(cuts[0].segments):
        planned = [bucket.segments[number] for bucket in fusion.buckets]
        if any(one.ops != segment.nodes for one in planned):
            raise VerificationError(
                "this version of infopt cuts the model elsewhere than the plan says",
                fix="plan again",
            )
        own = [found.segments[number] for found in cuts]
        folder = None
        if segment.program is not None:
            folder = _generated(number, fusion, planned, own, cache, work)
        is_whole = len(cuts[0].segments) == 1
        parts.append(_part(number, segment, is_whole, files, plan.model.size_bytes, folder, work))
    return tuple(parts)


def _part(
    number: int,
    segment: Segment,
    is_whole: bool,
    files: Files,
    size_bytes: int,
    folder: Path | None,
    work: Workspace,
) -> Part:
    path = files.model_path
    if not is_whole:
        path = work.scratch / f"part-{number}.onnx"
        bounds = Bounds().for_size(size_bytes)
        Sandbox("cutting the model", str(files.model_path), bounds).call(
            extract, files.model_path, segment, path
        )
    return Part(
        onnx_path=path,
        inputs=segment.inputs,
        outputs=segment.outputs,
        settings=LIBRARY,
        is_temporary=not is_whole,
        device="cuda",
        fused_path=folder,
    )


def _generated(
    number: int,
    fusion: FusionPlan,
    planned: Sequence[SegmentPlan],
    own: Sequence[Segment],
    cache: KernelCache,
    work: Workspace,
) -> Path:
    drafts = {
        bucket.shape: _draft(segment.program, plan.launches, fusion.number_format)
        for bucket, plan, segment in zip(fusion.buckets, planned, own, strict=True)
        if segment.program is not None
    }
    work.reporter.stage("compile")
    made = _compiled(drafts.values(), fusion, cache)
    drafts = {name: _repaired(draft, fusion, made, cache, work) for name, draft in drafts.items()}
    folder = work.scratch / f"fused-{number}"
    loops = _loops(drafts.values())
    refused = {(name, a) for name in loops for a in fusion.architectures} - made.keys()
    built = build(drafts, folder, fusion.architectures, compiled=made, refused=refused)
    if any(loop.refused for bucket in built.buckets for loop in bucket.loops):
        for text in described(built):
            work.reporter.note(text)
    return folder


def _loops(drafts: Iterable[Draft]) -> set[str]:
    return {k.name for draft in drafts for k in rolled_up(draft).kernels if k.steps > 1}


def _compiled(drafts: Iterable[Draft], fusion: FusionPlan, cache: KernelCache) -> _Made:
    listed = list(drafts)
    kernels = [item for draft in listed for item in (*draft.kernels, *rolled_up(draft).kernels)]
    return cache.compiled(kernels, fusion.architectures, workers=os.cpu_count() or 1)


def _draft(program: Program, launches: Sequence[LaunchPlan], number_format: str) -> Draft:
    """The plan's groups on this program.

    Raises:
        VerificationError: it has no such tensors.
    """
    try:
        groups = [[_stage_part(program, stage) for stage in launch.stages] for launch in launches]
        made = drafted(program, numbers_for(program, number_format), groups)
        told = as_told(_with_edges(made, launches), [launch.kernel for launch in launches])
        return replace(told, loops=loops_of([launch.edge for launch in launches]))
    except (KeyError, TypeError, InfoptError) as error:
        raise VerificationError(
            f"the plan's kernels do not fit the model as this version reads it: {error}",
            fix="plan again",
        ) from None


def _with_edges(draft: Draft, launches: Sequence[LaunchPlan]) -> Draft:
    """The draft with the edges of the plan."""
    moved = tuple(
        (parts, let_go(item, early=planned.lets_go_early))
        for (parts, item), planned in zip(draft.launches, launches, strict=True)
    )
    late = {
        item.name
        for (_, item), planned in zip(moved, launches, strict=True)
        if planned.edge == "graph node"
    }
    return replace(draft, launches=moved, waiting=frozenset(late))


def _stage_part(program: Program, planned: StagePlan) -> StagePart:
    stage = closure(program, planned.root, planned.reads, planned.also)
    return _configured(program, stage, Config(**planned.config))


def _configured(program: Program, stage: Stage, config: Config) -> StagePart:
    shape = shape_of(program, stage)
    return StagePart(stage, tile(program, stage, shape, config), shape.anchor)


# ---------------------------------------------------------------------- what does not compile
def _repaired(
    draft: Draft, fusion: FusionPlan, made: _Made, cache: KernelCache, work: Workspace
) -> Draft:
    """The draft with another configuration wherever a kernel did not compile for some device."""
    launches = []
    for parts, item in draft.launches:
        if not _is_there(item, fusion, made):
            parts, item = _rival(draft, parts, fusion, made, cache)
            work.reporter.note(f"{parts[0].stage.root}: the chosen configuration is refused")
        launches.append((parts, item))
    changed = replace(draft, launches=tuple(launches))
    others = [item for item in rolled_up(draft).kernels if item.steps == 1]
    is_whole = all(_is_there(item, fusion, made) for item in others)
    if draft.loops and (changed.launches != draft.launches or not is_whole):
        work.reporter.note("no loops: a kernel beside them is refused")
        changed = replace(changed, loops=())
    return changed


def _is_there(item: Kernel, fusion: FusionPlan, made: Mapping[tuple[str, int], Compiled]) -> bool:
    return all((item.name, architecture) in made for architecture in fusion.architectures)


def _rival(
    draft: Draft,
    parts: Sequence[StagePart],
    fusion: FusionPlan,
    made: _Made,
    cache: KernelCache,
) -> tuple[tuple[StagePart, ...], Kernel]:
    """Raises InfoptError: no configuration compiles for every architecture."""
    choices = [candidates(shape_of(draft.program, part.stage))[:_RIVALS] for part in parts]
    for attempt in range(_RIVALS):
        moved = tuple(
            _configured(draft.program, part.stage, listed[min(attempt, len(listed) - 1)])
            for part, listed in zip(parts, choices, strict=True)
        )
        item = kernel(draft.program, moved, draft.numbers)
        made.update(cache.compiled([item], fusion.architectures, workers=1))
        if _is_there(item, fusion, made):
            return moved, item
    raise InfoptError(
        f"no configuration of the kernel that makes {parts[0].stage.root!r} compiles",
        fix="plan again without this device's architectures, or report the model",
    )
