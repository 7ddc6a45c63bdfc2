"""`infopt pareto`: the trade-off curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from planner.cli.console import reporting, show, show_json, write_text
from planner.cli.options import constraint_options, located, resolved
from planner.errors import InfoptError


@click.command(short_help="Show what a model can trade for what.")
@constraint_options
@click.option(
    "--axes",
    metavar="LIST",
    help="Two or three of latency, memory, error, cost, query, devices: latency,error.",
)
@click.option("--points", type=click.IntRange(2, 1000), default=12, help="At most so many plans.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write the curve as CSV.")
@click.option("--svg", "svg_file", type=click.Path(path_type=Path), help="Draw the curve.")
@click.option("--json", "as_json", is_flag=True, help="Print the curve as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def pareto(
    constraints_file: str | None,
    axes: str | None,
    points: int,
    csv_file: Path | None,
    svg_file: Path | None,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Show what MODEL can trade for what: latency, memory, error, cost, devices.

    With the --target of another device: how much faster more of them are, and what that costs by
    the hour (cost) and for each run of the workload (query).
    """
    request = resolved(constraints_file, flags)
    from planner import pipeline
    from planner.report.pareto import render
    from planner.report.pareto_files import to_csv, to_svg
    from planner.spec.writing import refuse_unwritable

    refuse_unwritable(csv_file, svg_file)
    names = [name.strip() for name in axes.split(",")] if axes is not None else None
    try:
        with reporting(quiet) as reporter:
            curve = pipeline.pareto(
                request.constraints, axes=names, points=points, reporter=reporter
            )
    except InfoptError as error:
        raise located(error, request) from None
    if csv_file is not None:
        write_text(csv_file, to_csv(curve))
    if svg_file is not None:
        write_text(svg_file, to_svg(curve))
    if as_json:
        show_json(curve)
    else:
        show(render(curve))
