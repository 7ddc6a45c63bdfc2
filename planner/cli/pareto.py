"""`infopt pareto`: the trade-off curve."""

from __future__ import annotations

from typing import Any

import click

from planner.cli.console import reporting, show, show_json
from planner.cli.options import constraint_options, resolved


@click.command(short_help="Show what a model can trade for what.")
@constraint_options
@click.option("--json", "as_json", is_flag=True, help="Print the curve as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def pareto(constraints_file: str | None, as_json: bool, quiet: bool, **flags: Any) -> None:
    """Show what latency, memory and error MODEL can trade for each other."""
    request = resolved(constraints_file, flags)
    from planner import pipeline
    from planner.report.pareto import render

    with reporting(quiet) as reporter:
        curve = pipeline.pareto(request.constraints, reporter=reporter)
    if as_json:
        show_json(curve)
    else:
        show(render(curve))
