"""`infopt verify`: does an engine keep its promise, here and now?"""

from __future__ import annotations

from pathlib import Path

import click

from planner.cli.console import reporting
from planner.cli.deploy import check, publish


@click.command(short_help="Check again that an engine keeps its promise.")
@click.argument("engine", default="engine", type=click.Path(path_type=Path))
@click.option("--junit", type=click.Path(path_type=Path), help="Also write JUnit XML.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Also write Markdown.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def verify(
    engine: Path, junit: Path | None, markdown: Path | None, as_json: bool, quiet: bool
) -> None:
    """Check ENGINE again: files, device, answers, accuracy, latency."""
    from planner.spec.writing import refuse_unwritable

    refuse_unwritable(junit, markdown)
    with reporting(quiet) as reporter:
        verdict = check(engine, reporter)
    publish(verdict, as_json, junit, markdown)
