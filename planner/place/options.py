"""Options of every group: places x strategies x formats, with states at its ends.

Groups that look alike are listed and priced once; the others only take its figures over under
their own names. Options that another beats in everything are left out.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from planner.graph.skeleton import Skeleton
from planner.ir.devices import Place
from planner.ir.problem import Latency, Option, State
from planner.place.again import Again, Way, ways
from planner.place.alike import Numbering, signature
from planner.place.axes import Axes
from planner.place.candidates import orders, spans
from planner.place.dominance import Costed, undominated
from planner.place.energy import Power
from planner.place.extents import Extents
from planner.place.formats import PRIORS, Offer
from planner.place.forms import WHOLE
from planner.place.groups import Group
from planner.place.machine import Swaps
from planner.place.memory import Caches, holds, slot_holds
from planner.place.packed import can_share
from planner.place.price import Listed, Priced, Pricer, list_kernels
from planner.place.strategy import Ends, Spread, spread
from planner.place.tied import SHARES, Tied, format_of, is_tied, shared_bytes, state_of, tied_needs
from planner.place.variant import HOST, Variant

LEAST_STREAMED_BYTES = 1_000_000
"""Smaller weights are not worth a copy of their own."""


@dataclass
class Offers:
    """Makes the options of all groups."""

    skeleton: Skeleton
    axes: Axes
    groups: Sequence[Group]
    pricer: Pricer
    offer: Offer
    places: Sequence[Place]
    errors: Mapping[str, float]
    """Group -> share with which an error of its products counts at the outputs."""
    caches: Caches
    pinned: Mapping[str, str] = field(default_factory=dict)
    """Group -> the one format it must have."""
    swaps: Swaps | None = None
    """How weights may stream in; None: all are resident."""
    power: Power | None = None
    """What energy is reckoned from; None: it is not."""
    tied: Tied | None = None
    """Weights of several groups; None: each group counts its own."""
    again: Again | None = None
    """Activations that late groups may make again; `groups` are its groups then."""

    def __post_init__(self) -> None:
        self.extents = Extents.find(self.axes, len(self.skeleton.graphs))
        self._spans = spans(self.axes, self.groups)
        self._costed: dict[Hashable, tuple[Numbering, list[Costed]]] = {}
        self._spreads: dict[tuple[int, tuple[int, ...], int, bool], Spread] = {}
        self._latencies: dict[tuple[Latency, ...], tuple[tuple[Latency, ...], ...]] = {}

    @property
    def kinds(self) -> int:
        """Groups that differ."""
        return len(self._costed)

    @property
    def ties(self) -> tuple[tuple[int, int], ...]:
        """Groups that hold a weight for others, and these; and groups whose results late ones may
        make something again from."""
        tied = self.tied.edges if self.tied is not None else ()
        return (*tied, *(self.again.edges if self.again is not None else ()))

    def variants(self) -> list[Variant]:
        """All options, group after group."""
        after = last_readers(self.groups)
        remade = self.again.remade if self.again is not None else {}
        found: list[Variant] = []
        for number, group in enumerate(self.groups):
            found += self._of_group(number, group, after)
            if number in remade:
                found += self._of_group(number, remade[number], after, is_again=True)
        made = {state for variant in found for state in variant.option.makes}
        return [v for v in found if not is_tied(v.option) or made >= tied_needs(v.option)]

    def spread_of(self, variant: Variant) -> Spread:
        """All of a variant's strategy."""
        ends = variant.ends
        key = (variant.group, ends.classes, ends.degree, bool(variant.again))
        if key not in self._spreads:
            group = self.groups[variant.group]
            if variant.again and self.again is not None:
                group = self.again.remade[variant.group]
            self._spreads[key] = spread(
                group, self.skeleton, self.axes, self.extents, ends.classes, ends.degree
            )
        return self._spreads[key]

    def _of_group(
        self, number: int, group: Group, after: Mapping[str, int], *, is_again: bool = False
    ) -> Iterator[Variant]:
        numbering = Numbering()
        key = signature(group, self.skeleton, self.axes, self._spans, numbering)
        if key not in self._costed:
            self._costed[key] = (numbering, self._cost(group))
        model, costed = self._costed[key]
        tensors = dict(zip(model.tensors, numbering.tensors, strict=True))
        classes = dict(zip(model.classes, numbering.classes, strict=True))
        for each in costed:
            ends = each.spread.ends
            own = ends if model is numbering else ends.renamed(tensors, classes)
            places = [place for place in self.places if place.degree == own.degree]
            for place, way in product(
                places, ways(self.again, number, own, after, is_again=is_again)
            ):
                yield from self._at(number, group, way, each.by_format, place)

    def _cost(self, group: Group) -> list[Costed]:
        """Every strategy worth offering, at every degree, with its prices."""
        wanted = orders(group, self.skeleton, self.axes, self._spans)
        found: list[Costed] = []
        for degree in sorted({place.degree for place in self.places}):
            tried = wanted if degree > 1 else [()]
            found += undominated([self._priced(group, classes, degree) for classes in tried])
        return found

    def _priced(self, group: Group, classes: tuple[int, ...], degree: int) -> Costed:
        own = spread(group, self.skeleton, self.axes, self.extents, classes, degree)
        graph = self.skeleton.graph
        listed: Listed = list_kernels(
            group, own, self.skeleton.attributes, self.pricer.base, graph.tensors
        )
        offered = self.offer.formats if group.weighted else self.offer.formats[:1]
        forms = [form for form in offered if can_share(group, own, form, graph.tensors)]
        prices = {form: self.pricer.price(listed, form) for form in forms}
        return Costed(own, {form: price for form, price in prices.items() if price is not None})

    def _at(
        self,
        number: int,
        group: Group,
        way: Way,
        by_format: Mapping[str, Priced],
        place: Place,
    ) -> Iterator[Variant]:
        """One way on one place, in every format that it may have."""
        any_format = self._any_format(number, group, way, place)
        pinned = self.pinned.get(group.name)
        for form, priced in by_format.items():
            if pinned is not None and form != pinned:
                continue
            option = self._as(form, priced, any_format, number, group, way)
            resident = Variant(option, number, way.ends, priced, again=way.again)
            yield resident
            yield from self._sharing(resident, group, form)
            if self.swaps is not None and priced.weight_size_bytes >= LEAST_STREAMED_BYTES:
                yield self._streamed(resident, self.swaps)

    def _any_format(self, number: int, group: Group, way: Way, place: Place) -> Option:
        """What all formats of one way on one place have in common."""
        skeleton, extents, caches, own = self.skeleton, self.extents, self.caches, way.ends
        count = len(self.groups)
        return Option(
            name=group.name,
            ops=(group.name,),
            format="",
            latency=(),
            needs=tuple(
                State(name, form) for name, form in own.needs.items() if name not in caches.given
            ),
            makes=tuple(State(name, form) for name, forms in own.makes.items() for form in forms),
            place=place.name,
            holds=holds(way.held, skeleton, extents, number, way.after, caches, count),
            cache_size_bytes=caches.bytes_of(group, own, skeleton, extents),
        )

    def _as(
        self, form: str, priced: Priced, any_format: Option, number: int, group: Group, way: Way
    ) -> Option:
        """The same in one format, its weights resident."""
        own = way.ends
        style = f"{','.join(map(str, own.classes)) or WHOLE}{way.mark}"
        share = self.errors.get(group.name, 0.0)
        return replace(
            any_format,
            name=f"{group.name}:{form}:{any_format.place}:{style}",
            format=form,
            latency=self._table(priced.latency),
            makes=(*any_format.makes, *self._held(number, group, own, form)),
            weight_size_bytes=priced.weight_size_bytes,
            workspace_size_bytes=priced.workspace_size_bytes,
            error=share * PRIORS[form].error if group.weighted else 0.0,
            energy_j=self.energy(priced.latency, own.degree),
        )

    def _held(self, number: int, group: Group, own: Ends, form: str) -> tuple[State, ...]:
        """Weights that later groups of the stage may read here."""
        names = self.tied.held.get(number, ()) if self.tied is not None else ()
        base = self.pricer.base
        return tuple(state_of(n, own, format_of(group, n, form, base)) for n in names)

    def _sharing(self, resident: Variant, group: Group, form: str) -> Iterator[Variant]:
        """The same without weights that an earlier group of the stage holds."""
        names = self.tied.read.get(resident.group, ()) if self.tied is not None else ()
        if not names:
            return
        formats = {name: format_of(group, name, form, self.pricer.base) for name in names}
        ends, option = resident.ends, resident.option
        left = option.weight_size_bytes - sum(
            shared_bytes(name, ends, formats[name]) for name in names
        )
        shared = replace(
            option,
            name=f"{option.name}{SHARES}",
            needs=(*option.needs, *(state_of(name, ends, formats[name]) for name in names)),
            weight_size_bytes=max(left, 0),
        )
        priced = replace(resident.priced, weight_size_bytes=shared.weight_size_bytes)
        yield replace(resident, option=shared, priced=priced)

    def _streamed(self, resident: Variant, swaps: Swaps) -> Variant:
        """The same with its weights in host memory: they stream in during one group's time."""
        option, number = resident.option, resident.group
        size = option.weight_size_bytes
        fetch = swaps.fetch(size)
        row = tuple(
            Latency(
                max(cell.low_us, fetch.low_us),
                max(cell.expected_us, fetch.expected_us),
                max(cell.high_us, fetch.high_us),
            )
            for cell in resident.priced.latency
        )
        added = tuple(
            now.expected_us - before.expected_us
            for now, before in zip(row, resident.priced.latency, strict=True)
        )
        slots = slot_holds(number, len(self.groups), len(row), size)
        streamed = replace(
            option,
            name=f"{option.name}@{HOST}",
            latency=self._table(row),
            energy_j=self.energy(row, resident.ends.degree),
            makes=tuple(state for state in option.makes if state.tensor in resident.ends.makes),
            weight_size_bytes=0,
            holds=(*option.holds, *slots),
        )
        return replace(resident, option=streamed, residency=HOST, swap_us=added)

    def energy(self, row: tuple[Latency, ...], degree: int) -> float:
        """What a run of a row of latencies draws, joules; 0 where no source says."""
        return self.power.joules(row, degree) if self.power is not None else 0.0

    def _table(self, row: tuple[Latency, ...]) -> tuple[tuple[Latency, ...], ...]:
        """Equal tables are one object: solvers compare them by identity first."""
        return self._latencies.setdefault(row, (row,))


def last_readers(groups: Sequence[Group]) -> dict[str, int]:
    """Tensor -> number of the last group that reads it."""
    found: dict[str, int] = {}
    for number, group in enumerate(groups):
        found.update(dict.fromkeys(group.inputs, number))
    return found
