"""From a program to a fused engine directory: group, schedule, generate, compile, pack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from planner.errors import EnvironmentMismatchError, InfoptError
from planner.fuse.drafts import Draft as Draft
from planner.fuse.greedy import group
from planner.fuse.loops import refusals
from planner.fuse.roll import rolled_up, steps_of
from planner.fuse.schedule import schedule
from planner.kernels.compile import Compiled, compile_all, compile_kernel
from planner.kernels.pack import Sheet, numbers_for, write
from planner.kernels.source import Kernel, Numbers, Part, kernel
from planner.kernels.stage import Config, Stage
from planner.ops.nest import Program
from planner.runtime.fused.manifest import FusedManifest


def draft(
    program: Program,
    number_format: str,
    *,
    precision: str = "ieee",
    chosen: Mapping[str, Config] | None = None,
    stages: Sequence[Stage] | None = None,
) -> Draft:
    """The launches of a program.

    Args:
        number_format: how weights and intermediates are stored: `float16`, `bfloat16`, `float32`.
        precision: of float32 products: `ieee`, `tf32x3`, `tf32`.
        chosen: root -> configuration, where not the default.
        stages: a grouping; the greedy one where not given.
    """
    numbers = numbers_for(program, number_format, precision=precision)
    cut = tuple(stages) if stages is not None else group(program)
    launches = tuple(
        (parts, kernel(program, parts, numbers)) for parts in schedule(program, cut, chosen)
    )
    return Draft(program, numbers, cut, launches)


def drafted(program: Program, numbers: Numbers, chosen: Sequence[Sequence[Part]]) -> Draft:
    """The launches of groups that were chosen, ordered so that each finds what it reads.

    Raises:
        InfoptError: they wait for each other, or something is made by nobody.
    """
    there = {*program.inputs, *program.constants}
    waiting = list(chosen)
    ordered: list[tuple[Part, ...]] = []
    while waiting:
        ready = [parts for parts in waiting if _reads(parts) <= there]
        if not ready:
            missing = sorted(_reads(waiting[0]) - there)
            raise InfoptError(f"no group makes {missing[0]!r} before it is needed")
        for parts in ready:
            ordered.append(tuple(parts))
            there.update(name for part in parts for name in part.stage.makes)
        waiting = [parts for parts in waiting if parts not in ready]
    stages = tuple(part.stage for parts in ordered for part in parts)
    launches = tuple((parts, kernel(program, parts, numbers)) for parts in ordered)
    return Draft(program, numbers, stages, launches)


def _reads(parts: Sequence[Part]) -> set[str]:
    return {name for part in parts for name in part.stage.reads}


@dataclass(frozen=True, slots=True)
class Order:
    """A draft to be built: of a workload shape, for some of the architectures."""

    name: str
    draft: Draft
    architectures: tuple[int, ...]


def build(
    plan: Draft | Mapping[str, Draft] | Sequence[Order],
    directory: Path,
    architectures: Iterable[int],
    *,
    workers: int = 1,
    compiled: Mapping[tuple[str, int], Compiled] | None = None,
    refused: Set[tuple[str, int]] = frozenset(),
) -> FusedManifest:
    """Compiles what is not yet compiled, and writes the engine directory.

    Loops lie beside their launches. An architecture that compiles a loop badly, or none of whose
    devices holds it, gets the launches alone.

    Args:
        plan: a draft; or one per bucket, by the name of its workload shape; or several of a shape,
            each for some architectures.
        compiled: (kernel, architecture) -> what is there already.
        refused: (loop, architecture) that the compiler was seen to refuse.
    """
    wanted = tuple(architectures)
    orders = _orders(plan, wanted)
    made = dict(compiled or {})
    reasons: dict[str, dict[int, str]] = {}
    used: dict[tuple[str, int], Compiled] = {}
    sheets = []
    for order in orders:
        one, own = rolled_up(order.draft), order.architectures
        apart = steps_of(order.draft)
        loops = [item for item in one.kernels if item.steps > 1]
        kernels = [item for item in one.kernels if item.steps == 1]
        kernels += [steps[0][1] for steps in apart.values()]
        missing = [item for item in kernels if any((item.name, a) not in made for a in own)]
        made.update(compile_all(missing, own, workers=workers))
        made.update(_attempted(loops, own, made.keys() | refused))
        for name, told in refusals(loops, made, own).items():
            reasons.setdefault(name, {}).update(told)
        names = {item.name for item in (*loops, *kernels)}
        used.update(
            ((name, a), found)
            for (name, a), found in made.items()
            if name in names and a in own and a not in reasons.get(name, {})
        )
        limited = own if set(own) != set(wanted) else ()
        sheets.append(
            Sheet(order.name, one.program, one.numbers, one.launches, one.waiting, apart, limited)
        )
    return write(directory, sheets, used, reasons)


def _orders(
    plan: Draft | Mapping[str, Draft] | Sequence[Order], architectures: tuple[int, ...]
) -> list[Order]:
    if isinstance(plan, Draft):
        plan = {"default": plan}
    if isinstance(plan, Mapping):
        return [Order(name, one, architectures) for name, one in plan.items()]
    return list(plan)


def _attempted(
    loops: Sequence[Kernel], architectures: Sequence[int], known: Set[tuple[str, int]]
) -> Iterator[tuple[tuple[str, int], Compiled]]:
    """Loops as far as they compile."""
    for item in {item.name: item for item in loops}.values():
        for architecture in architectures:
            if (item.name, architecture) in known:
                continue
            try:
                yield (item.name, architecture), compile_kernel(item, architecture)
            except EnvironmentMismatchError:
                raise  # this machine's fault, not the loop's
            except InfoptError:
                continue
