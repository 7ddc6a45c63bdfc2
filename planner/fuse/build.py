"""From a program to a fused engine directory: group, schedule, generate, compile, pack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from planner.errors import InfoptError
from planner.fuse.drafts import Draft as Draft
from planner.fuse.greedy import group
from planner.fuse.roll import rolled_up
from planner.fuse.schedule import schedule
from planner.kernels.compile import Compiled, compile_all
from planner.kernels.pack import Sheet, numbers_for, write
from planner.kernels.source import Numbers, Part, kernel
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


def build(
    plan: Draft | Mapping[str, Draft],
    directory: Path,
    architectures: Iterable[int],
    *,
    workers: int = 1,
    compiled: Mapping[tuple[str, int], Compiled] | None = None,
) -> FusedManifest:
    """Compiles what is not yet compiled, and writes the engine directory.

    Args:
        plan: a draft, or one per bucket, by the name of its workload shape.
        compiled: (kernel, architecture) -> what is there already.
    """
    given = plan if isinstance(plan, Mapping) else {"default": plan}
    drafts = {name: rolled_up(one) for name, one in given.items()}
    wanted = tuple(architectures)
    kernels = [item for one in drafts.values() for item in one.kernels]
    made = dict(compiled or {})
    missing = [item for item in kernels if any((item.name, a) not in made for a in wanted)]
    made.update(compile_all(missing, wanted, workers=workers))
    names = {item.name for item in kernels}
    used = {key: one for key, one in made.items() if key[0] in names and key[1] in wanted}
    sheets = [
        Sheet(name, one.program, one.numbers, one.launches, one.waiting)
        for name, one in drafts.items()
    ]
    return write(directory, sheets, used)
