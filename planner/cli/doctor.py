"""`infopt doctor`: is this machine fit to plan and deploy?"""

from __future__ import annotations

import click

from planner.cli.console import show


@click.command(short_help="Check that this machine is fit.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(as_json: bool) -> None:
    """Check this machine: Python, libraries, processor, memory, disk, store, GPU.

    Ends with 5 if something that planning needs is missing.
    """
    import json
    from dataclasses import asdict

    from planner.cli.health import examine
    from planner.errors import EnvironmentMismatchError
    from planner.report.health import Level, render

    findings = examine()
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        show(render(findings))
    failed = [finding for finding in findings if finding.level is Level.FAILED]
    if failed:
        raise EnvironmentMismatchError(
            "; ".join(f"{finding.name}: {finding.detail}" for finding in failed),
            fix=failed[0].hint or None,
        )
