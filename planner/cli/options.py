"""The options that `plan` and `pareto` share: each is one YAML key (`planner.spec.resolve.FLAGS`).

They are taken as text; `resolve` alone reads quantities, so that a flag, an environment variable
and a YAML key mean the same and are refused with the same words.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from planner.errors import InfoptError
    from planner.spec.resolve import Resolved

_F = TypeVar("_F", bound=Callable[..., Any])

_OPTIONS: tuple[tuple[str, str, bool, str], ...] = (
    ("--slo", "[P=]TIME", False, "Longest latency: 20ms (p99), p95=20ms."),
    ("--throughput", "RATE", False, "Inferences per second to sustain: 100/s."),
    ("--max-drop", "DROP", False, "Largest drop of the metric: 0.5pp; of a loss: 2%."),
    ("--max-error", "NMSE", False, "Largest error at the outputs: 1e-3 (the default)."),
    ("--metric", "NAME", False, "top1, f1, mse, cosine, spearman or module:function."),
    ("--confidence", "SHARE", False, "Confidence of --max-drop: 95%."),
    ("--calibration", "FILE", False, "Typical inputs, .npz."),
    ("--evaluation", "FILE", False, "Labelled inputs, .npz, or module:function."),
    ("--target", "NAME", False, "auto, cpu, cuda, one of `infopt devices`, or FILE.yaml."),
    ("--gpus", "RANGE", False, "GPUs a plan may use: 2 or 1..4."),
    ("--memory", "SIZE", False, "Memory per device: 8GiB."),
    ("--price", "PRICE", False, "Of one device: 2.10USD/h."),
    ("--offload", "WHERE", True, "Where weights may rest: host, peer."),
    ("--shapes", "NAME:DIMS", True, "Bind inputs: audio:1x16000,step:1; x: is a scalar."),
    ("--formats", "LIST", True, "Formats to choose from: fp16,int8,int4_wo."),
    ("--pin", "GLOB=FORMAT", True, "Keep layers in a format: '*/head/*=fp32'."),
    ("--objective", "GOAL", False, "cost, latency, memory, energy or error."),
    ("--time-limit", "TIME", False, "Of the optimisation: 60s."),
    ("--gap", "SHARE", False, "Proved distance from the optimum to stop at: 1%."),
    ("--seed", "N", False, "Seed of every random choice."),
)


def constraint_options(command: _F) -> _F:
    """Adds MODEL and `limit_options`."""
    return click.argument("model", required=False)(limit_options(command))


def limit_options(command: _F) -> _F:
    """Adds -c and every constraint option; the command gets them as keyword arguments."""
    for option, metavar, is_repeated, text in reversed(_OPTIONS):
        command = click.option(option, metavar=metavar, multiple=is_repeated, help=text)(command)
    command = click.option(
        "--no-weights", is_flag=True, default=None, help="The external weights may be absent."
    )(command)
    return click.option(
        "-c",
        "--constraints",
        "constraints_file",
        metavar="FILE",
        envvar="INFOPT_CONSTRAINTS",
        help="Constraints, YAML (`infopt schema`)  [of MODEL.yaml: the workload].",
    )(command)


def resolved(constraints_file: str | None, flags: dict[str, Any]) -> Resolved:
    """Flags over environment over YAML over defaults; without -c the workload beside the model.

    Raises:
        SpecError: see `planner.spec.resolve.resolve`.
    """
    from planner.spec.beside import beside
    from planner.spec.resolve import resolve
    from planner.spec.yaml_source import load

    source = load(Path(constraints_file)) if constraints_file else beside(flags.get("model"))
    given = {name: _words(value) for name, value in flags.items() if value not in (None, ())}
    return resolve(given, os.environ, source)


def located(error: InfoptError, request: Resolved) -> InfoptError:
    """A conflict of limits names the lines and options that they came from; all else stays."""
    from planner.steps.conflict import ConflictError

    return error.written_at(request.provenance) if isinstance(error, ConflictError) else error


def _words(value: Any) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, tuple) else (str(value),)
