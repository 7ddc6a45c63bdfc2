"""`infopt schema`: the constraints file, documented key by key."""

from __future__ import annotations

import click

DOCUMENTS = ("constraints", "plan", "manifest", "profile", "node")
"""Names of `planner.spec.schema.DOCUMENTS`, which costs too much to import for a `--help`."""


@click.command(short_help="Print the schema of the constraints file.")
@click.argument("document", type=click.Choice(DOCUMENTS), default="constraints")
def schema(document: str) -> None:
    """Print the JSON schema of DOCUMENT (default: the constraints YAML).

    A profile describes a device, a node a machine with several of them: `--target FILE.yaml` takes
    both.

    Editors check and complete a YAML file that begins with

    \b
      # yaml-language-server: $schema=constraints.schema.json
    """
    import json

    from planner.spec.schema import json_schema

    click.echo(json.dumps(json_schema(document), indent=2, ensure_ascii=False))
