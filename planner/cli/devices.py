"""`infopt devices`: what `--target` may name, and what is known of each."""

from __future__ import annotations

import click

from planner.cli.console import show, show_json

_HERE = ("auto", "cpu", "cuda")
"""What `--target` may name besides, and no profile describes."""


@click.command(short_help="List the devices that can be planned for.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the profiles as JSON.")
def devices(name: str | None, as_json: bool) -> None:
    """List this machine's device and the device profiles that ship with infopt.

    With the NAME or the FILE of one device or machine: every number with its source, and what was
    learnt of it.
    """
    if name is not None:
        _one(name, as_json)
        return
    _all(as_json)


def _one(name: str, as_json: bool) -> None:
    from planner import resources
    from planner.errors import UsageError
    from planner.report.devices import details, machine
    from planner.spec.devices import describe, is_file_name, names
    from planner.spec.fits import read_fits
    from planner.spec.problems import nearest

    if name in _HERE:
        fix = "`infopt devices` names it; `infopt profile` measures it and writes a file to ask for"
        raise UsageError(f"{name} is this machine's own device", where="NAME", fix=fix)
    if name not in names() and not is_file_name(name):
        near = nearest(name, names())
        raise UsageError(f"no device or machine is called {name!r}", where="NAME", fix=near)
    found = describe(name)
    if as_json:
        show_json(found.machine or found.device)
        return
    if found.machine is not None:
        show(machine(found.machine))
        return
    own = (read_fits(path) for path in resources.fits() if path.stem == found.device.name)
    show(details(found.device, next(own, None)))


def _all(as_json: bool) -> None:
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
