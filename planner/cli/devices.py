"""`infopt devices`: what `--target` may name, and what is known of each."""

from __future__ import annotations

import click

from planner.cli.console import show, show_json


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
    from planner.spec.devices import describe, is_file_name
    from planner.spec.fits import read_fits
    from planner.spec.node import read_node
    from planner.spec.problems import nearest

    profiles = {path.stem: path for path in resources.profiles()}
    nodes = {path.stem: path for path in resources.nodes()}
    if name in nodes:
        node = read_node(nodes[name])
        show_json(node) if as_json else show(machine(node))
        return
    if name not in profiles and not is_file_name(name):
        fix = nearest(name, (*profiles, *nodes))
        raise UsageError(f"no device or machine is called {name!r}", where="NAME", fix=fix)
    described = describe(name)
    if described.machine is not None:
        show_json(described.machine) if as_json else show(machine(described.machine))
        return
    profile = described.device
    if as_json:
        show_json(profile)
        return
    fits = next((read_fits(path) for path in resources.fits() if path.stem == profile.name), None)
    show(details(profile, fits))


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
