"""A plan for several devices, for a terminal: the answer, the bars, the alternatives."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.report.remade import remade_rows
from planner.report.text import facts, percent, safe
from planner.spec.placement import Alternative, Breakdown, MemoryBar, PlacementPlan, StagePlan
from planner.spec.plan import Plan
from planner.units import format_duration, format_size

BAR = 32
"""Characters of a bar."""
_KILO, _MILLION = 1000, 1e6
_SMALL_USD = 1e-4
"""A smaller price is told of a million queries."""
_CLEARLY = 0.9
"""Share of a price from which on another is told."""
_AS_FAST = 1.01
"""Longest time, against another's, that is as good."""
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
        _alternatives(plan, placement),
        *[Text(line, overflow="fold") for line in _without_plan(placement)],
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
        ("promise", _promise(plan)),
        ("price", safe(_price(placement))),
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


def _price(placement: PlacementPlan) -> str:
    if placement.price_per_hour is None or placement.price_per_query is None:
        return placement.price_source
    return (
        f"{placement.price_per_hour:.2f} USD an hour, {per_query(placement.price_per_query)} "
        f"({placement.price_source}){_cheaper(placement, placement.price_per_query)}"
    )


def _cheaper(placement: PlacementPlan, price: float) -> str:
    """The alternative that keeps the promise for least a query, where that is clearly less."""
    rivals = [
        (each.price_per_query, each.name)
        for each in placement.alternatives
        if each.status == "feasible" and not each.reason and each.price_per_query is not None
    ]
    best, name = min(rivals, default=(price, ""))
    return f"; least: {per_query(best)} with {name}" if best < _CLEARLY * price else ""


def _energy(placement: PlacementPlan) -> str:
    joules = placement.energy_per_query_j
    if joules is None:
        return "no source says what this device draws"
    text = f"{joules / 1e3:,.3g} kJ" if joules >= _KILO else f"{joules:.3g} J"
    return f"{text} a query (board power under load, while devices work for it)"


def per_query(usd: float) -> str:
    """`0.0123 USD a query`; of a million, where one costs next to nothing."""
    if usd < _SMALL_USD:
        return f"{usd * _MILLION:.3g} USD a million queries"
    return f"{usd:.3g} USD a query"


def _is_small(placement: PlacementPlan) -> bool:
    """Whether prices are told of a million queries."""
    price = placement.price_per_query
    return price is not None and price < _SMALL_USD


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


def _alternatives(plan: Plan, placement: PlacementPlan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("alternatives", overflow="fold", min_width=11)
    table.add_column("layout", overflow="fold", min_width=10)
    table.add_column("weights as", overflow="fold")
    for shape in plan.workload:
        table.add_column(safe(shape.name), justify="right", no_wrap=True)
    many, scale = ("a million queries", _MILLION) if _is_small(placement) else ("one query", 1.0)
    for name in ("query", "gap", "USD", "error"):
        table.add_column(name, justify="right", no_wrap=True)
    table.caption = f"gap: how far a better plan of that row may be, proved; USD: of {many}"
    table.caption_justify = "left"
    for each in placement.alternatives:
        if each.query_us is not None:
            style = "bold" if each.status == "chosen" else ""
            note = each.reason or _in_vain(placement.alternatives, each, each.query_us)
            cells = _alternative(plan, each, each.query_us, note, scale)
            table.add_row(*cells, style=style)
    return table


def _in_vain(others: Sequence[Alternative], each: Alternative, query_us: float) -> str:
    """Whether fewer devices are as fast, as far as one can tell."""
    fewer = [
        other.devices
        for other in others
        if other.query_us is not None
        and not other.reason
        and other.devices < each.devices
        and other.query_us <= query_us * _AS_FAST
    ]
    return f"no faster than {min(fewer)} GPU{'s' * (min(fewer) > 1)}" if fewer else ""


def _without_plan(placement: PlacementPlan) -> list[str]:
    """Alternatives that have none, those with one reason on one line."""
    found: dict[str, list[str]] = {}
    for each in placement.alternatives:
        if each.query_us is None:
            found.setdefault(f"{each.status}: {each.reason}", []).append(each.name)
    return [safe(f"{'; '.join(names)}: {reason}") for reason, names in found.items()]


def _alternative(
    plan: Plan, each: Alternative, query_us: float, told: str, scale: float
) -> tuple[str, ...]:
    mark = {"chosen": " <- chosen", "uncertain": " (uncertain)"}.get(each.status, "")
    note = f": {told}" if told else ""
    streams = f"; {format_size(each.streamed_size_bytes)} streamed"
    return (
        safe(f"{each.name}{mark}{note}"),
        safe(each.layout),
        safe(_counts(each.formats) + (streams if each.streamed_size_bytes else "")),
        *[format_duration(each.latency_us[shape.name]) for shape in plan.workload],
        format_duration(query_us),
        percent(each.gap, 1) if each.gap is not None else "?",
        f"{scale * each.price_per_query:.3g}" if each.price_per_query is not None else "",
        f"{each.error:.1e}" if each.error is not None else "",
    )


def _counts(formats: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in formats.items())
