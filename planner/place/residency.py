"""In which format runs of operators stand, which keep their weights and which fetch them for each
run: one Problem.

A run's weights arrive while the run before it computes, behind the last those of the first, so they
take their bytes at both (C4). What fetching adds to the time is part of the option's price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from planner.ir.devices import Device, Hold, Place
from planner.ir.problem import Latency, Limits, Objective, Option, Problem, Setting
from planner.place.chunks import Chunk

RESIDENT, STREAMED = "resident", "streamed"
KEPT, AGAIN = "kept", "again"
_PACKING = 1.02
"""Bytes of weights in memory to bytes in files: kernels pack them in whole blocks."""
_DEVICE = "memory"
_NOTHING = Latency(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Priced:
    """A run of operators with what each way to keep its weights costs, per workload shape."""

    chunk: Chunk
    resident: tuple[Latency, ...]
    streamed: tuple[Latency, ...] | None
    """None: it has no weights that could stream, or ONNX Runtime does not run it so."""
    form: str = ""
    """Which of the ways to write the run this is; nothing where there is one."""
    error: float = 0.0
    """What it adds to the error of the answers (C10)."""
    workspace_size_bytes: int = 0
    """Of its activations, beyond what every way takes."""

    def weight_size_bytes(self, *, is_streamed: bool) -> int:
        """What stays in memory."""
        return self.chunk.kept_size_bytes if is_streamed else self._packed_bytes

    @property
    def _packed_bytes(self) -> int:
        return int(_PACKING * self.chunk.weight_size_bytes)


@dataclass(frozen=True, slots=True)
class Copy:
    """A tensor that is kept from run to run, or made again before one of them."""

    name: str
    after: int
    """Number of the run that last needs the first one."""
    before: int
    """Number of the run that first reads the copy."""
    last: int
    """Number of the run that last does."""
    size_bytes: int
    scratch_size_bytes: int
    latency: tuple[Latency, ...]
    """Of making it again, per workload shape."""


def pose_residency(
    priced: Sequence[Priced | Sequence[Priced]],
    shares: Sequence[float],
    fixed_bytes: int,
    limit_bytes: int | None,
    objectives: Sequence[Objective] = (Objective.LATENCY,),
    error: float | None = None,
    alive: Sequence[Sequence[Hold]] = (),
    copies: Sequence[Copy] = (),
) -> Problem:
    """The Problem.

    Args:
        priced: runs in order; several ways to write one are alternatives.
        shares: how often each workload shape occurs.
        fixed_bytes: what the process holds whatever is chosen.
        limit_bytes: of the process.
        error: what errors may add up to.
        alive: activations that each run leaves behind, time points being numbers of runs; without
            them `fixed_bytes` holds their peak. What `copies` stand for ends with `Copy.after`.
        copies: each is one more choice, beside the run before which it is made.
    """
    runs = [(run,) if isinstance(run, Priced) else tuple(run) for run in priced]
    names = [f"{n}:{run[0].chunk.name}" for n, run in enumerate(runs)]
    options = [
        option
        for n, (name, run) in enumerate(zip(names, runs, strict=True))
        for each in run
        for option in _options(name, each, n, len(runs), tuple(alive[n]) if alive else ())
    ]
    order = list(names)
    for copy in copies:
        order.insert(order.index(names[copy.before]), copy.name)
        options += _keep_or_again(copy, len(shares))
    return Problem(
        ops=tuple(order),
        edges=tuple(pairwise(order)),
        options=tuple(options),
        settings=(Setting("run", (_NOTHING,) * len(shares)),),
        shape_weights=tuple(shares),
        activation_size_bytes=fixed_bytes,
        limits=Limits(error=error),
        objectives=tuple(objectives),
        places=(Place(_DEVICE, _DEVICE),),
        devices=(Device(_DEVICE, limit_bytes, 1),),
    )


def _keep_or_again(copy: Copy, shapes: int) -> list[Option]:
    """Kept between its readers, for nothing; or made anew, when all that it takes is there."""
    kept = Option(
        name=option_name(copy.name, "", KEPT),
        ops=(copy.name,),
        format=KEPT,
        latency=((_NOTHING,) * shapes,),
        holds=(Hold(copy.after + 1, copy.last + 1, copy.size_bytes),),
        place=_DEVICE,
    )
    scratch = Hold(copy.before, copy.before + 1, copy.scratch_size_bytes)
    again = replace(
        kept,
        name=option_name(copy.name, "", AGAIN),
        format=AGAIN,
        latency=(copy.latency,),
        holds=(Hold(copy.before, copy.last + 1, copy.size_bytes), scratch),
    )
    return [kept, again]


def _options(
    name: str, each: Priced, number: int, count: int, alive: tuple[Hold, ...]
) -> list[Option]:
    keeps = Option(
        name=option_name(name, each.form, RESIDENT),
        ops=(name,),
        format=f"{each.form}:{RESIDENT}",
        latency=(each.resident,),
        weight_size_bytes=each.weight_size_bytes(is_streamed=False),
        workspace_size_bytes=each.workspace_size_bytes,
        error=each.error,
        place=_DEVICE,
        holds=alive,
    )
    if each.streamed is None:
        return [keeps]
    fetches = replace(
        keeps,
        name=option_name(name, each.form, STREAMED),
        format=f"{each.form}:{STREAMED}",
        latency=(each.streamed,),
        weight_size_bytes=each.weight_size_bytes(is_streamed=True),
        holds=(*alive, *slots(number, count, each.chunk.fetched_size_bytes)),
    )
    return [keeps, fetches]


def option_name(run: str, form: str, residency: str) -> str:
    """Of one way to write a run and to keep its weights."""
    return ":".join(filter(None, (run, form, residency)))


def slots(number: int, count: int, size_bytes: int) -> tuple[Hold, ...]:
    """When a streamed run's weights are in memory: its own time and that of the run before it."""
    before = (number - 1) % count
    if before == number - 1 or count == 1:
        return (Hold(max(number - 1, 0), number + 1, size_bytes),)
    return (Hold(before, count, size_bytes), Hold(0, 1, size_bytes))
