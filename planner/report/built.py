"""What an engine directory tells about its kernels, for `infopt explain`."""

from __future__ import annotations

from pathlib import Path

from planner.errors import SpecError, UsageError
from planner.report.fusion import NOTHING_BUILT, Built
from planner.report.fusion_figure import figure
from planner.runtime.fused import manifest as fused
from planner.runtime.fused.loops import described
from planner.runtime.fused.manifest import Binary
from planner.runtime.integrity import VERIFIED, read_manifest
from planner.spec.io import read_verified_file
from planner.spec.plan import Plan
from planner.spec.verified import Verified


def built_of(engine: Path | None, plan: Plan) -> Built:
    """Binaries and measured times; nothing where there is only a plan.

    Raises:
        VerificationError: the engine is damaged.
    """
    if engine is None or plan.fusion is None:
        return NOTHING_BUILT
    verified = _verified(engine)
    wanted = verified.architecture if verified else max(plan.fusion.architectures)
    binaries: dict[str, Binary] = {}
    loops: list[str] = []
    for segment in read_manifest(engine).fused_segments:
        found = fused.read(engine / segment.folder)
        loops += described(found)
        for item in sorted(found.binaries, key=lambda item: item.architecture):
            if item.architecture <= wanted:
                binaries[item.kernel] = item
    if verified is None:
        return Built(binaries, {}, {}, tuple(loops))
    here = [f"on {verified.device}: {text}" for one in verified.segments for text in one.loops]
    timed = verified.segments
    measured = {kernel: us for one in timed for kernel, us in one.kernel_us.items()}
    calls = {
        "kernels": sum(sum(one.fused_us.values()) for one in timed),
        "ONNX Runtime": sum(sum(one.library_us.values()) for one in timed),
    }
    return Built(binaries, measured, {way: us for way, us in calls.items() if us}, (*loops, *here))


def _verified(engine: Path) -> Verified | None:
    try:
        return read_verified_file(engine / VERIFIED)
    except SpecError:
        return None


def drawn(plan: Plan, built: Built, *, as_html: bool) -> str:
    """The figure of the first bucket as SVG, or of all buckets as one page.

    Raises:
        UsageError: nothing of the plan runs as generated kernels.
    """
    if plan.fusion is None:
        raise UsageError("the plan generates no kernels: there is nothing to draw")
    kinds = {decision.op: decision.op_type for decision in plan.decisions}
    figures = [
        figure(bucket, kinds, f"{plan.model.path} on {plan.fusion.device} {bucket.shape}", built)
        for bucket in plan.fusion.buckets
    ]
    if not as_html:
        return figures[0]
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>kernels</title><body>'
    return head + "".join(figures) + "</body></html>"
