"""`infopt plan`: model and constraints in, plan.json out."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from planner.cli.console import reporting, show, show_json, tell, write_text
from planner.cli.options import constraint_options, located, resolved
from planner.errors import InfoptError

if TYPE_CHECKING:
    from planner.spec.constraints import Constraints
    from planner.spec.plan import Plan
    from planner.spec.resolve import Resolved


@click.command(short_help="Decide how to deploy a model; write plan.json.")
@constraint_options
@click.option("--baseline", metavar="FILE", help="CI: plan.json to compare with.")
@click.option("--fail-on", metavar="RULES", multiple=True, help="CI: slo,accuracy,latency>5%.")
@click.option("-o", "--output", metavar="FILE", help="Where the plan goes  [plan.json].")
@click.option("--html", metavar="FILE", help="Also write a report for people.")
@click.option("--junit", metavar="FILE", help="Also write JUnit XML.")
@click.option("--markdown", metavar="FILE", help="Also write a Markdown summary.")
@click.option("--annotate", metavar="FILE", help="Also write the model with device annotations.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@click.option("--dry-run", is_flag=True, help="List what would be measured; measure nothing.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def plan(
    constraints_file: str | None, as_json: bool, dry_run: bool, quiet: bool, **flags: Any
) -> None:
    """Decide how to deploy MODEL within the constraints; write plan.json.

    Each option is a key of the constraints file. An option wins over its environment variable
    (INFOPT_SLO for --slo), that over the file, that over the default.
    """
    request = resolved(constraints_file, flags)
    if not quiet:
        _tell_limits(request)
    if dry_run:
        _dry_run(request.constraints, as_json)
        return
    _plan(request, as_json, quiet)


def _plan(request: Resolved, as_json: bool, quiet: bool) -> None:
    from planner import pipeline
    from planner.report.summary import summary
    from planner.spec.io import write_plan
    from planner.spec.writing import refuse_unwritable

    constraints = request.constraints
    baseline = _baseline(constraints)
    output = constraints.output
    refuse_unwritable(output.plan, output.html, output.junit, output.markdown, output.annotate)
    with _refusal_reported(request), reporting(quiet) as reporter:
        result = pipeline.plan(constraints, reporter=reporter)
    made = write_plan(constraints.output.plan, result.plan)
    if as_json:
        show_json(made)
    else:
        show(summary(made))
    if output.annotate is not None:
        count = pipeline.annotate(made, output.annotate)
        tell(f"wrote {output.annotate}: {count:,} operators with device annotations")
    tell(f"wrote {constraints.output.plan}; {_next(made, constraints)}")
    _report(constraints, made, baseline)


def _next(made: Plan, constraints: Constraints) -> str:
    """What to do with a plan."""
    from planner import pipeline

    path = shlex.quote(str(constraints.output.plan))
    obstacles = pipeline.obstacles(made)
    if obstacles:
        return f"infopt builds no engine of it: {'; '.join(obstacles)}"
    if constraints.no_weights:
        return f"next, where the weights are: infopt deploy {path} --model MODEL"
    return f"next: infopt deploy {path}"


def _baseline(constraints: Constraints) -> Plan | None:
    """Read first: a missing baseline must not cost a whole planning run. Where nothing compares
    with it, the run may be the one that makes it."""
    from planner.errors import SpecError
    from planner.spec.io import read_plan
    from planner.spec.slo import Slo

    ci = constraints.ci
    if ci is None or ci.baseline is None:
        return None
    try:
        return read_plan(ci.baseline)
    except SpecError as error:
        if ci.baseline.exists():
            raise
        if any(rule.needs_baseline for rule in ci.fail_on):
            near = error.fix if error.fix and error.fix.startswith("did you mean") else None
            rule = "accuracy" if constraints.slo == Slo() else "slo"
            fix = f"the first plan has none: add --fail-on {rule}, and keep it as {ci.baseline}"
            raise SpecError(error.what, where=error.where, fix=near or fix) from None
        tell(f"there is no baseline yet: keep {constraints.output.plan} as {ci.baseline}")
        return None


@contextmanager
def _refusal_reported(request: Resolved) -> Iterator[None]:
    """A CI system that waits for a report gets one that says why there is no plan."""
    from planner.report import ci, junit, markdown

    output, model = request.constraints.output, str(request.constraints.model)
    try:
        yield
    except InfoptError as error:
        told = located(error, request)
        refusal = ci.refused(told)
        if output.junit is not None:
            write_text(output.junit, junit.of_gate([refusal], model))
        if output.markdown is not None:
            write_text(output.markdown, markdown.of_refusal(model, refusal))
        raise told from None


def _report(constraints: Constraints, made: Plan, baseline: Plan | None) -> None:
    """Writes the reports asked for, then lets the CI gate speak."""
    from planner.report import ci, html, junit, markdown
    from planner.report.diff import compare

    output = constraints.output
    rules = constraints.ci.fail_on if constraints.ci else ()
    results = ci.gate(made, baseline, rules)
    shown = results or ci.promises(made)
    if output.html is not None:
        write_text(output.html, html.of_plan(made, _command()))
    if output.junit is not None:
        write_text(output.junit, junit.of_gate(shown, made.model.path))
    if output.markdown is not None:
        difference = compare(baseline, made) if baseline else None
        write_text(output.markdown, markdown.of_plan(made, shown, difference))
    ci.enforce(results, where=str(output.plan))


def _command() -> str:
    return shlex.join(["infopt", *sys.argv[1:]])


def _dry_run(constraints: Constraints, as_json: bool) -> None:
    from planner import pipeline
    from planner.report.dry_run import render

    found = pipeline.dry_run(constraints)
    if as_json:
        show_json(found)
    else:
        show(render(found))


def _tell_limits(request: Resolved) -> None:
    """Which limits hold and who set them; what nobody set is not news."""
    for key, origin in request.provenance.items():
        if origin != "default" and key not in ("schema_version", "model"):
            tell(f"{key} = {_value(request.constraints, key)}  ({origin})")


def _value(constraints: Constraints, key: str) -> str:
    value: Any = constraints.model_dump(mode="json", by_alias=True)
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            break
        value = value[part]
    return ", ".join(map(_flow, value)) if isinstance(value, list) else _flow(value)


def _flow(value: Any) -> str:
    """As it would stand in a line of YAML."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_flow(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    return str(value)
