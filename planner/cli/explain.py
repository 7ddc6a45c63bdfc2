"""`infopt explain`: why each layer is what it is, or why a request cannot be met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from planner.cli.console import reporting, show, show_json, write_text
from planner.cli.options import limit_options, resolved

DEFAULT_PLAN = "plan.json"
_TYPED = click.core.ParameterSource.COMMANDLINE


@click.command(short_help="Say why each layer is what it is, or why a request cannot be met.")
@click.argument("subject", metavar="[PLAN|ENGINE|MODEL]", required=False)
@click.option("--figure", metavar="FILE", help="Draw the graph coloured by kernel: SVG or HTML.")
@click.option("--layer", metavar="NAME", help="Only this layer (or a pattern), in full.")
@click.option(
    "--infeasible", is_flag=True, help="Say which limits of a request (-c, options) conflict."
)
@limit_options
@click.option("--json", "as_json", is_flag=True, help="Print the explanation as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def explain(
    subject: str | None,
    figure: str | None,
    layer: str | None,
    infeasible: bool,
    constraints_file: str | None,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Say for each layer of PLAN what was chosen, what came second and what it would cost.

    Where kernels are generated: groups, times and the distance to the floor; of an engine directory
    in place of PLAN also registers, shared memory, occupancy, and measured times once verified.

    With --infeasible: name the lines and options of a request that cannot hold together, the
    nearest feasible value of each, and the fastest feasible plan. It ends with 3 if the request is
    infeasible, with 0 if it is feasible. The other options only matter there.
    """
    _refuse_useless(infeasible, layer, figure, flags)
    if infeasible:
        _explain_request({"model": subject, **flags}, constraints_file, as_json, quiet)
    else:
        _explain_plan(Path(subject or DEFAULT_PLAN), layer, as_json, figure)


def _refuse_useless(
    infeasible: bool, layer: str | None, figure: str | None, flags: dict[str, Any]
) -> None:
    """An option that is silently ignored is a question that is not answered."""
    from planner.errors import UsageError

    if infeasible and (layer is not None or figure is not None):
        where = "--layer" if layer is not None else "--figure"
        raise UsageError("means nothing with --infeasible", where=where)
    if figure is not None and layer is not None:
        raise UsageError("means nothing with --figure, which draws all layers", where="--layer")
    given = [name for name, value in flags.items() if value not in (None, ())]
    if click.get_current_context().get_parameter_source("constraints_file") is _TYPED:
        given.append("constraints")
    if not infeasible and given:
        option = f"--{given[0].replace('_', '-')}"
        raise UsageError("means nothing without --infeasible", where=option)


def _explain_plan(subject: Path, layer: str | None, as_json: bool, figure: str | None) -> None:
    import json

    from planner.report.built import built_of
    from planner.report.explain import explain as explained
    from planner.report.explain import matching
    from planner.spec.io import read_plan

    is_engine = subject.is_dir()
    plan = read_plan(subject / "plan.json" if is_engine else subject)
    built = built_of(subject if is_engine else None, plan)
    if figure is not None:
        from planner.report.built import drawn

        write_text(Path(figure), drawn(plan, built, as_html=not figure.endswith(".svg")))
    if as_json:
        decisions = matching(plan, layer) if layer else plan.decisions
        found = [decision.model_dump(mode="json") for decision in decisions]
        click.echo(json.dumps(found, indent=2))
    elif figure is None:
        show(explained(plan, layer, built))


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
