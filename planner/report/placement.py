"""A plan for several devices, for a terminal: the answer, the bars, the alternatives."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.report import alternatives, prices, throughput
from planner.report.remade import remade_rows
from planner.report.text import facts, percent, safe
from planner.spec.placement import Breakdown, MemoryBar, PlacementPlan, StagePlan
from planner.spec.plan import Plan
from planner.units import format_duration, format_size

BAR = 32
"""Characters of a bar."""
_KILO = 1000
_PARTS = (("weights", "█"), ("cache", "▓"), ("activations", "▒"), ("runtime", "░"))


def summary(plan: Plan, placement: PlacementPlan) -> RenderableType:
    """What a person wants to know first."""
    title = Text(f"infopt plan · {plan.model.path}", style="bold", overflow="fold")
    return Group(
        title,
        facts(_rows(plan, placement)),
        Text(),
        _stages(placement),
        Text(_legend(), style="dim"),
        Text(),
        _latency(plan, placement),
        Text(),
        alternatives.table(plan, placement),
        *[Text(line, overflow="fold") for line in alternatives.without_plan(placement)],
        Text(),
        *[Text(f"! {warning}", style="yellow", overflow="fold") for warning in plan.warnings],
    )


def _rows(plan: Plan, placement: PlacementPlan) -> list[tuple[str, str]]:
    model = plan.model
    count = placement.devices
    device = f"{count} x {placement.device}"
    if placement.node is not None and count > 1:
        device += f" in {placement.node}"
    return [
        ("model", f"{model.ops:,} operators, {model.parameters:,} parameters"),
        ("answer", f"[bold]{safe(device)}[/]: {safe(placement.layout)}"),
        ("formats", safe(_formats(placement))),
        ("swapped", safe(_swapped(placement))),
        *remade_rows(plan),
        ("time", safe(_query(plan, placement))),
        ("promise", "; ".join([_promise(plan), *throughput.verdict(plan)])),
        ("price", safe(prices.text(placement))),
        ("energy", _energy(placement)),
        ("accuracy", safe(_accuracy(plan, placement))),
        ("the SLO costs", safe(placement.slo_cost)),
        ("solver", safe(certificate(plan))),
    ]


def _formats(placement: PlacementPlan) -> str:
    total: dict[str, int] = {}
    for stage in placement.stages:
        for name, count in stage.formats.items():
            total[name] = total.get(name, 0) + count
    weighted = sorted(total.items(), key=lambda each: -each[1])
    count = sum(total.values())
    if not count:
        return f"no weights to choose for; everything {placement.base_format}"
    base = placement.base_format
    if len(weighted) == 1:
        return f"all {count} weights {weighted[0][0]}; everything else {base}"
    text = ", ".join(f"{many} {name}" for name, many in weighted)
    return f"of {count} weights {text}; everything else {base}"


def _swapped(placement: PlacementPlan) -> str:
    stages = [s for s in placement.stages if s.streamed_size_bytes]
    if not stages:
        return "nothing: all weights are resident"
    most = max(s.streamed_size_bytes for s in stages)
    counts: Counter[str] = Counter(group.residency for group in placement.groups)
    words = {"host": "in host memory", "peer": "in a neighbour's memory"}
    where = " and ".join(f"{counts[key]} {text}" for key, text in words.items() if counts[key])
    return (
        f"of {len(placement.groups)} groups, {where}; "
        f"up to {format_size(most)} stream into each device per run"
    )


def _query(plan: Plan, placement: PlacementPlan) -> str:
    parts = [f"{shape.weight:g} x {shape.name}" for shape in plan.workload]
    within = interval(placement.query.low, placement.query.high)
    one = " + ".join(parts)
    return f"{format_duration(placement.query.expected)} [{within}] for {one}"


def interval(low_us: float, high_us: float) -> str:
    """`587 .. 803 ms`: the unit once, where both have it."""
    low, high = format_duration(low_us), format_duration(high_us)
    number, _, unit = low.partition(" ")
    return f"{number if high.endswith(f' {unit}') else low} .. {high}"


def _promise(plan: Plan) -> str:
    limit = plan.promise.latency_us
    if limit is None:
        return "no latency limit was given"
    found = plan.prediction.latency_slo_us
    slowest = max(found, key=lambda name: found[name].high)
    value = found[slowest]
    name = f"p{plan.promise.latency_percentile:g}"
    word = "[green]kept[/]" if value.high <= limit else "[yellow]uncertain[/]"
    return (
        f"{safe(slowest)}: {name} up to {format_duration(value.high)} predicted, "
        f"limit {format_duration(limit)} for each run: {word}"
    )


def _energy(placement: PlacementPlan) -> str:
    joules = placement.energy_per_query_j
    if joules is None:
        return "no source says what this device draws"
    text = f"{joules / 1e3:,.3g} kJ" if joules >= _KILO else f"{joules:.3g} J"
    return f"{text} a query (board power under load, while devices work for it)"


def _accuracy(plan: Plan, placement: PlacementPlan) -> str:
    limit = plan.promise.max_error
    budget = f", budget {limit:.2g}" if limit is not None else ""
    return f"NMSE {plan.accuracy.predicted_error:.2g}{budget} ({placement.error_basis})"


def certificate(plan: Plan) -> str:
    """The proof in one line."""
    solver = plan.solver
    gap = "unknown gap" if solver.gap is None else f"gap {percent(solver.gap, 2)}"
    names = " then ".join(solver.objectives)
    goals = [name for name in solver.objectives if name != "devices"]
    fewest = ""
    if solver.objectives[:1] == ("devices",):
        proved = solver.bound[0] >= solver.objective[0]
        fewest = "fewer devices are ruled out; " if proved else "fewer devices are not ruled out; "
    return (
        f"{solver.status}, {gap} of {goals[0] if goals else 'nothing'}: {fewest}least {names} "
        f"among {solver.options:,} options, {solver.rounds} solve{'s' * (solver.rounds > 1)} "
        f"({solver.solver})"
    )


def bar(memory: MemoryBar, width: int = BAR) -> str:
    """What fills a device."""
    capacity = max(memory.capacity, 1)
    done, text, total = 0, "", 0
    for name, mark in _PARTS:
        total += int(getattr(memory, name))
        end = min(round(width * total / capacity), width)
        text += mark * (end - done)
        done = end
    return text + "·" * (width - done)


def _legend() -> str:
    marks = ", ".join(f"{mark} {name}" for name, mark in _PARTS)
    return f"{marks}, · free; activations hold scratch memory and streaming buffers too"


def _stages(placement: PlacementPlan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("stage", "GPUs", "groups"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("memory of each device", no_wrap=True)
    table.add_column("used", justify="right", no_wrap=True)
    table.add_column("weights as", overflow="fold")
    for number, stage in enumerate(placement.stages, 1):
        table.add_row(
            str(number),
            str(stage.devices),
            str(stage.groups),
            bar(stage.memory),
            f"{format_size(stage.memory.used)} of {format_size(stage.memory.capacity)}",
            safe(_stage_formats(stage)),
        )
    return table


def _stage_formats(stage: StagePlan) -> str:
    text = ", ".join(f"{count} {name}" for name, count in stage.formats.items())
    if stage.streamed_size_bytes:
        text += f"; {format_size(stage.streamed_size_bytes)} streamed"
    return text or "no weights"


def _latency(plan: Plan, placement: PlacementPlan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("time of", overflow="fold", min_width=8)
    names = ("expected", "95 %", "compute", "memory", "comm.", "launch", "swap", "floor", "x")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for shape in plan.workload:
        found = placement.breakdown[shape.name]
        predicted = plan.prediction.latency_p50_us[shape.name]
        expected = predicted.expected
        table.add_row(
            safe(shape.name),
            format_duration(expected),
            interval(predicted.low, predicted.high),
            *_shares(found, expected),
            format_duration(found.floor_us),
            f"{expected / found.floor_us:.1f}" if found.floor_us else "",
        )
    table.caption = (
        "95 %: the interval; swap: what computing does not hide of it; "
        "floor: arithmetic or memory at the peaks of the devices in use; x: times the floor"
    )
    table.caption_justify = "left"
    return table


def _shares(found: Breakdown, expected_us: float) -> list[str]:
    values = (
        found.compute_us,
        found.memory_us,
        found.communication_us,
        found.launch_us,
        found.swap_us,
    )
    if not expected_us:
        return [""] * len(values)
    return [f"{value} %" for value in whole_percents([v / expected_us for v in values])]


def whole_percents(shares: Sequence[float]) -> list[int]:
    """Percents that add up as the shares do: what rounding down leaves goes to those that lose most
    by it (largest remainders)."""
    exact = [100 * share for share in shares]
    found = [math.floor(value) for value in exact]
    left = round(sum(exact)) - sum(found)
    for number in sorted(range(len(exact)), key=lambda n: found[n] - exact[n])[:left]:
        found[number] += 1
    return found
