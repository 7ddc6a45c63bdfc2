"""From a plan's groups to parts of an engine: cubins ahead of time, and the library path beside."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from planner.emit.blueprint import Part
from planner.errors import InfoptError, VerificationError
from planner.fuse.ahead import as_told
from planner.fuse.build import Draft, Order, build, drafted
from planner.fuse.candidates import closure
from planner.fuse.roll import kept, loops_of, rolled_up
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
        made = _part(number, segment, is_whole, files, plan.model.size_bytes, folder, work)
        parts.append(replace(made, shared_percent=_share(plan, planned)))
    return tuple(parts)


def _share(plan: Plan, planned: Sequence[SegmentPlan]) -> int | None:
    """What a part's kernels were tuned with under the workload shape that runs most, of those they
    were tuned for: all shapes of a part are one session, which asks for one share."""
    weights = [shape.weight for shape in plan.workload]
    tuned = [
        (weight, -number, one.shared_percent)
        for number, (weight, one) in enumerate(zip(weights, planned, strict=True))
        if one.shared_percent is not None
    ]
    return max(tuned)[2] if tuned else None


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
    orders = [
        one
        for name, draft in drafts.items()
        for one in _orders(name, draft, fusion, made, cache, work)
    ]
    folder = work.scratch / f"fused-{number}"
    wanted = {(name, a) for one in orders for name in _loops(one.draft) for a in one.architectures}
    built = build(orders, folder, fusion.architectures, compiled=made, refused=wanted - made.keys())
    if any(loop.refused for bucket in built.buckets for loop in bucket.loops):
        for text in described(built):
            work.reporter.note(text)
    return folder


def _loops(draft: Draft) -> set[str]:
    return {item.name for item in rolled_up(draft).kernels if item.steps > 1}


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
def _orders(
    name: str, draft: Draft, fusion: FusionPlan, made: _Made, cache: KernelCache, work: Workspace
) -> list[Order]:
    """The draft for each architecture: as planned wherever it compiles, so that a device that has
    less of something (shared memory, registers) costs the others nothing."""
    found: dict[object, Order] = {}
    for architecture in fusion.architectures:
        one = _repaired(draft, architecture, made, cache, work)
        key = tuple(item.name for item in one.kernels), one.loops
        known = found.get(key, Order(name, one, ()))
        found[key] = replace(known, architectures=(*known.architectures, architecture))
    return list(found.values())


def _repaired(
    draft: Draft, architecture: int, made: _Made, cache: KernelCache, work: Workspace
) -> Draft:
    """The draft with another configuration wherever a kernel does not compile for a device."""
    launches = []
    refused: dict[str, list[str]] = {}
    attempts: dict[str, int] = {}
    for parts, item in draft.launches:
        if (item.name, architecture) not in made:
            name = item.name
            refused.setdefault(name, []).append(parts[0].stage.root)
            first = attempts.get(name, 0)  # equal kernels: what was refused once is refused again
            parts, item, attempts[name] = _rival(draft, parts, architecture, made, cache, first)
        launches.append((parts, item))
    for roots in refused.values():
        more = f" and of {len(roots) - 1} like it" if len(roots) > 1 else ""
        work.reporter.note(
            f"{roots[0]}: the chosen configuration of it{more} is refused for sm_{architecture}"
        )
    changed = kept(replace(draft, launches=tuple(launches)))
    if not changed.loops:
        return changed
    rolled = rolled_up(changed).kernels
    made.update(cache.compiled(rolled, [architecture], workers=1))
    if all((item.name, architecture) in made for item in rolled if item.steps == 1):
        return changed
    work.reporter.note(f"no loops on sm_{architecture}: a kernel beside them is refused")
    return replace(changed, loops=())


def _rival(
    draft: Draft,
    parts: Sequence[StagePart],
    architecture: int,
    made: _Made,
    cache: KernelCache,
    first: int,
) -> tuple[tuple[StagePart, ...], Kernel, int]:
    """The launch in the first configuration from the `first` on that compiles, and which that is.

    Raises:
        InfoptError: none compiles for the architecture.
    """
    choices = [candidates(shape_of(draft.program, part.stage))[:_RIVALS] for part in parts]
    for attempt in range(first, _RIVALS):
        moved = tuple(
            _configured(draft.program, part.stage, listed[min(attempt, len(listed) - 1)])
            for part, listed in zip(parts, choices, strict=True)
        )
        item = kernel(draft.program, moved, draft.numbers)
        if (item.name, architecture) not in made:
            made.update(cache.compiled([item], [architecture], workers=1))
        if (item.name, architecture) in made:
            return moved, item, attempt
    raise InfoptError(
        f"no configuration of the kernel that makes {parts[0].stage.root!r} compiles for "
        f"sm_{architecture}",
        fix="plan again without this device's architectures, or report the model",
    )
