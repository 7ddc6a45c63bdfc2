"""The one Problem of a large plan: groups on places, conversions and transfers between them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from planner.cost.predictor import Predictor
from planner.graph.skeleton import Skeleton
from planner.ir.devices import Device, Hold, Link, Place, Store
from planner.ir.graph import Tensor
from planner.ir.problem import (
    Conversion,
    Latency,
    Limits,
    Objective,
    Problem,
    Setting,
    State,
    Transfer,
)
from planner.place.energy import Power
from planner.place.extents import Extents
from planner.place.forms import SUMMAND, WHOLE, conversion
from planner.place.groups import Group
from planner.place.memory import Caches
from planner.place.options import Swaps
from planner.place.price import Pricer
from planner.place.variant import Variant

DEVICE = "gpu"
AHEAD = 4
"""Groups before its use at which a weight may start to stream."""
PROBES_BYTES = (2**16, 2**26)
"""Sizes between which a link's latency and bandwidth are read off its price."""
NOTHING = Latency(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Machine:
    """What plans may use."""

    gpus: int
    """At most."""
    per_node: int
    memory_size_bytes: int
    """Of each device, that may be filled."""
    price_per_hour: float
    """Of each device."""
    host_memory_size_bytes: int | None
    offload: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of a plan."""

    weights: tuple[float, ...]
    """How often each workload entry occurs."""
    limits: Limits
    objectives: tuple[Objective, ...]


def places(machine: Machine) -> tuple[Place, ...]:
    """Degrees of sharding inside one machine: powers of two, and all devices of it."""
    most = min(machine.gpus, machine.per_node)
    degrees = {2**n for n in range(most.bit_length()) if 2**n <= most} | {most}
    return tuple(Place(f"{DEVICE}x{degree}", DEVICE, degree) for degree in sorted(degrees))


def links(predictor: Predictor, machine: Machine, devices: int | None = None) -> tuple[Link, ...]:
    """Between stages: the slowest connection that a pipeline over so many devices has.

    Args:
        devices: that stages lie on; all of the machine where not given.
    """
    count = machine.gpus if devices is None else devices
    if count == 1:
        return ()
    small, large = PROBES_BYTES
    first, second = (_send(predictor, size, count) for size in PROBES_BYTES)
    rate = (large - small) / max(second - first, 1e-9)
    return (Link(DEVICE, DEVICE, max(first - small / rate, 0.0), rate),)


def _send(predictor: Predictor, size_bytes: float, ranks: int) -> float:
    """One message between two devices that may be as far apart as `ranks` are."""
    node = predictor.node
    domain = node.domain(ranks) if node is not None else None
    if node is None or domain is None or domain is node.domain(2):
        return predictor.collective("send_recv", size_bytes, 2).expected_us
    return domain.link.latency.value + size_bytes / (domain.link.bandwidth.value / 1e6)


def swaps(predictor: Predictor, machine: Machine) -> Swaps | None:
    """How weights stream from host memory; None where they may not, or there is no link."""
    if "host" not in machine.offload or "host" not in predictor.device.links:
        return None
    node = predictor.node
    shared = node.host_bandwidth.value / min(machine.gpus, machine.per_node) if node else math.inf
    own = predictor.device.links["host"].bandwidth.value
    slower = max(own / shared, 1.0)

    def fetch(size_bytes: float) -> Latency:
        cost = predictor.transfer("host", "device", size_bytes * slower)
        return Latency(cost.low_us, cost.expected_us, cost.high_us)

    return Swaps(fetch)


def stores(predictor: Predictor, machine: Machine) -> tuple[Store, ...]:
    """Host memory and a neighbour's memory, as far as they are allowed and connected."""
    found = []
    wanted = [w for w in machine.offload if w == "host" or machine.gpus > 1]
    for where in wanted:
        if where != "peer" or where not in predictor.device.links:
            continue
        small, large = PROBES_BYTES
        first, second = (
            predictor.transfer(where, "device", size).expected_us  # type: ignore[arg-type]
            for size in PROBES_BYTES
        )
        rate = (large - small) / max(second - first, 1e-9)
        is_peer = where == "peer"
        found.append(
            Store(
                where,
                max(first - small / rate, 0.0),
                rate,
                ahead=AHEAD,
                memory_size_bytes=machine.memory_size_bytes
                if is_peer
                else machine.host_memory_size_bytes,
                extra_devices=int(is_peer),
                price_per_hour=machine.price_per_hour if is_peer else 0.0,
            )
        )
    return tuple(found)


def pose(
    skeleton: Skeleton,
    groups: Sequence[Group],
    variants: Sequence[Variant],
    extents: Extents,
    pricer: Pricer,
    predictor: Predictor,
    caches: Caches,
    machine: Machine,
    demand: Demand,
    fixed_bytes: int,
    power: Power | None = None,
    ties: Sequence[tuple[int, int]] = (),
) -> Problem:
    """The Problem.

    Args:
        ties: groups that hold a weight for others, and these; and groups whose results late ones
            may make something again from.
        power: what energy is reckoned from; None: it is not.
        fixed_bytes: what every device holds whatever is chosen: runtime, inputs.
    """
    start = {name: each.group for each in variants for name in each.ends.makes}
    home = {name: groups[number].name for name, number in start.items()}
    edges = {
        (home[name], group.name): None for group in groups for name in group.inputs if name in home
    }
    edges.update({(groups[a].name, groups[b].name): None for a, b in ties})
    where = places(machine)
    needed, made = _forms(variants)
    conversions = tuple(_conversions(skeleton, needed, made, pricer, extents, where, power))
    outputs = [name for name in skeleton.graph.outputs if name not in caches.given.values()]
    given = tuple(
        State(name, form)
        for name in skeleton.graph.inputs
        if name not in caches.given
        for form in sorted({WHOLE, *needed.get(name, ())})
    )
    return Problem(
        ops=tuple(group.name for group in groups),
        edges=tuple(edges),
        options=tuple(variant.option for variant in variants),
        settings=(Setting("stream", (NOTHING,) * len(demand.weights)),),
        shape_weights=demand.weights,
        conversions=conversions,
        given=given,
        wanted=tuple(State(name, WHOLE) for name in outputs if name in home),
        activation_size_bytes=fixed_bytes,
        limits=demand.limits,
        objectives=demand.objectives,
        places=where,
        devices=(Device(DEVICE, machine.memory_size_bytes, machine.gpus, machine.price_per_hour),),
        links=links(predictor, machine),
        stages=machine.gpus,
        stores=stores(predictor, machine),
        transfers=tuple(_transfers(skeleton, needed, made, caches, machine, groups, start)),
    )


Forms = Mapping[str, set[str]]


def _forms(variants: Sequence[Variant]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Forms in which tensors between groups are needed, and made; weights, which nothing converts,
    are not among them."""
    needed: dict[str, set[str]] = {}
    made: dict[str, set[str]] = {}
    for variant in variants:
        for name, form in variant.ends.needs.items():
            needed.setdefault(name, set()).add(form)
        for name, forms in variant.ends.makes.items():
            made.setdefault(name, set()).update(forms)
    return needed, made


def _conversions(
    skeleton: Skeleton,
    needed: Forms,
    made: Forms,
    pricer: Pricer,
    extents: Extents,
    where: Sequence[Place],
    power: Power | None,
) -> Iterator[Conversion]:
    """Every form that somebody makes to every other that somebody wants, at each degree."""
    wanted = set(skeleton.graph.outputs)
    seen: dict[object, tuple[tuple[Latency, ...], ...]] = {}
    for name, forms in made.items():
        targets = {*needed.get(name, ()), *([WHOLE] if name in wanted or name in needed else [])}
        for source in sorted(forms):
            for target in sorted(targets - {source}):
                if target == SUMMAND:
                    continue
                for place in where:
                    if place.degree == 1:
                        continue
                    row = tuple(
                        _convert(graph.tensors[name], source, target, n, extents, place, pricer)
                        for n, graph in enumerate(skeleton.graphs.values())
                    )
                    yield Conversion(
                        f"{name}:{source}>{target}@{place.name}",
                        State(name, source),
                        State(name, target),
                        seen.setdefault(row, (row,)),
                        place.name,
                        power.joules(row, place.degree) if power is not None else 0.0,
                    )


def _convert(
    tensor: Tensor,
    source: str,
    target: str,
    shape: int,
    extents: Extents,
    place: Place,
    pricer: Pricer,
) -> Latency:
    def is_real(form: str) -> bool:
        if form in (WHOLE, SUMMAND):
            return True
        return extents.is_enough(shape, int(form[1:].partition(".")[0]), place.degree)

    have = source if is_real(source) else WHOLE
    kind = conversion([have], target if is_real(target) else WHOLE)
    return NOTHING if kind is None else pricer.collective(kind, tensor, place.degree)


def _transfers(
    skeleton: Skeleton,
    needed: Forms,
    made: Forms,
    caches: Caches,
    machine: Machine,
    groups: Sequence[Group],
    start: Mapping[str, int],
) -> Iterator[Transfer]:
    """Whole tensors travel between stages; a stage cuts what it wants cut.

    Args:
        start: number of the group that makes a tensor.
    """
    if machine.gpus == 1:
        return
    last: dict[str, int] = {}
    for number, group in enumerate(groups):
        last.update(dict.fromkeys(group.inputs, number))
    count = len(groups) + 1
    graphs = tuple(skeleton.graphs.values())
    for name in made:
        if name not in needed:
            continue
        sizes = tuple(caches.kept_bytes(graph.tensors[name]) for graph in graphs)
        kept = tuple(
            Hold(n * (count + 1) + start[name], n * (count + 1) + last[name] + 1, size)
            for n, size in enumerate(sizes)
            if size
        )
        for form in sorted({WHOLE, *needed[name]}):
            if form != SUMMAND:
                state = State(name, form)
                yield Transfer(f"{name}>{form}", State(name, WHOLE), state, sizes, kept)
