"""From a program to a fused engine directory: group, schedule, generate, compile, pack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.fuse.greedy import group
from planner.fuse.schedule import schedule
from planner.kernels.compile import Compiled, compile_all
from planner.kernels.pack import numbers_for, write
from planner.kernels.source import Kernel, Numbers, Part, kernel
from planner.kernels.stage import Config, Stage
from planner.ops.nest import Program
from planner.runtime.fused.manifest import FusedManifest


@dataclass(frozen=True, slots=True)
class Draft:
    """A program cut into launches, with the source of each; nothing compiled yet."""

    program: Program
    numbers: Numbers
    stages: tuple[Stage, ...]
    launches: tuple[tuple[tuple[Part, ...], Kernel], ...]

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """In launch order; equal ones repeat."""
        return tuple(item for _, item in self.launches)


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


def build(
    plan: Draft,
    directory: Path,
    architectures: Iterable[int],
    *,
    workers: int = 1,
    compiled: Mapping[tuple[str, int], Compiled] | None = None,
) -> FusedManifest:
    """Compiles what is not yet compiled, and writes the engine directory."""
    wanted = tuple(architectures)
    made = dict(compiled or {})
    missing = [item for item in plan.kernels if any((item.name, a) not in made for a in wanted)]
    made.update(compile_all(missing, wanted, workers=workers))
    names = {item.name for item in plan.kernels}
    used = {key: one for key, one in made.items() if key[0] in names and key[1] in wanted}
    return write(directory, plan.program, plan.launches, plan.numbers, used)
