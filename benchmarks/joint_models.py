"""Joint planning problems from the structure of real models, with all decision families at once.

Operators carry FLOPs, weights and activations of their kind; options are priced by a roofline per
device type and tensor-parallel degree, with launch costs, collectives and casts. Layers repeat; the
sensitivity to compression differs from layer to layer, drawn from the seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from planner.ir.devices import Device, Hold, Link, Place, Store
from planner.ir.problem import (
    Conversion,
    Latency,
    Limits,
    Objective,
    Option,
    Problem,
    Setting,
    State,
    Transfer,
)

SPREAD = 0.05
"""Half-width of every interval, relative."""
PRESSURE = 2.5
"""Weights in fp16, relative to the memory of all devices: compression alone hardly fits."""
BUDGET = 0.3
"""Error budget, relative to the error of everything in four bits."""
LAUNCH_US = 2.0
"""Per kernel: the order of a launch inside a CUDA graph."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """A device type, by its data sheet."""

    name: str
    flops_per_us: float
    """Dense fp16."""
    bytes_per_us: float
    link_bytes_per_us: float
    memory_size_bytes: int
    price_per_hour: float


LARGE = Hardware("h200", 700e6, 4.0e6, 400e3, 141 * 10**9, 4.0)
SMALL = Hardware("l40s", 250e6, 0.8e6, 25e3, 48 * 10**9, 1.0)


@dataclass(frozen=True, slots=True)
class Format:
    """How weights are stored and multiplied."""

    name: str
    weight_bytes: float
    """Per parameter."""
    speed: float
    """Of the multiplication, relative to fp16."""
    form: str
    """What it reads and leaves."""
    harm: float
    """Error relative to a layer's sensitivity."""


FORMATS = (
    Format("fp16", 2.0, 1.0, "", 0.0),
    Format("int8", 1.0, 1.8, "q8", 0.2),
    Format("int4_wo", 0.5, 0.95, "", 1.0),
    Format("2:4", 1.125, 1.5, "", 0.5),
    Format("int8_wo", 1.0, 0.98, "", 0.15),
)


@dataclass(frozen=True, slots=True)
class Op:
    """One operator of a layer: what it computes for one token (or pixel block) of each shape."""

    name: str
    inputs: tuple[str, ...]
    params: int = 0
    """Weights that it reads; 0 for operators without."""
    width: int = 1024
    """Elements it leaves per token."""
    flops: float = 0.0
    """Per token besides 2 x params."""
    fuses: bool = False
    """May run in one kernel with its first input's maker."""
    cache: int = 0
    """Bytes of state per token."""
    splits: str = "any"
    """How it shards: `column` and `row` for weights, `any` for elementwise."""
    share: float = 1.0
    """Of the tokens that it sees (an expert of many)."""


@dataclass(frozen=True, slots=True)
class Case:
    """A problem to be made: structure, size, devices."""

    structure: str
    ops: int
    gpus: int
    options: int = 30
    seed: int = 0
    tokens: tuple[int, ...] = (2048, 256)
    """Per workload shape: prefill and decode."""
    weights: tuple[float, ...] = (1.0, 16.0)
    pressure: float = PRESSURE
    budget: float = BUDGET
    is_lean: bool = False
    """Memory besides the weights is what a tensor-parallel fp16 plan needs, not a dozen tensors."""


@dataclass(slots=True)
class _Layer:
    ops: list[Op] = field(default_factory=list)

    def add(self, op: Op) -> str:
        """Adds an operator; its name."""
        self.ops.append(op)
        return op.name


def _attention(layer: _Layer, x: str, width: int, tokens_seen: int = 1024) -> str:
    norm = layer.add(Op("norm", (x,), width=width))
    parts = [layer.add(Op(part, (norm,), width * width, width, splits="column")) for part in "qkv"]
    scores = layer.add(
        Op(
            "scores",
            (parts[0], parts[1]),
            width=width,
            flops=2.0 * width * tokens_seen,
            cache=2 * width,
        )
    )
    soft = layer.add(Op("softmax", (scores,), width=width, flops=8.0 * width, fuses=True))
    mixed = layer.add(
        Op("mix", (soft, parts[2]), width=width, flops=2.0 * width * tokens_seen, cache=2 * width)
    )
    out = layer.add(Op("out", (mixed,), width * width, width, splits="row"))
    return layer.add(Op("add1", (out, x), width=width, fuses=True))


def _mlp(layer: _Layer, x: str, width: int, prefix: str = "") -> str:
    norm = layer.add(Op(f"{prefix}norm2", (x,), width=width))
    up = layer.add(Op(f"{prefix}up", (norm,), 4 * width * width, 4 * width, splits="column"))
    act = layer.add(Op(f"{prefix}act", (up,), width=4 * width, flops=32.0 * width, fuses=True))
    down = layer.add(Op(f"{prefix}down", (act,), 4 * width * width, width, splits="row"))
    return layer.add(Op(f"{prefix}add2", (down, x), width=width, fuses=True))


def _transformer(width: int) -> Callable[[str], _Layer]:
    def make(x: str) -> _Layer:
        layer = _Layer()
        _mlp(layer, _attention(layer, x, width), width)
        return layer

    return make


def _switch(width: int, experts: int) -> Callable[[str], _Layer]:
    def make(x: str) -> _Layer:
        layer = _Layer()
        mid = _attention(layer, x, width)
        norm = layer.add(Op("norm2", (mid,), width=width))
        route = layer.add(Op("route", (norm,), width * experts, width))
        outs = []
        for e in range(experts):
            share = 1.0 / experts
            up = layer.add(
                Op(f"e{e}up", (route,), 4 * width * width, 4 * width, splits="column", share=share)
            )
            act = layer.add(Op(f"e{e}act", (up,), width=4 * width, fuses=True, share=share))
            outs.append(
                layer.add(
                    Op(f"e{e}down", (act,), 4 * width * width, width, splits="row", share=share)
                )
            )
        joined = layer.add(Op("combine", tuple(outs), width=width))
        layer.add(Op("add2", (joined, mid), width=width, fuses=True))
        return layer

    return make


def _conformer(width: int) -> Callable[[str], _Layer]:
    def make(x: str) -> _Layer:
        layer = _Layer()
        first = _mlp(layer, x, width, "a")
        mixed = _attention(layer, first, width, 256)
        norm = layer.add(Op("cnorm", (mixed,), width=width))
        wide = layer.add(Op("point1", (norm,), 2 * width * width, 2 * width, splits="column"))
        gate = layer.add(Op("glu", (wide,), width=width, fuses=True))
        deep = layer.add(Op("depth", (gate,), 31 * width, width))
        act = layer.add(Op("swish", (deep,), width=width, fuses=True))
        thin = layer.add(Op("point2", (act,), width * width, width, splits="row"))
        last = layer.add(Op("add3", (thin, mixed), width=width, fuses=True))
        _mlp(layer, last, width, "b")
        return layer

    return make


def _resnet(width: int) -> Callable[[str], _Layer]:
    def make(x: str) -> _Layer:
        layer = _Layer()
        one = layer.add(Op("conv1", (x,), width * width // 4, width // 4, splits="column"))
        relu = layer.add(Op("relu1", (one,), width=width // 4, fuses=True))
        two = layer.add(Op("conv2", (relu,), 9 * width * width // 16, width // 4))
        relu2 = layer.add(Op("relu2", (two,), width=width // 4, fuses=True))
        three = layer.add(Op("conv3", (relu2,), width * width // 4, width, splits="row"))
        total = layer.add(Op("add", (three, x), width=width, fuses=True))
        layer.add(Op("relu3", (total,), width=width, fuses=True))
        return layer

    return make


STRUCTURES: dict[str, Callable[[str], _Layer]] = {
    "bert": _transformer(4096),
    "gpt": _transformer(12288),
    "switch": _switch(2048, 64),
    "conformer": _conformer(2048),
    "resnet": _resnet(4096),
}

NARROW: dict[str, Callable[[str], _Layer]] = {"switch8": _switch(2048, 8)}
"""For comparisons of a few layers: a Switch layer of 64 experts alone has 209 operators."""


def graph(case: Case) -> list[Op]:
    """Operators of whole layers, at least `case.ops` of them, in topological order."""
    found: list[Op] = []
    x, number = "input", 0
    while len(found) < case.ops:
        layer = {**STRUCTURES, **NARROW}[case.structure](x)
        names = {op.name: f"L{number}.{op.name}" for op in layer.ops}
        for op in layer.ops:
            inputs = tuple(names.get(name, name) for name in op.inputs)
            found.append(
                Op(
                    **{
                        **{f: getattr(op, f) for f in Op.__slots__},
                        "inputs": inputs,
                        "name": names[op.name],
                    }
                )
            )
        x, number = found[-1].name, number + 1
    return found


@dataclass(slots=True)
class Maker:
    """Makes the problem of a case."""

    case: Case
    ops: list[Op]
    rng: random.Random
    latencies: dict[tuple[float, ...], tuple[tuple[Latency, ...], ...]] = field(
        default_factory=dict
    )
    harm: dict[str, float] = field(default_factory=dict)

    def places(self) -> list[tuple[Place, Hardware]]:
        """The small type up to degree 2, the large one up to a node, or pools of experts."""
        degrees = [1, 2, 4, 8] if self.case.gpus <= 8 else [8, 32, 128]
        found = [(Place(f"h200x{n}", "h200", n), LARGE) for n in degrees if n <= self.case.gpus]
        if self.case.gpus <= 8:
            found += [(Place(f"l40sx{n}", "l40s", n), SMALL) for n in (1, 2)]
        return found

    def table(self, *times_us: float) -> tuple[tuple[Latency, ...], ...]:
        """One setting; equal tables are one object."""
        key = tuple(round(us, 3) for us in times_us)
        if key not in self.latencies:
            cells = tuple(Latency((1 - SPREAD) * us, us, (1 + SPREAD) * us) for us in key)
            self.latencies[key] = (cells,)
        return self.latencies[key]

    def time_us(self, op: Op, form: Format, place: Place, hardware: Hardware, tokens: int) -> float:
        """Roofline of one operator on one rank."""
        rows = tokens * op.share
        flops = rows * (2.0 * op.params / form.speed + op.flops)
        size = op.params * form.weight_bytes + 4.0 * rows * op.width
        work = max(flops / (0.6 * hardware.flops_per_us), size / (0.8 * hardware.bytes_per_us))
        return LAUNCH_US + work / place.degree

    def reduce_us(self, op: Op, place: Place, hardware: Hardware, tokens: int) -> float:
        """Ring all-reduce of what an operator leaves."""
        if place.degree == 1:
            return 0.0
        size = 2.0 * tokens * op.share * op.width * (place.degree - 1) / place.degree
        return 6.0 + 2.0 * size / hardware.link_bytes_per_us

    def options(self, op: Op, position: int, ends: dict[str, int]) -> Iterator[Option]:
        """Formats x places x shardings."""
        formats = FORMATS[: max(1, min(5, self.case.options // 6))] if op.params else FORMATS[:1]
        for place, hardware in self.places():
            for form in formats:
                for split in self.splits(op, place):
                    yield self.option(op, form, place, hardware, split, position, ends)

    @staticmethod
    def splits(op: Op, place: Place) -> tuple[str, ...]:
        """How an operator may be sharded at a place."""
        if place.degree == 1:
            return ("whole",)
        return {"column": ("column",), "row": ("row",)}.get(op.splits, ("whole", "split"))

    def option(
        self,
        op: Op,
        form: Format,
        place: Place,
        hardware: Hardware,
        split: str,
        position: int,
        ends: dict[str, int],
    ) -> Option:
        """One variant of one operator."""
        ranks = 1 if split == "whole" else place.degree
        alone = Place("", place.device, ranks)
        reads = "split" if split in ("row", "split") else form.form or "plain"
        leaves = "split" if split in ("column", "split") else "plain"
        times = []
        for tokens in self.case.tokens:
            us = self.time_us(op, form, alone, hardware, tokens)
            us += self.reduce_us(op, place, hardware, tokens) if split == "row" else 0.0
            times.append(us)
        size = 2 * max(self.case.tokens) * op.width * op.share
        size /= ranks if leaves == "split" else 1
        return Option(
            f"{op.name}:{form.name}:{place.name}:{split}",
            (op.name,),
            form.name,
            self.table(*times),
            tuple(State(name, reads) for name in op.inputs),
            (State(op.name, leaves),),
            weight_size_bytes=int(op.params * form.weight_bytes / ranks),
            workspace_size_bytes=int(size) // 4,
            error=form.harm * self.harm[op.name],
            energy_j=sum(times) * 1e-6 * 500.0,
            place=place.name,
            holds=(Hold(position, ends[op.name], int(size)),),
            cache_size_bytes=op.cache * 4096 // ranks,
        )

    def fused(self, first: Option, second: Option, op: Op) -> Option:
        """Two operators in one kernel: one launch and one round trip less."""
        times = []
        for a, b in zip(first.latency[0], second.latency[0], strict=True):
            assert a is not None
            assert b is not None
            times.append(a.expected_us + max(0.25 * b.expected_us, b.expected_us - 2 * LAUNCH_US))
        inner = {state.tensor for state in first.makes}
        needs = [s for s in (*first.needs, *second.needs) if s.tensor not in inner]
        return Option(
            f"{first.name}+{op.name}",
            (*first.ops, *second.ops),
            first.format,
            self.table(*times),
            tuple(dict.fromkeys(needs)),
            second.makes,
            first.weight_size_bytes,
            first.workspace_size_bytes,
            first.error,
            first.energy_j + 0.5 * second.energy_j,
            first.place,
            second.holds,
            first.cache_size_bytes + second.cache_size_bytes,
        )

    def conversions(self, op: Op) -> Iterator[Conversion]:
        """Casts, and collectives where there are ranks."""
        for place, hardware in self.places():
            casts, gathers, slices = [], [], []
            for tokens in self.case.tokens:
                size = 2.0 * tokens * op.share * op.width
                casts.append(LAUNCH_US + 1.5 * size / hardware.bytes_per_us)
                gathers.append(6.0 + size / hardware.link_bytes_per_us)
                slices.append(LAUNCH_US)
            name = f"{op.name}@{place.name}"
            plain, split = State(op.name, "plain"), State(op.name, "split")
            quantised = State(op.name, "q8")
            yield Conversion(f"cast:{name}", plain, quantised, self.table(*casts), place.name)
            if place.degree > 1:
                yield Conversion(f"gather:{name}", split, plain, self.table(*gathers), place.name)
                yield Conversion(f"slice:{name}", plain, split, self.table(*slices), place.name)

    def transfers(self, op: Op) -> Iterator[Transfer]:
        """Whole tensors, in full or in eight bits."""
        sizes = tuple(int(2 * tokens * op.share * op.width) for tokens in self.case.tokens)
        state, small = State(op.name, "plain"), State(op.name, "q8")
        yield Transfer(f"send:{op.name}", state, state, sizes)
        half = tuple(size // 2 for size in sizes)
        yield Transfer(f"send8:{op.name}", small, small, half)


def working_set_bytes(case: Case, ops: list[Op], ends: dict[str, int]) -> int:
    """Peak of live activations, largest workspace and caches of one rank of a Megatron plan:
    columns, then rows; what is elementwise stays as its first input is."""
    splits: set[str] = set()
    live = [0.0] * (len(ops) + 1)
    largest = 0.0
    for position, op in enumerate(ops):
        if op.splits == "column" or (op.splits == "any" and op.inputs[0] in splits):
            splits.add(op.name)
        size = 2.0 * max(case.tokens) * op.width * op.share
        size /= case.gpus if op.name in splits else 1
        largest = max(largest, size / 4)
        for moment in range(position, ends[op.name]):
            live[moment] += size
    caches = sum(op.cache * 4096 for op in ops) / case.gpus
    return int(max(live) + largest + caches)


def make(case: Case) -> Problem:
    """The problem of a case; memory binds: fp16 weights need `pressure` times what there is."""
    ops = graph(case)
    maker = Maker(case, ops, random.Random(case.seed))
    params = sum(op.params for op in ops)
    total = params * FORMATS[0].weight_bytes
    memory = int(total / case.pressure / case.gpus)
    ends = {op.name: position + 1 for position, op in enumerate(ops)}
    for position, op in enumerate(ops):
        ends.update((name, position + 1) for name in op.inputs if name in ends)
        layer = op.name.split(".")[0]
        if layer not in maker.harm:
            maker.harm[layer] = maker.rng.lognormvariate(0.0, 1.0)
        weight = op.params / max(params, 1) * maker.rng.choice((0.5, 1.0, 2.0))
        maker.harm[op.name] = (
            maker.harm[layer] * weight
            if not op.share < 1
            else (maker.harm[layer] * op.params / max(params, 1))
        )
    options: list[Option] = []
    by_op: dict[str, list[Option]] = {}
    for position, op in enumerate(ops):
        mine = list(maker.options(op, position, ends))
        by_op[op.name] = mine
        options += mine
        if op.fuses and op.inputs[0] in by_op:
            options += _fusions(maker, by_op[op.inputs[0]], mine, op)
    reads = {op.name for op in ops} & {name for op in ops for name in op.inputs}
    given = tuple(State("input", form) for form in ("plain", "split", "q8"))
    reserve = max(ends.values()) and 12 * 2 * max(case.tokens) * max(op.width for op in ops)
    if case.is_lean:
        reserve = working_set_bytes(case, ops, ends)
    kinds = {hardware.name: hardware for _, hardware in maker.places()}
    devices = tuple(
        Device(
            name,
            int((memory if name == "h200" else memory // 2) + reserve),
            None,
            hardware.price_per_hour,
        )
        for name, hardware in kinds.items()
    )
    return Problem(
        ops=tuple(op.name for op in ops),
        edges=tuple((name, op.name) for op in ops for name in op.inputs if name != "input"),
        options=tuple(options),
        settings=(Setting("graphs", tuple(Latency(9.0, 10.0, 11.0) for _ in case.tokens)),),
        shape_weights=case.weights,
        conversions=tuple(c for op in ops if op.name in reads for c in maker.conversions(op)),
        given=given,
        wanted=(State(ops[-1].name, "plain"),),
        limits=Limits(
            error=case.budget * sum(maker.harm[op.name] for op in ops if op.params),
            devices=case.gpus,
        ),
        objectives=(Objective.LATENCY, Objective.ERROR),
        places=tuple(place for place, _ in maker.places()),
        devices=devices,
        links=tuple(
            Link(
                a, b, 8.0, LARGE.link_bytes_per_us if a == b == "h200" else SMALL.link_bytes_per_us
            )
            for a in kinds
            for b in kinds
        ),
        stages=min(case.gpus, 8),
        stores=(
            Store("host", 5.0, 50e3, ahead=48),
            Store("peer", 5.0, 200e3, ahead=48, devices=("h200",), memory_size_bytes=memory // 2),
        ),
        transfers=tuple(t for op in ops if op.name in reads for t in maker.transfers(op)),
    )


def _fusions(maker: Maker, firsts: list[Option], seconds: list[Option], op: Op) -> list[Option]:
    """Pairs at the same place that hand over what the other wants."""
    found = []
    for first in firsts:
        for second in seconds:
            wanted = {s.form for s in second.needs if s.tensor == first.makes[0].tensor}
            if first.place == second.place and wanted == {first.makes[0].form}:
                found.append(maker.fused(first, second, op))
    return found
