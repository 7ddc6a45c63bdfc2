"""`infopt profile`: what this device can do, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from planner.cli.console import reporting, show, show_json, tell


@click.command(short_help="Measure what this device can do.")
@click.option(
    "--device", type=click.Choice(("cpu", "cuda")), default="cpu", show_default=True,
    help="This machine's cores, or its first GPU.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Where the profile goes  [NAME.yaml]."
)
@click.option("--json", "as_json", is_flag=True, help="Print the profile as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def profile(
    device: Literal["cpu", "cuda"], output: Path | None, as_json: bool, quiet: bool
) -> None:
    """Measure memory, products per format, launches and links of a device; write a profile YAML."""
    from planner import pipeline
    from planner.report.devices import details
    from planner.spec.profile import write_profile
    from planner.spec.writing import refuse_unwritable

    refuse_unwritable(output or Path("profile.yaml"))
    with reporting(quiet) as reporter:
        measured = pipeline.profile_device(device=device, reporter=reporter)
    path = output or Path(f"{measured.name}.yaml")
    write_profile(path, measured)
    if as_json:
        show_json(measured)
    else:
        show(details(measured))
    next_step = (
        f"infopt plan MODEL --target {path}" if device == "cuda" else f"infopt devices {path}"
    )
    tell(f"wrote {path}; next: {next_step}")
