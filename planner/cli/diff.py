"""`infopt diff`: what changed between two plans."""

from __future__ import annotations

from pathlib import Path

import click

from planner.cli.console import show


@click.command(short_help="Show what changed between two plans, and why.")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
def diff(before: Path, after: Path, as_json: bool) -> None:
    """Show what differs between the plans BEFORE and AFTER, and why."""
    import json

    from planner.report.diff import compare, render
    from planner.spec.io import read_plan

    found = compare(read_plan(before), read_plan(after))
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
    else:
        show(render(found))
