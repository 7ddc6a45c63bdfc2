"""Per layer: what was chosen, why, what came second, and what that would cost."""

from __future__ import annotations

import fnmatch

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.errors import UsageError
from planner.report import streaming
from planner.report.fusion import NOTHING_BUILT, Built, tables
from planner.report.remade import remade_rows
from planner.report.summary import accuracy_text, certificate
from planner.report.text import facts, safe
from planner.spec.plan import Decision, Plan, RunnerUp
from planner.spec.problems import nearest
from planner.units import format_duration


def explain(plan: Plan, layer: str | None = None, built: Built = NOTHING_BUILT) -> RenderableType:
    """A table of layers, or everything known about those that `layer` (a name or glob) matches.

    Raises:
        UsageError: no layer matches.
    """
    if layer is None and plan.fusion is not None:
        return Group(tables(plan, built), Text(), _legend(plan))
    if layer is None:
        found = [*streaming.rows(plan), *remade_rows(plan)]
        more: list[RenderableType] = [facts(found), Text()] if found else []
        return Group(_table(plan.decisions), Text(), *more, _legend(plan))
    chosen = matching(plan, layer)
    return Group(*[part for decision in chosen for part in (_details(plan, decision), Text())])


def matching(plan: Plan, layer: str) -> tuple[Decision, ...]:
    """The decisions whose operator is `layer` or matches it as a glob.

    Raises:
        UsageError: no layer matches; names the nearest.
    """
    names = tuple(decision.op for decision in plan.decisions)
    exact = tuple(decision for decision in plan.decisions if decision.op == layer)
    found = exact or tuple(d for d in plan.decisions if fnmatch.fnmatchcase(d.op, layer))
    if not found:
        near = nearest(layer, names)
        fix = near if near and near.startswith("did") else "`infopt explain` lists all layers"
        raise UsageError(f"no layer is called {layer!r}", fix=fix)
    return found


def _table(decisions: tuple[Decision, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("layer", overflow="fold", ratio=3)
    table.add_column("type", overflow="fold")
    table.add_column("chosen", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("error", justify="right", no_wrap=True)
    table.add_column("runner-up would cost", overflow="fold", ratio=2)
    for decision in decisions:
        table.add_row(
            safe(decision.op),
            safe(decision.op_type),
            safe(decision.format),
            format_duration(decision.predicted_us) if decision.predicted_us else "",
            f"{decision.error:.1e}" if decision.error else "0",
            safe(runner_up_text(decision.runner_up)),
        )
    return table


def runner_up_text(runner_up: RunnerUp | None) -> str:
    """`fp16: +12 us, error -1e-4`; what forcing the second best would change in the whole plan."""
    if runner_up is None:
        return "no alternative"
    parts = []
    if runner_up.delta_us is not None:
        sign = "+" if runner_up.delta_us >= 0 else "-"
        parts.append(f"{sign}{format_duration(abs(runner_up.delta_us))}")
    if runner_up.delta_error:
        parts.append(f"error {runner_up.delta_error:+.1e}")
    text = ", ".join(parts) or runner_up.reason
    return f"{runner_up.format}: {text}" if runner_up.format else text


def _details(plan: Plan, decision: Decision) -> RenderableType:
    together = [d.op for d in plan.decisions if d.group == decision.group and d.op != decision.op]
    rows = [
        ("layer", safe(f"{decision.op} ({decision.op_type})")),
        ("chosen", safe(f"{decision.format}: {decision.reason}")),
        ("time", f"{format_duration(decision.predicted_us)} predicted for its kernel"),
        ("error", f"{decision.error:.2e} NMSE at the outputs"),
        ("runner-up", safe(runner_up_text(decision.runner_up))),
    ]
    if decision.runner_up is not None:
        rows.append(("it lost", safe(decision.runner_up.reason)))
    if together:
        rows.append(("runs with", safe(", ".join(together))))
    rows += [
        ("not offered", safe(f"{rejected.format}: {rejected.reason}"))
        for rejected in plan.rejected
        if rejected.op == decision.op
    ]
    return facts(rows)


def _legend(plan: Plan) -> RenderableType:
    names = ", ".join(shape.name for shape in plan.workload if plan.label(shape.name))
    over = f" over the workload ({safe(names)})" if names else ""
    return facts(
        [
            ("time", f"predicted{over}, shown at the first layer of each kernel"),
            ("runner-up", "change of the whole plan if that layer were forced to it"),
            ("accuracy", safe(accuracy_text(plan))),
            ("solver", safe(certificate(plan))),
        ]
    )
