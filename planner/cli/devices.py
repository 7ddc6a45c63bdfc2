"""`infopt devices`: what `--target` may name."""

from __future__ import annotations

import click

from planner.cli.console import show


@click.command(short_help="List the devices that can be planned for.")
@click.option("--json", "as_json", is_flag=True, help="Print the profiles as JSON.")
def devices(as_json: bool) -> None:
    """List this machine's device and the device profiles that ship with infopt."""
    import json

    from planner import resources
    from planner.report.devices import Local, render
    from planner.runtime.fingerprint import this_environment
    from planner.spec.node import read_node
    from planner.spec.profile import read_profile

    here = this_environment()
    known = [read_profile(path) for path in resources.profiles()]
    machines = [read_node(path) for path in resources.nodes()]
    if not as_json:
        show(render(Local(here.device, here.onnxruntime), known, machines))
        return
    shipped = [profile.model_dump(mode="json", by_alias=True) for profile in known]
    local = {"device": here.device, "onnxruntime": here.onnxruntime, "platform": here.platform}
    nodes = [node.model_dump(mode="json", by_alias=True) for node in machines]
    found = {"local": local, "profiles": shipped, "machines": nodes}
    click.echo(json.dumps(found, indent=2))
