"""Generated kernels as tables: groups with their times, and what the compiler made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.kernels.occupancy import occupancy
from planner.report.text import facts, safe
from planner.runtime.fused.manifest import Binary
from planner.spec.fusion import BucketPlan, FusionPlan, LaunchPlan
from planner.spec.plan import Plan
from planner.units import format_duration, format_size


@dataclass(frozen=True, slots=True)
class Built:
    """What is known once an engine was built: binaries of one architecture, and measured times."""

    binaries: Mapping[str, Binary]
    """By kernel."""
    measured_us: Mapping[str, float]
    """By kernel; empty before `infopt verify` ran on the device."""
    part_us: Mapping[str, float]
    """`kernels`, `ONNX Runtime` -> microseconds of a call, all parts together."""
    loops: tuple[str, ...] = ()
    """How steps of loops run, where the engine was built for and where it was verified."""


NOTHING_BUILT = Built({}, {}, {})


def floor_text(bucket: BucketPlan) -> str:
    """`42 us = 2.5 launch + 2.5 memory (compute 0.4) + 60 levels x 0.62; predicted 4.2x of it`."""
    least = bucket.floor
    slower, faster = ("memory", "compute")
    big, small = least.memory_us, least.compute_us
    if small > big:
        slower, faster, big, small = faster, slower, small, big
    return (
        f"{format_duration(least.total_us)} = {least.launch_us:.1f} launch + {big:.1f} {slower} "
        f"({faster} {small:.1f}) + {least.levels} levels x {least.level_us:.2f}; "
        f"predicted {bucket.distance:.1f}x of it"
    )


def rows(plan: Plan) -> list[tuple[str, str]]:
    """What the summary says of kernels."""
    fusion = plan.fusion
    if fusion is None:
        return []
    found = [("kernels", _kernels(fusion))]
    for bucket in fusion.buckets:
        label = safe(plan.label(bucket.shape))
        found.append(("floor", label + floor_text(bucket)))
        if fusion.operators_in_a_row:
            found.append(("levels", label + levels_text(bucket, fusion.operators_in_a_row)))
        if bucket.measured_us is not None:
            text = f"{format_duration(bucket.measured_us)} on this machine's GPU, tuned there"
            found.append(("measured", label + text + shares_text(bucket)))
    return found


def levels_text(bucket: BucketPlan, operators: int) -> str:
    """`72 in a row (61 by what they read), 250 operators in a row: 0.29`."""
    return (
        f"{bucket.in_a_row} launches in a row ({bucket.levels} by what they read), "
        f"{operators} operators in a row: {bucket.in_a_row / operators:.2f}"
    )


def shares_text(bucket: BucketPlan) -> str:
    """`, kernels ask for 25 % as shared memory`; empty where they were not tuned."""
    percents = (one.shared_percent for one in bucket.segments if one.kind == "fused")
    known = dict.fromkeys(percent for percent in percents if percent is not None)
    if not known:
        return ""
    told = (f"{percent} %" if percent >= 0 else "what the driver chooses" for percent in known)
    return f", kernels ask for {', '.join(told)} as shared memory"


def _kernels(fusion: FusionPlan) -> str:
    launches = launches_of(fusion.buckets[0])
    distinct = len({launch.kernel for launch in launches})
    library = sum(segment.kind == "ort" for segment in fusion.buckets[0].segments)
    text = (
        f"{len(launches)} launches of {distinct} kernels, {fusion.buckets[0].levels} levels, "
        f"{fusion.number_format}; "
        f"{fusion.covered_ops} of {fusion.ops} operators covered"
    )
    return text + (f"; {library} parts by ONNX Runtime" if library else "")


def launches_of(bucket: BucketPlan) -> list[LaunchPlan]:
    """All launches of a bucket, in order."""
    return [launch for segment in bucket.segments for launch in segment.launches]


def tables(plan: Plan, built: Built = NOTHING_BUILT) -> RenderableType:
    """Groups, then kernels: all that `infopt explain` shows of fusion."""
    fusion = plan.fusion
    assert fusion is not None
    parts: list[RenderableType] = [facts(rows(plan))]
    if built.part_us:
        listed = ", ".join(f"{w} {format_duration(us)}" for w, us in built.part_us.items())
        parts.append(Text(f"a call, measured on the device: {listed}"))
    parts += [Text.from_markup(safe(text)) for text in (*built.loops, *_remarks(fusion))]
    for bucket in fusion.buckets:
        parts += [Text(), _groups(bucket, built, plan.label(bucket.shape))]
    if built.binaries:
        parts += [Text(), _binaries(fusion, built)]
    return Group(*parts)


def _remarks(fusion: FusionPlan) -> list[str]:
    """Which runs of equal launches are no loops, and why."""
    kinds = [(bucket, one) for bucket in fusion.buckets for one in bucket.segments]
    return [
        f"{bucket.shape}: " * (len(fusion.buckets) > 1) + text
        for bucket, one in kinds
        if one.kind == "fused"
        for text in one.reasons
    ]


def _groups(bucket: BucketPlan, built: Built, label: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(f"{safe(label)}group", overflow="fold")
    for name in ("blocks", "kept", "predicted", "measured", "floor"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("edge", no_wrap=True)
    for segment in bucket.segments:
        if segment.kind == "ort":
            text = f"ONNX Runtime: {len(segment.ops)} operators"
            table.add_row(text, "", "", format_duration(segment.predicted_us), "", "", "")
        for launch in segment.launches:
            measured = built.measured_us.get(launch.kernel)
            table.add_row(
                safe(f"{launch.name}  {_ops_text(launch)}"),
                f"{launch.programs}x{32 * launch.warps}",
                format_size(launch.kept_bytes) if launch.kept_bytes else "-",
                format_duration(launch.predicted_us),
                "-" if measured is None else format_duration(measured),
                format_duration(launch.floor_us),
                launch.edge,
            )
    return table


def _ops_text(launch: LaunchPlan) -> str:
    """`3 operators, 2 stages`."""
    stages = f", {len(launch.stages)} side by side" if len(launch.stages) > 1 else ""
    return f"({len(launch.ops)} operators{stages})"


def _binaries(fusion: FusionPlan, built: Built) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("kernel", no_wrap=True)
    for name in ("regs", "spilled", "shared", "resident", "predicted", "measured", "off"):
        table.add_column(name, justify="right", no_wrap=True)
    launches = [launch for bucket in fusion.buckets for launch in launches_of(bucket)]
    count = Counter(launch.kernel for launch in launches)
    predicted = {launch.kernel: launch.predicted_us for launch in launches}
    for kernel, number in count.most_common():
        item = built.binaries.get(kernel)
        if item is None:
            continue
        share = occupancy(item.architecture, item.threads, item.registers, item.shared_size_bytes)
        measured = built.measured_us.get(kernel)
        table.add_row(
            f"{number} x {kernel.removeprefix('fused_')}",
            str(item.registers),
            format_size(item.stack_size_bytes) if item.stack_size_bytes else "-",
            format_size(item.shared_size_bytes),
            f"{share:.0%}",
            format_duration(predicted[kernel]),
            "-" if measured is None else format_duration(measured),
            "-" if measured is None else f"{predicted[kernel] / measured - 1:+.0%}",
        )
    return table
