"""`infopt explain`: why each layer is what it is."""

from __future__ import annotations

from pathlib import Path

import click

from planner.cli.console import show


@click.command(short_help="Say why each layer is what it is.")
@click.argument("plan_file", metavar="PLAN", default="plan.json", type=click.Path(path_type=Path))
@click.option("--layer", metavar="NAME", help="Only this layer (or a pattern), in full.")
@click.option("--json", "as_json", is_flag=True, help="Print the decisions as JSON.")
def explain(plan_file: Path, layer: str | None, as_json: bool) -> None:
    """Say for each layer of PLAN what was chosen, what came second and what it would cost."""
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
