"""One rank: `python -m planner.runtime.ranks.worker ENGINE SOCKET LIBRARY WORLD MEETING [RANK]`.

Joins the others, loads its own parts, then serves runs until the driver hangs up. It answers every
run, so that the driver knows whether the ranks still agree where they are.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from planner.errors import InfoptError
from planner.runtime import integrity
from planner.runtime.device_run import wants_host
from planner.runtime.ort import tensor_specs
from planner.runtime.ranks.channel import Channel
from planner.runtime.ranks.fabric import MPI, Fabric, Group, join
from planner.runtime.ranks.fault import Fault, LostError, fault_of
from planner.runtime.ranks.layout import kinds_of
from planner.runtime.ranks.orphan import follow
from planner.runtime.ranks.program import Compute, Program, Receive, Send, Step, Together, programs
from planner.runtime.ranks.resident import Resident
from planner.runtime.ranks.spin import spin_s, until_told
from planner.runtime.ranks.windows import TAKEN, Shop
from planner.runtime.segments import bind, open_part
from planner.spec.manifest import CollectiveSegment, Manifest, TensorSpec

Alive = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Action:
    """A step, ready to be done."""

    do: Callable[[Alive], None]
    instead: Callable[[], None] = lambda: None
    """Once a step before has failed: what keeps the other ranks from waiting for this one."""


Answer = tuple[Fault | None, list[Any]]
Call = Callable[[Sequence[Any]], Answer]
"""What one run of this rank is: feeds in, what it hands back out."""


def main(arguments: list[str]) -> int:
    """Serves until the driver hangs up."""
    directory = Path(arguments[0])

    def prepare(fabric: Fabric) -> tuple[Call, object]:
        manifest = integrity.read_manifest(directory)
        call = prepared(directory, manifest, fabric)
        told = {"resident": isinstance(call, Resident), "captured": False}
        if isinstance(call, Resident):
            told["captured"] = call.is_captured
        return call, told

    return serve(arguments, prepare)


def serve(arguments: Sequence[str], prepare: Callable[[Fabric], tuple[Call, object]]) -> int:
    """Joins the others, prepares, says so (with what there is to tell), and serves."""
    _, address, library, world, meeting, *rest = arguments
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    follow(connection)
    channel = Channel(connection)
    try:
        fabric = join(library, int(rest[0]) if rest else 0, int(world), meeting)
        call, told = prepare(fabric)
    except Exception as error:  # noqa: BLE001 - whatever it is, the driver must hear of it
        channel.send(("refused", fault_of(error)))
        return 1
    shop = Shop(getattr(call, "windows", ()))
    channel.send(("ready", fabric.rank, os.getpid(), told, len(shop.descriptors)))
    shop.open(connection)
    with contextlib.suppress(EOFError, OSError):
        _serve(channel, call, shop, spin_s(int(world)))
    if library != MPI:
        fabric.close()
    return 0


def _serve(channel: Channel, call: Call, shop: Shop, awake_s: float) -> None:
    """Until the driver hangs up. What an answer shows is not touched until it was taken."""
    waiting: deque[Any] = deque()
    poll = select.poll()
    poll.register(channel.connection, select.POLLIN)
    while True:
        if not waiting:
            until_told(poll, awake_s)
        number, feeds = waiting.popleft() if waiting else channel.receive()
        fault, returned = call(feeds)
        told, must_wait = shop.show(returned)
        channel.send((number, fault, told))
        while must_wait:
            word = channel.receive()
            must_wait = word != TAKEN
            if must_wait:
                waiting.append(word)


def prepared(directory: Path, manifest: Manifest, fabric: Fabric) -> Call:
    """This rank's part of a run: on memory that never moves where all shapes are fixed."""
    program = programs(manifest)[fabric.rank]
    groups: dict[tuple[int, ...], Group] = {}
    for stage in manifest.stages:
        if len(stage.ranks) > 1 and stage.ranks not in groups:
            groups[stage.ranks] = fabric.group(stage.ranks)
    everyone = fabric.group(tuple(range(manifest.ranks)))

    def agreed(holds: bool) -> bool:
        found = everyone.all_reduce(np.array([holds], np.int32))
        return int(found[0]) == manifest.ranks

    try:
        resident = _resident(directory, manifest, program, fabric, groups)
    except Exception:
        agreed(False)
        raise
    if agreed(resident is not None) and resident is not None:
        resident.prepare(agreed)
        return resident
    return partial(_run, program, _actions(directory, manifest, program, fabric, groups))


def _resident(
    directory: Path,
    manifest: Manifest,
    program: Program,
    fabric: Fabric,
    groups: Mapping[tuple[int, ...], Group],
) -> Resident | None:
    listed = {entry.path for entry in manifest.files}
    talk = fabric.talk()
    stream = talk.board.stream
    sessions: dict[str, Any] = {}
    known: list[TensorSpec] = [*manifest.inputs, *manifest.outputs]
    for step in program.steps:
        if isinstance(step, Compute):
            part = open_part(directory, step.segment, step.file, listed, stream=stream)
            sessions[step.file] = part
            if stream is not None and wants_host(part, outputs=True):
                return None
            known += [spec for specs in tensor_specs(part) for spec in specs]
    kinds = kinds_of(program, known)
    return None if kinds is None else Resident(program, kinds, sessions, groups, talk)


def _run(program: Program, actions: Sequence[Action], feeds: Sequence[Any]) -> Answer:
    alive: Alive = dict(zip(program.feeds, feeds, strict=True))
    fault: Fault | None = None
    for action in actions:
        if fault is not None:
            action.instead()
            continue
        try:
            action.do(alive)
        except InfoptError as error:
            fault = fault_of(error)
    return fault, [] if fault else [alive[name] for name in program.returns]


def _actions(
    directory: Path,
    manifest: Manifest,
    program: Program,
    fabric: Fabric,
    groups: Mapping[tuple[int, ...], Group],
) -> list[Action]:
    listed = {entry.path for entry in manifest.files}

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
