"""`infopt spread`: a plan for one device, spread over several."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from planner.cli.console import reporting, show_json, tell


@click.command(short_help="Spread a plan over several ranks: sharded, or a pipeline.")
@click.argument("plan_file", metavar="PLAN", default="plan.json", type=click.Path(path_type=Path))
@click.option("--tensor", type=click.IntRange(1, 64), default=1, help="Ranks that share operators.")
@click.option("--pipeline", type=click.IntRange(1, 64), default=1, help="Stages one after another.")
@click.option(
    "--device", type=click.Choice(("cpu", "cuda")), default="cpu", show_default=True,
    help="What each rank runs on: cores of this machine, or a GPU of its own.",
)  # fmt: skip
@click.option("--model", type=click.Path(path_type=Path), help="Where the model is now.")
@click.option(
    "-o", "--output", default=Path("spread.json"), show_default=True,
    type=click.Path(path_type=Path), help="Where the new plan goes.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the new plan as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def spread(
    plan_file: Path,
    tensor: int,
    pipeline: int,
    device: Literal["cpu", "cuda"],
    model: Path | None,
    output: Path,
    as_json: bool,
    quiet: bool,
) -> None:
    """Spread PLAN over --tensor x --pipeline ranks, a process each; `infopt deploy` runs it.

    Operators are cut by their own meaning, weights are sliced, and ranks talk through MPI, gloo or
    NCCL. The time is predicted from the parts and from collectives measured here.
    """
    from planner import pipeline as story
    from planner.errors import UsageError
    from planner.spec.io import read_plan, write_plan
    from planner.spec.writing import refuse_unwritable
    from planner.units import format_duration

    if tensor * pipeline < 2:
        raise UsageError("one rank is no spread", fix="give --tensor 2 or --pipeline 2")
    refuse_unwritable(output)
    with reporting(quiet) as reporter:
        spread_plan = story.spread(
            read_plan(plan_file), tensor=tensor, stages=pipeline, device=device, model=model,
            reporter=reporter,
        )  # fmt: skip
    written = write_plan(output, spread_plan)
    if as_json:
        show_json(written)
        return
    for shape, found in written.prediction.latency_p50_us.items():
        tell(
            f"{shape}: {tensor * pipeline} ranks, {format_duration(found.expected)} predicted "
            f"[{format_duration(found.low)} .. {format_duration(found.high)}]"
        )
    tell(f"wrote {output}")
