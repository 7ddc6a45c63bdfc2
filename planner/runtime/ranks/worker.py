"""One rank: `python -m planner.runtime.ranks.worker ENGINE SOCKET LIBRARY WORLD MEETING [RANK]`.

Joins the others, loads its own parts, then serves runs until the driver hangs up. It answers every
run, so that the driver knows whether the ranks still agree where they are.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from planner.errors import InfoptError
from planner.runtime import integrity
from planner.runtime.ranks.channel import Channel
from planner.runtime.ranks.fabric import MPI, Fabric, Group, join
from planner.runtime.ranks.fault import Fault, LostError, fault_of
from planner.runtime.ranks.program import Compute, Program, Receive, Send, Step, Together, programs
from planner.runtime.segments import bind
from planner.spec.manifest import CollectiveSegment, Manifest

Alive = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Action:
    """A step, ready to be done."""

    do: Callable[[Alive], None]
    instead: Callable[[], None] = lambda: None
    """Once a step before has failed: what keeps the other ranks from waiting for this one."""


def main(arguments: list[str]) -> int:
    """Serves until the driver hangs up."""
    directory = Path(arguments[0])

    def prepare(fabric: Fabric) -> tuple[Program, Sequence[Action], object]:
        manifest = integrity.read_manifest(directory)
        program = programs(manifest)[fabric.rank]
        return program, _actions(directory, manifest, program, fabric), None

    return serve(arguments, prepare)


def serve(
    arguments: Sequence[str],
    prepare: Callable[[Fabric], tuple[Program, Sequence[Action], object]],
) -> int:
    """Joins the others, prepares, says so (with what there is to tell), and serves."""
    _, address, library, world, meeting, *rest = arguments
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    channel = Channel(connection)
    try:
        fabric = join(library, int(rest[0]) if rest else 0, int(world), meeting)
        program, actions, told = prepare(fabric)
    except Exception as error:  # noqa: BLE001 - whatever it is, the driver must hear of it
        channel.send(("refused", fault_of(error)))
        return 1
    channel.send(("ready", fabric.rank, os.getpid(), told))
    with contextlib.suppress(EOFError, OSError):
        _serve(channel, program, actions)
    if library != MPI:
        fabric.close()
    return 0


def _serve(channel: Channel, program: Program, actions: Sequence[Action]) -> None:
    while True:
        number, feeds = channel.receive()
        alive: Alive = dict(zip(program.feeds, feeds, strict=True))
        fault = _run(actions, alive)
        returned = [] if fault else [alive[name] for name in program.returns]
        channel.send((number, fault, returned))


def _run(actions: Sequence[Action], alive: Alive) -> Fault | None:
    fault: Fault | None = None
    for action in actions:
        if fault is not None:
            action.instead()
            continue
        try:
            action.do(alive)
        except InfoptError as error:
            fault = fault_of(error)
    return fault


def _actions(directory: Path, manifest: Manifest, program: Program, fabric: Fabric) -> list[Action]:
    listed = {entry.path for entry in manifest.files}
    groups: dict[tuple[int, ...], Group] = {}
    for stage in manifest.stages:
        if len(stage.ranks) > 1 and stage.ranks not in groups:
            groups[stage.ranks] = fabric.group(stage.ranks)

    def action(step: Step) -> Action:
        if isinstance(step, Compute):
            return Action(bind(directory, step.segment, step.file, listed, step.dead).advance)
        if isinstance(step, Together):
            return _together(step.segment, groups[step.ranks], step.dead)
        if isinstance(step, Send):
            return _send(step, fabric)
        return _receive(step, fabric)

    return [action(step) for step in program.steps]


def _together(segment: CollectiveSegment, group: Group, dead: tuple[str, ...]) -> Action:
    tensor, result = segment.tensor, segment.result
    operation, axis = getattr(group, segment.operation), segment.axis
    more = () if axis is None else (axis,)

    def do(alive: Alive) -> None:
        alive[result] = operation(alive[tensor], *more)
        for name in dead:
            del alive[name]

    return Action(do)


def _send(step: Send, fabric: Fabric) -> Action:
    def do(alive: Alive) -> None:
        fabric.send(alive[step.tensor], step.to)
        for name in step.dead:
            del alive[name]

    return Action(do, partial(fabric.send, None, step.to))


def _receive(step: Receive, fabric: Fabric) -> Action:
    def do(alive: Alive) -> None:
        value = fabric.receive(step.source)
        if value is None:
            raise LostError(f"rank {step.source} did not make {step.tensor!r}")
        alive[step.tensor] = value
        for name in step.dead:
            del alive[name]

    return Action(do, lambda: _drop(fabric.receive(step.source)))


def _drop(_: Any) -> None:
    """Taken so that the next receive gets its own."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
