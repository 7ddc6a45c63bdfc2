"""`infopt deploy`: plan in, verified engine out, served."""

from __future__ import annotations

from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from planner.cli.console import reporting, show, show_json, write_text
from planner.cli.elsewhere import DESTINATIONS, LOCAL, Elsewhere

if TYPE_CHECKING:
    import socket

    from planner.progress import Reporter
    from planner.spec.verdict import Verdict


@click.command(short_help="Build, verify and serve the engine of a plan.")
@click.argument("plan_file", metavar="PLAN", default="plan.json", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "engine",
    default="engine",
    show_default=True,
    envvar="INFOPT_ENGINE",
    type=click.Path(path_type=Path),
    help="The engine directory.",
)
@click.option(
    "--model", type=click.Path(path_type=Path), help="Where the model is now, if it was moved."
)
@click.option(
    "--to",
    "destination",
    type=click.Choice(DESTINATIONS),
    default="local",
    show_default=True,
    envvar="INFOPT_TO",
    help="Serve here, only build and verify, or also write another server's files.",
)
@click.option(
    "--files",
    type=click.Path(path_type=Path),
    help="Where the other server's files go  [ENGINE-TARGET].",
)
@click.option(
    "--replicas",
    type=click.IntRange(1),
    help="Copies of the engine side by side (triton, kserve, ray)  [1].",
)
@click.option("--storage-uri", metavar="URI", help="Where KServe fetches: s3://models/kws.")
@click.option("--image", help="KServe: an image with infopt in it; without one Triton serves.")
@click.option("--no-serve", is_flag=True, help="End with the verdict (for CI).")
@click.option("--host", default="127.0.0.1", show_default=True, envvar="INFOPT_HOST")
@click.option(
    "--port", default=8000, show_default=True, envvar="INFOPT_PORT", type=click.IntRange(0, 65535)
)
@click.option("--junit", type=click.Path(path_type=Path), help="Also write JUnit XML.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Also write Markdown.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def deploy(
    plan_file: Path,
    engine: Path,
    model: Path | None,
    destination: str,
    files: Path | None,
    replicas: int | None,
    storage_uri: str | None,
    image: str | None,
    no_serve: bool,
    host: str,
    port: int,
    junit: Path | None,
    markdown: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Build the engine of PLAN, verify that it keeps its promise, and serve it.

    An engine that does not keep its promise is not served (exit code 4).
    """
    from planner import pipeline
    from planner.spec.io import read_plan
    from planner.spec.writing import refuse_unwritable

    elsewhere = Elsewhere(destination, files, replicas, storage_uri, image)
    elsewhere.check(engine)
    plan = read_plan(plan_file)
    refuse_unwritable(None if engine.exists() else engine, junit, markdown)
    serves = destination == LOCAL and not no_serve
    with _reserved(host, port) if serves else nullcontext() as place:
        with reporting(quiet) as reporter:
            built = pipeline.build(plan, engine, model=model, reporter=reporter)
            verdict = check(built, reporter)
        publish(verdict, as_json, junit, markdown)
        elsewhere.write(built)
        if place is not None:
            from planner.cli.serve import run_server

            run_server(built, place)


def _reserved(host: str, port: int) -> closing[socket.socket]:
    """The port is taken first: that somebody has it must not show after a long build."""
    from planner import serve

    return closing(serve.reserve(host, port))


def check(engine: Path, reporter: Reporter) -> Verdict:
    """Verifies an engine."""
    from planner import pipeline

    return pipeline.verify(engine, reporter=reporter)


def publish(verdict: Verdict, as_json: bool, junit: Path | None, markdown: Path | None) -> None:
    """Prints the verdict, writes the reports asked for.

    Raises:
        VerificationError: the engine does not keep its promise.
    """
    from planner.errors import VerificationError
    from planner.report import junit as junit_report
    from planner.report import markdown as markdown_report
    from planner.report.verdict import failures, render

    if as_json:
        show_json(verdict)
    else:
        show(render(verdict))
    if junit is not None:
        write_text(junit, junit_report.of_verdict(verdict))
    if markdown is not None:
        write_text(markdown, markdown_report.of_verdict(verdict))
    if not verdict.passed:
        raise VerificationError(failures(verdict), where=verdict.engine)
