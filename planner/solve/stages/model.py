"""The joint model of a pipeline under one setting: columns and the sums that constraints use.

Sets        g options, o operators, p stages, k places, v conversions, t transfers, r stores
Variables   x[g,p]        option g runs on stage p
            y[k,p]        stage p is at place k
            c[v,p]        conversion v is paid on stage p
            f[t,q,p,d,e]  transfer t goes from stage q on devices d to stage p on devices e
            u[g,p,k,r]    weights of g stream from store r to stage p at place k
            e[i,j,p]      i and j are the options of a pair, j on stage p
            amounts       B resident bytes, W workspace, Z slots, T arrivals, F finishes, R period,
                          M memory, Q query
The constraints stand beside this file, `rules` lists them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from planner.ir.devices import Device, Link, Place, Store
from planner.ir.problem import Latency, Option, Problem, State
from planner.solve.linear import Model
from planner.solve.price import fetch_us, positions

LOW, EXPECTED, HIGH = 0, 1, 2
QUERY = 3.6e9
"""Microseconds an hour: price per hour times period over this is the cost of a query."""
ENDS = ("low_us", "expected_us", "high_us")
Homes = Mapping[str, frozenset[int]]
"""Stages that operators may run on; those that are not listed may run anywhere."""


@dataclass(slots=True)
class Sum:
    """constant + Σ coefficient·column."""

    terms: dict[int, float] = field(default_factory=dict)
    constant: float = 0.0

    def add(self, column: int, coefficient: float) -> None:
        """Adds one term."""
        self.terms[column] = self.terms.get(column, 0.0) + coefficient

    def plus(self, other: Sum, factor: float = 1.0) -> Sum:
        """self + factor·other."""
        total = Sum(dict(self.terms), self.constant + factor * other.constant)
        for column, coefficient in other.terms.items():
            total.add(column, factor * coefficient)
        return total

    def upper(self, model: Model) -> float:
        """The largest value it can take, term by term."""
        positive = (max(a, 0.0) * model.columns[j].upper for j, a in self.terms.items())
        return self.constant + math.fsum(positive)


def total(sums: Iterable[Sum]) -> Sum:
    """Adds sums up."""
    found = Sum()
    for each in sums:
        found.constant += each.constant
        for column, coefficient in each.terms.items():
            found.add(column, coefficient)
    return found


@dataclass(slots=True)
class StageModel:
    """Columns of one setting, C8 at one end of its intervals."""

    problem: Problem
    row: int
    end: int
    sequence: tuple[int, ...] | None = None
    """The only places of the stages, in order; None: any."""
    homes: Homes | None = None
    """The only stages of some operators; None: any."""
    model: Model = field(default_factory=Model)
    x: dict[tuple[int, int], int] = field(default_factory=dict)
    y: dict[tuple[int, int], int] = field(default_factory=dict)
    c: dict[tuple[int, int], int] = field(default_factory=dict)
    f: dict[tuple[int, int, int, str, str], int] = field(default_factory=dict)
    u: dict[tuple[int, int, int, int], int] = field(default_factory=dict)
    e: dict[tuple[int, int, int, int], int] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)
    """Store -> whether any weight lives there."""
    finish: dict[tuple[int, int, int], int] = field(default_factory=dict)
    """(stage, shape, end) -> finish of its options, where weights can stream."""
    resident: dict[int, int] = field(default_factory=dict)
    """Where memory has several rows."""
    workspace: dict[int, int] = field(default_factory=dict)
    slots: dict[tuple[int, int], int] = field(default_factory=dict)
    """(stage, store)."""
    period: int = -1
    memory: int = -1
    query: int = -1
    _sources: dict[tuple[State, int], list[int]] = field(default_factory=dict)

    @property
    def stages(self) -> range:
        """Numbers of the stages."""
        return range(self.problem.stages if self.sequence is None else len(self.sequence))

    def places_at(self, stage: int) -> Sequence[int]:
        """Numbers of the places that a stage may have."""
        if self.sequence is not None:
            return self.sequence[stage : stage + 1]
        return range(len(self.problem.places))

    def may_run(self, g: int, stage: int) -> bool:
        """Whether an option may run at the places of a stage."""
        option = self.problem.options[g]
        homes = self.homes or {}
        if any(stage not in homes.get(op, (stage,)) for op in option.ops):
            return False
        return bool(self.places_of(option.place, stage))

    def available(self, state: State, stage: int) -> Sum:
        """Σ makers + conversions + transfers that give a state to a stage; once all columns are
        made."""
        if not self._sources:
            self._index_sources()
        return Sum(dict.fromkeys(self._sources.get((state, stage), ()), 1.0))

    def _index_sources(self) -> None:
        problem = self.problem
        found: dict[tuple[State, int], list[int]] = {}
        for (g, p), column in self.x.items():
            for state in problem.options[g].makes:
                found.setdefault((state, p), []).append(column)
        for (v, p), column in self.c.items():
            found.setdefault((problem.conversions[v].target, p), []).append(column)
        for key, column in self.f.items():
            found.setdefault((problem.transfers[key[0]].target, key[2]), []).append(column)
        self._sources = found

    @property
    def shapes(self) -> range:
        """Numbers of the workload shapes."""
        return range(len(self.problem.shape_weights))

    @property
    def device_of(self) -> list[Device]:
        """Device type of each place."""
        devices = {device.name: device for device in self.problem.devices}
        return [devices[place.device] for place in self.problem.places]

    def cells(self, table: tuple[tuple[Latency | None, ...], ...]) -> list[Latency] | None:
        """A part's latencies under this setting; None where it does not exist."""
        found = [cell for cell in table[self.row] if cell is not None]
        return found if len(found) == len(table[self.row]) else None

    def places_of(self, name: str | None, stage: int) -> list[int]:
        """Numbers of the places of a stage that something can run at."""
        places = self.problem.places
        return [k for k in self.places_at(stage) if name in (None, places[k].name)]

    def on_stage(self, members: Iterable[int], stage: int) -> list[int]:
        """Columns x[g,p] of some options, those that exist."""
        return [self.x[g, stage] for g in members if (g, stage) in self.x]

    def covering(self) -> dict[str, list[int]]:
        """Options that compute each operator."""
        found: dict[str, list[int]] = {name: [] for name in self.problem.ops}
        for g, option in enumerate(self.problem.options):
            for op in option.ops:
                found[op].append(g)
        return found

    def links(self) -> dict[tuple[str, str], Link]:
        """Links by the names of their device types."""
        return {(link.source, link.target): link for link in self.problem.links}

    def latency_us(
        self, table: tuple[tuple[Latency | None, ...], ...], shape: int, end: int
    ) -> float:
        """One latency of something that exists."""
        return float(getattr(table[self.row][shape], ENDS[end]))

    def options_us(
        self, stage: int, shape: int, end: int, only: Iterable[int] | None = None
    ) -> Sum:
        """Σ_g L[g,w]·x[g,p], streaming apart."""
        found = Sum()
        for g in range(len(self.problem.options)) if only is None else only:
            if (g, stage) in self.x:
                us = self.latency_us(self.problem.options[g].latency, shape, end)
                found.add(self.x[g, stage], us)
        return found

    def stage_us(self, stage: int, shape: int, end: int) -> Sum:
        """Time of a stage: options with streaming, conversions, transfers, pairs."""
        if (stage, shape, end) in self.finish:
            found = Sum({self.finish[stage, shape, end]: 1.0})
        else:
            found = self.options_us(stage, shape, end)
        for (v, p), column in self.c.items():
            if p == stage:
                table = self.problem.conversions[v].latency
                found.add(column, self.latency_us(table, shape, end))
        links = self.links()
        for (t, _, p, source, target), column in self.f.items():
            if p == stage:
                size = self.problem.transfers[t].size_bytes[shape]
                found.add(column, links[source, target].time_us(size))
        for (number, i, j, p), column in self.e.items():
            if p == stage:
                found.add(column, self.pair_us(number, i, j))
        return found

    def pair_us(self, number: int, i: int, j: int) -> float:
        """Cost of one entry of a pair; i and j are ranks among the operators' options."""
        pair = self.problem.pairs[number]
        n = sum(pair.second in option.ops for option in self.problem.options)
        return pair.latency_us[i * n + j]

    def latency(self, shape: int, end: int) -> Sum:
        """H[w] + Σ_p time of stage p."""
        overhead = self.problem.settings[self.row].overhead[shape]
        stages = total(self.stage_us(p, shape, end) for p in self.stages)
        return stages.plus(Sum(constant=float(getattr(overhead, ENDS[end]))))

    def weighted(self, sums: Iterable[Sum]) -> Sum:
        """Σ_w q[w]·sum[w]."""
        found = Sum()
        for weight, each in zip(self.problem.shape_weights, sums, strict=True):
            found = found.plus(each, weight)
        return found

    def error(self) -> Sum:
        """Σ ε·x."""
        options = self.problem.options
        return Sum({column: options[g].error for (g, _), column in self.x.items()})

    def energy(self) -> Sum:
        """Joules of options, conversions and transfers."""
        problem = self.problem
        terms = {column: problem.options[g].energy_j for (g, _), column in self.x.items()}
        terms |= {column: problem.conversions[v].energy_j for (v, _), column in self.c.items()}
        terms |= {column: problem.transfers[key[0]].energy_j for key, column in self.f.items()}
        return Sum(terms)

    def devices(self) -> Sum:
        """Σ degree·y + extra devices of used stores."""
        places, stores = self.problem.places, self.problem.stores
        terms = {column: float(places[k].degree) for (k, _), column in self.y.items()}
        terms |= {column: float(stores[r].extra_devices) for r, column in self.used.items()}
        return Sum(terms)

    def price(self) -> Sum:
        """Price per hour of setting, stages and stores."""
        places, stores, devices = self.problem.places, self.problem.stores, self.device_of
        terms = {
            column: places[k].degree * devices[k].price_per_hour
            for (k, _), column in self.y.items()
        }
        terms |= {column: stores[r].price_per_hour for r, column in self.used.items()}
        return Sum(terms, self.problem.settings[self.row].price_per_hour)

    def resident_bytes(self, stage: int) -> Sum:
        """Bytes of a stage but for peaks: fixed ones, weights that do not stream, caches, W, Z."""
        problem = self.problem
        fixed = problem.activation_size_bytes + problem.settings[self.row].size_bytes
        found = Sum({self.y[k, p]: float(fixed) for (k, p) in self.y if p == stage})
        for (g, p), column in self.x.items():
            if p == stage:
                option = problem.options[g]
                found.add(column, option.weight_size_bytes + option.cache_size_bytes)
        for (g, p, _, _), column in self.u.items():
            if p == stage:
                found.add(column, -float(problem.options[g].weight_size_bytes))
        peaks = [self.workspace[stage]] if stage in self.workspace else []
        for column in (*peaks, *self._slots(stage)):
            found.add(column, 1.0)
        return found

    def _slots(self, stage: int) -> Iterator[int]:
        return (column for (p, _), column in self.slots.items() if p == stage)

    def fetch_us(self, key: tuple[int, int, int, int]) -> float:
        """Fetch time of one column u[g,p,k,r]."""
        g, _, k, r = key
        place: Place = self.problem.places[k]
        return fetch_us(self.problem.stores[r], self.problem.options[g], place.degree)

    def positions(self) -> list[int]:
        """Position of each option."""
        return positions(self.problem, self.problem.options)


def may_store(option: Option, store: Store, device: Device) -> bool:
    """Whether an option's weights may stream from a store into a device type."""
    allowed = option.stores is None or store.name in option.stores
    return allowed and (not store.devices or device.name in store.devices)
