"""The one Problem of a large plan: groups on places, conversions and transfers between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from planner.cost.predictor import Predictor
from planner.ir.devices import Device, Hold
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
from planner.place.forms import SUMMAND, WHOLE, conversion
from planner.place.machine import DEVICE, Machine, links, stores
from planner.place.options import Offers, last_readers
from planner.place.variant import Variant

NOTHING = Latency(0.0, 0.0, 0.0)
Forms = Mapping[str, set[str]]


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of a plan."""

    weights: tuple[float, ...]
    """How often each workload entry occurs."""
    limits: Limits
    objectives: tuple[Objective, ...]


def pose(
    offers: Offers,
    variants: Sequence[Variant],
    predictor: Predictor,
    machine: Machine,
    demand: Demand,
    fixed_bytes: int,
) -> Problem:
    """The Problem.

    Args:
        fixed_bytes: what every device holds whatever is chosen: runtime, inputs.
    """
    graph, given = offers.skeleton.graph, offers.caches.given
    needed, made = _forms(variants)
    outputs = [name for name in graph.outputs if name not in given.values()]
    return Problem(
        ops=tuple(group.name for group in offers.groups),
        edges=_edges(offers, variants),
        options=tuple(variant.option for variant in variants),
        settings=(Setting("stream", (NOTHING,) * len(demand.weights)),),
        shape_weights=demand.weights,
        conversions=tuple(_conversions(offers, needed, made)),
        given=tuple(
            State(name, form)
            for name in graph.inputs
            if name not in given
            for form in sorted({WHOLE, *needed.get(name, ())})
        ),
        wanted=tuple(State(name, WHOLE) for name in outputs if name in made),
        activation_size_bytes=fixed_bytes,
        limits=demand.limits,
        objectives=demand.objectives,
        places=tuple(offers.places),
        devices=(Device(DEVICE, machine.memory_size_bytes, machine.gpus, machine.price_per_hour),),
        links=links(predictor, machine),
        stages=machine.gpus,
        stores=stores(predictor, machine),
        transfers=tuple(_transfers(offers, variants, needed)) if machine.gpus > 1 else (),
    )


def _makers(variants: Sequence[Variant]) -> dict[str, int]:
    """Tensor -> number of the last group that may make it."""
    return {name: each.group for each in variants for name in each.ends.makes}


def _edges(offers: Offers, variants: Sequence[Variant]) -> tuple[tuple[str, str], ...]:
    """Who reads what another group makes, holds, or keeps to make again."""
    groups = offers.groups
    home = {name: groups[number].name for name, number in _makers(variants).items()}
    reads = [(home[name], one.name) for one in groups for name in one.inputs if name in home]
    ties = [(groups[first].name, groups[second].name) for first, second in offers.ties]
    return tuple(dict.fromkeys([*reads, *ties]))


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


def _conversions(offers: Offers, needed: Forms, made: Forms) -> Iterator[Conversion]:
    """Every form that somebody makes to every other that somebody wants, at each degree."""
    places = [place for place in offers.places if place.degree > 1]
    seen: dict[object, tuple[tuple[Latency, ...], ...]] = {}
    for name, source, target in _changes(offers.skeleton.graph.outputs, needed, made):
        for place in places:
            row = _converted(offers, name, source, target, place.degree)
            yield Conversion(
                f"{name}:{source}>{target}@{place.name}",
                State(name, source),
                State(name, target),
                seen.setdefault(row, (row,)),
                place.name,
                offers.energy(row, place.degree),
            )


def _changes(outputs: Sequence[str], needed: Forms, made: Forms) -> Iterator[tuple[str, str, str]]:
    """(tensor, form in which it is made, another that somebody wants): nobody wants summands."""
    for name, forms in made.items():
        wanted = set(needed.get(name, ()))
        if name in needed or name in outputs:
            wanted.add(WHOLE)
        for source in sorted(forms):
            yield from ((name, source, target) for target in sorted(wanted - {source, SUMMAND}))


def _converted(
    offers: Offers, name: str, source: str, target: str, degree: int
) -> tuple[Latency, ...]:
    """What it takes, for each workload entry; what cannot be cut so finely is whole already."""

    def real(form: str, shape: int) -> str:
        if form in (WHOLE, SUMMAND):
            return form
        axis = int(form[1:].partition(".")[0])
        return form if offers.extents.is_enough(shape, axis, degree) else WHOLE

    def latency(shape: int, tensor: Tensor) -> Latency:
        kind = conversion([real(source, shape)], real(target, shape))
        return NOTHING if kind is None else offers.pricer.collective(kind, tensor, degree)

    graphs = offers.skeleton.graphs.values()
    return tuple(latency(shape, graph.tensors[name]) for shape, graph in enumerate(graphs))


def _transfers(offers: Offers, variants: Sequence[Variant], needed: Forms) -> Iterator[Transfer]:
    """Whole tensors travel between stages; a stage cuts what it wants cut."""
    last = last_readers(offers.groups)
    moments = len(offers.groups) + 2
    graphs = tuple(offers.skeleton.graphs.values())
    for name, start in _makers(variants).items():
        if name not in needed:
            continue
        sizes = tuple(offers.caches.kept_bytes(graph.tensors[name]) for graph in graphs)
        kept = tuple(
            Hold(shape * moments + start, shape * moments + last[name] + 1, size)
            for shape, size in enumerate(sizes)
            if size
        )
        for form in sorted({WHOLE, *needed[name]} - {SUMMAND}):
            yield Transfer(f"{name}>{form}", State(name, WHOLE), State(name, form), sizes, kept)
