"""The `infopt` command and its list of subcommands."""

from __future__ import annotations

import click

from planner import __version__
from planner.cli.cache import cache
from planner.cli.deploy import deploy
from planner.cli.devices import devices
from planner.cli.diff import diff
from planner.cli.doctor import doctor
from planner.cli.explain import explain
from planner.cli.pareto import pareto
from planner.cli.plan import plan
from planner.cli.profile import profile
from planner.cli.schema import schema
from planner.cli.serve import serve
from planner.cli.spread import spread
from planner.cli.verify import verify

COMMANDS = (
    plan,
    deploy,
    spread,
    serve,
    verify,
    explain,
    pareto,
    diff,
    profile,
    devices,
    cache,
    doctor,
    schema,
)
"""In the order a user meets them."""


class _InOrder(click.Group):
    """Lists commands as they are met, not by the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click."""
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="infopt")
def root() -> None:
    """From a trained ONNX model and a promise to the cheapest deployment that keeps it.

    \b
      infopt plan model.onnx --slo 20ms    decides, with reasons and a gap
      infopt deploy plan.json              builds, verifies and serves

    Results go to standard output (--json: one JSON document), progress to standard error.
    """


for _command in COMMANDS:
    root.add_command(_command)
