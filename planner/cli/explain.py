"""`infopt explain`: why each layer is what it is, or why a request cannot be met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from planner.cli.console import reporting, show, show_json
from planner.cli.options import limit_options, resolved

DEFAULT_PLAN = "plan.json"
_TYPED = click.core.ParameterSource.COMMANDLINE


@click.command(short_help="Say why each layer is what it is, or why a request cannot be met.")
@click.argument("subject", metavar="[PLAN|MODEL]", required=False)
@click.option("--layer", metavar="NAME", help="Only this layer (or a pattern), in full.")
@click.option(
    "--infeasible", is_flag=True, help="Say which limits of a request (-c, options) conflict."
)
@limit_options
@click.option("--json", "as_json", is_flag=True, help="Print the explanation as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def explain(
    subject: str | None,
    layer: str | None,
    infeasible: bool,
    constraints_file: str | None,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Say for each layer of PLAN what was chosen, what came second and what it would cost.

    With --infeasible: name the lines and options of a request that cannot hold together, the
    nearest feasible value of each, and the fastest feasible plan. It ends with 3 if the request is
    infeasible, with 0 if it is feasible. The other options only matter there.
    """
    _refuse_useless(infeasible, layer, flags)
    if infeasible:
        _explain_request({"model": subject, **flags}, constraints_file, as_json, quiet)
    else:
        _explain_plan(Path(subject or DEFAULT_PLAN), layer, as_json)


def _refuse_useless(infeasible: bool, layer: str | None, flags: dict[str, Any]) -> None:
    """An option that is silently ignored is a question that is not answered."""
    from planner.errors import UsageError

    if infeasible and layer is not None:
        raise UsageError("means nothing with --infeasible", where="--layer")
    given = [name for name, value in flags.items() if value not in (None, ())]
    if click.get_current_context().get_parameter_source("constraints_file") is _TYPED:
        given.append("constraints")
    if not infeasible and given:
        option = f"--{given[0].replace('_', '-')}"
        raise UsageError("means nothing without --infeasible", where=option)


def _explain_plan(plan_file: Path, layer: str | None, as_json: bool) -> None:
    import json

    from planner.report.explain import explain as explained
    from planner.report.explain import matching
    from planner.spec.io import read_plan

    plan = read_plan(plan_file)
    if not as_json:
        show(explained(plan, layer))
        return
    decisions = matching(plan, layer) if layer else plan.decisions
    click.echo(json.dumps([decision.model_dump(mode="json") for decision in decisions], indent=2))


def _explain_request(
    flags: dict[str, Any], constraints_file: str | None, as_json: bool, quiet: bool
) -> None:
    request = resolved(constraints_file, flags)
    from planner import pipeline
    from planner.errors import InfeasibleError
    from planner.report.infeasible import render

    with reporting(quiet) as reporter:
        found = pipeline.explain_infeasible(request.constraints, reporter=reporter)
    report = found.written_at(request.provenance)
    if as_json:
        show_json(report)
    else:
        show(render(report))
    if not report.feasible:
        raise InfeasibleError(report.reason, where=report.model)
