"""The choice of groups as the solver's problem: candidates become options, number formats settings.

Sets     O  tensors that may be written, and contractions      G  candidates (`candidates.py`)
C1       a contraction is computed by exactly one chosen group; a tensor that may be written is
         written by exactly one, or stays inside (an option that costs nothing and makes nothing)
C5       what a group reads from memory, a chosen group has written
C8, C9   one launch after another: link + phases + traffic (`kernels/estimate.py`)
C10      the error of a number format, spread over the contractions

One setting a number format; one shape of the workload a bucket with groups of its own, so options
of one shape cost nothing under the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from planner.fuse.candidates import Candidate, Space
from planner.fuse.tilings import Configure, Tilings
from planner.ir.problem import Latency, Limits, Objective, Option, Problem, Setting, State
from planner.kernels.estimate import Rates, launch_us
from planner.kernels.source import Numbers, Part

MEMORY = "memory"
"""The one form of a state here: on the device, in the engine's number format."""
SPREAD = 0.15
"""Half of the 95 % interval of a modelled launch, relative (median deviation on an H200: see
`benchmarks/notes/small_models.md`)."""


@dataclass(frozen=True, slots=True)
class Form:
    """A way to store and multiply, for the whole engine."""

    name: str
    """`fp16`, `fp32`, ..."""
    error: float
    """NMSE at the outputs."""
    resident_size_bytes: int
    """Weights, and what driver and libraries keep."""
    overhead_us: tuple[float, ...]
    """What a call costs besides its launches, per workload shape: its start, other parts."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A part of the model under one workload shape: its candidates, and numbers for each form."""

    name: str
    shape: int
    """Number of its workload shape."""
    space: Space
    numbers: Mapping[str, Numbers]
    """By name of the form."""
    activation_size_bytes: int


@dataclass(frozen=True, slots=True)
class Choice:
    """What an option stands for."""

    bucket: str
    candidate: Candidate
    parts: tuple[Part, ...]
    latency_us: float


@dataclass(frozen=True, slots=True)
class Groups:
    """The problem, and the way back from its options."""

    problem: Problem
    choices: Mapping[str, Choice]
    """Option -> group; what stays inside is not listed."""

    def chosen(self, names: Sequence[str], bucket: str) -> tuple[Choice, ...]:
        """The groups of a solution in one bucket."""
        found = (self.choices[name] for name in names if name in self.choices)
        return tuple(choice for choice in found if choice.bucket == bucket)


def pose(
    buckets: Sequence[Bucket],
    forms: Sequence[Form],
    shape_weights: Sequence[float],
    rates: Rates,
    limits: Limits,
    objectives: tuple[Objective, ...],
    configure: Configure = lambda space, stage: None,
    instead: Mapping[str, tuple[Part, ...] | None] = MappingProxyType({}),
) -> Groups:
    """All buckets in all forms as one problem; O(candidates x forms).

    Args:
        instead: option -> the stages that it stands for, where the compiler wants others than the
            generator; None: it is left out (`planner.fuse.sound`).
    """
    choices: dict[str, Choice] = {}
    options: list[Option] = []
    ops: list[str] = []
    total = max(sum(len(bucket.space.heavy) for bucket in buckets), 1)
    for bucket in buckets:
        covered = _covered(bucket.space)
        ops += [_op(bucket, name) for name in covered]
        tilings = Tilings(bucket.space, configure)
        for row, form in enumerate(forms):
            numbers = bucket.numbers[form.name]
            at = _Place(row, bucket.shape, len(forms), len(shape_weights))
            for index, candidate in enumerate(bucket.space.candidates):
                name = f"{bucket.name}/{form.name}/{index}:{candidate.makes[0]}"
                own = instead.get(name, ())
                if own is None:
                    continue
                if own:
                    time_us = launch_us(bucket.space.program, own, numbers, rates)
                else:
                    own, time_us = tilings.best(candidate, numbers, rates)
                choices[name] = Choice(bucket.name, candidate, own, time_us)
                options.append(_option(name, candidate, bucket, form, covered, time_us, at, total))
            options += [_inside(bucket, form, tensor, at) for tensor in bucket.space.optional]
    problem = Problem(
        ops=tuple(ops),
        edges=(),
        options=tuple(options),
        settings=tuple(
            Setting(
                form.name,
                tuple(_interval(time_us) for time_us in form.overhead_us),
                size_bytes=form.resident_size_bytes,
            )
            for form in forms
        ),
        shape_weights=tuple(shape_weights),
        given=tuple(
            _state(bucket, name)
            for bucket in buckets
            for name in (*bucket.space.program.inputs, *bucket.space.program.constants)
        ),
        wanted=tuple(
            _state(bucket, name)
            for bucket in buckets
            for name in dict.fromkeys(bucket.space.program.outputs)
            if name in bucket.space.program.by_name
        ),
        activation_size_bytes=sum(bucket.activation_size_bytes for bucket in buckets),
        limits=limits,
        objectives=objectives,
    )
    return Groups(problem, choices)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a latency table an option exists."""

    setting: int
    shape: int
    settings: int
    shapes: int

    def table(self, latency: Latency) -> tuple[tuple[Latency | None, ...], ...]:
        """The price in its own column, nothing in the others of its row, None in other rows."""
        free = Latency(0.0, 0.0, 0.0)
        own = tuple(latency if shape == self.shape else free for shape in range(self.shapes))
        absent: tuple[Latency | None, ...] = (None,) * self.shapes
        return tuple(own if row == self.setting else absent for row in range(self.settings))


def _covered(space: Space) -> dict[str, None]:
    """What C1 counts, in topological order."""
    counted = space.heavy | space.optional | set(space.program.outputs)
    return dict.fromkeys(nest.name for nest in space.program.nests if nest.name in counted)


def _option(
    name: str,
    candidate: Candidate,
    bucket: Bucket,
    form: Form,
    covered: Mapping[str, None],
    time_us: float,
    at: _Place,
    contractions: int,
) -> Option:
    heavy = bucket.space.heavy
    computed = dict.fromkeys(candidate.makes)
    for stage in candidate.stages:
        computed.update(dict.fromkeys(sorted(stage.internal & heavy)))
    own = sum(op in heavy for op in computed)
    constants = bucket.space.program.constants
    return Option(
        name=name,
        ops=tuple(_op(bucket, op) for op in computed if op in covered),
        format=form.name,
        latency=at.table(_interval(time_us)),
        needs=tuple(_state(bucket, read) for read in candidate.reads if read not in constants),
        makes=tuple(_state(bucket, made) for made in candidate.makes),
        error=form.error * own / contractions,
    )


def _inside(bucket: Bucket, form: Form, tensor: str, at: _Place) -> Option:
    """The tensor never reaches memory: whoever needs it computes it."""
    return Option(
        name=f"{bucket.name}/{form.name}/inside:{tensor}",
        ops=(_op(bucket, tensor),),
        format=form.name,
        latency=at.table(Latency(0.0, 0.0, 0.0)),
    )


def _op(bucket: Bucket, tensor: str) -> str:
    return f"{bucket.name}/{tensor}"


def _state(bucket: Bucket, tensor: str) -> State:
    return State(_op(bucket, tensor), MEMORY)


def _interval(time_us: float) -> Latency:
    return Latency(time_us * (1 - SPREAD), time_us, time_us * (1 + SPREAD))
