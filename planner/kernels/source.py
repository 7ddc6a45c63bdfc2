"""The Triton source of a launch: one or more stages side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.kernels.emit import Emitter
from planner.kernels.expressions import HELPERS
from planner.kernels.reduce import reduce
from planner.kernels.stage import Stage, Tiling
from planner.kernels.text import TRITON_TYPE
from planner.ops import index
from planner.ops.nest import Nest, Program

_HEAD = """import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
"""


@dataclass(frozen=True, slots=True)
class Numbers:
    """How a program's tensors are stored and multiplied."""

    storage: Mapping[str, str]
    """Tensor -> element type in memory."""
    product_type: str
    """`float16`, `bfloat16` or `float32`."""
    precision: str = "ieee"
    """Of float32 products: `ieee`, `tf32x3` or `tf32`."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stage with its tiling."""

    stage: Stage
    tiling: Tiling
    anchor: str | None


@dataclass(frozen=True, slots=True)
class Kernel:
    """Source of one launch; equal sources are one kernel, whatever the tensors are called."""

    name: str
    text: str
    parameters: tuple[str, ...]
    """Tensors in parameter order."""
    types: tuple[str, ...]
    """Element type of each."""
    programs: int
    warps: int
    pipeline: int


def kernel(program: Program, parts: Sequence[Part], numbers: Numbers) -> Kernel:
    """The kernel that runs these stages, each on its own range of blocks."""
    tensors = tuple(
        dict.fromkeys(name for part in parts for name in (*part.stage.reads, part.stage.root))
    )
    pointers = {name: f"p{position}" for position, name in enumerate(tensors)}
    bodies, helpers = [], set[str]()
    for position, part in enumerate(parts):
        lines, used = stage_lines(program, part, pointers, numbers)
        helpers |= used
        bodies.append(_function(f"stage_{position}", tuple(pointers.values()), lines))
    call = _dispatch(parts, tuple(pointers.values()))
    text = _HEAD + "".join(HELPERS[name] for name in sorted(helpers)) + "".join(bodies)
    types = tuple(numbers.storage[name] for name in tensors)
    digest = hashlib.sha256((text + call + ",".join(types)).encode()).hexdigest()[:12]
    name = f"fused_{digest}"
    return Kernel(
        name,
        text + call.replace("KERNEL", name),
        tensors,
        types,
        sum(part.tiling.programs for part in parts),
        max(part.tiling.config.warps for part in parts),
        max(part.tiling.config.pipeline for part in parts),
    )


def _function(name: str, pointers: tuple[str, ...], lines: Sequence[str]) -> str:
    inside = "".join(f"    {line}\n" for line in lines)
    return (
        f"\n\n@triton.jit\ndef {name}(pid, {', '.join(pointers)}, AHEAD: tl.constexpr):\n{inside}"
    )


def _dispatch(parts: Sequence[Part], pointers: tuple[str, ...]) -> str:
    listed = ", ".join(pointers)
    lines = [
        "",
        "",
        "@triton.jit",
        f"def KERNEL({listed}, AHEAD: tl.constexpr):",
        "    if AHEAD:",
        "        gdc_launch_dependents()",
        "    pid = tl.program_id(0)",
    ]
    start = 0
    for position, part in enumerate(parts):
        call = f"stage_{position}(pid - {start}, {listed}, AHEAD)"
        end = start + part.tiling.programs
        indent = "    "
        if len(parts) > 1:
            lines.append(f"    if (pid >= {start}) & (pid < {end}):")
            indent = "        "
        lines.append(indent + call)
        start = end
    return "\n".join(lines) + "\n"


def stage_lines(
    program: Program, part: Part, pointers: Mapping[str, str], numbers: Numbers
) -> tuple[list[str], set[str]]:
    """The body of a stage, and the helpers it calls."""
    nests = {nest.name: nest for nest in program.nests}
    tiling = part.tiling
    e = Emitter(
        program,
        {name: nests[name] for name in part.stage.internal},
        pointers,
        numbers.storage,
        numbers.product_type,
        numbers.precision,
        tiling.config,
        part.anchor,
        reduce,
    )
    _open_tiles(e, tiling)
    store = _store(e, nests[part.stage.root], tiling, pointers, numbers)
    scope = e.scopes.open[0]
    wait = ["if AHEAD:", "    gdc_wait()"]
    return [*scope.early, *wait, *scope.lines, store], e.helpers


def _store(
    e: Emitter, root: Nest, tiling: Tiling, pointers: Mapping[str, str], numbers: Numbers
) -> str:
    """Computes the root's tile; the line that writes it."""
    made = e.nest(root, tiling.binding)
    place = tuple(tiling.binding[var] for var in root.axes)
    offset = e.position(index.flatten(place, root.type.shape))
    touched = set().union(*(index.variables(value) for value in place))
    mask = e.mask((), touched)
    stored = numbers.storage[root.name]
    target = "tl.int8" if stored == "bool" else TRITON_TYPE[stored]
    is_number = not made.axes and not made.name.isidentifier()
    name = f"tl.full((), {made.name}, {target})" if is_number else made.name
    value = f"{_spread(e, name, made.axes, offset.axes)}.to({target})"
    where = f"{pointers[root.name]} + {offset.name}"
    held = "" if mask is None else f", mask={e.over(mask, offset.axes)}"
    return f"tl.store({where}, {value}{held})"


def _spread(e: Emitter, name: str, axes: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    """A value as the store wants it: every axis of the tile."""
    if axes == wanted:
        return name
    shape = ", ".join(str(e.blocks[axis]) for axis in wanted)
    marks = ", ".join(":" if axis in axes else "None" for axis in wanted)
    spread = f"{name}[{marks}]" if axes else name
    return f"tl.broadcast_to({spread}, ({shape},))"


def _open_tiles(e: Emitter, tiling: Tiling) -> None:
    """Program number -> scalar and tile variables."""
    stride = tiling.programs
    for var in tiling.scalars:
        stride //= var.extent
        e.bind(var, f"pid // {stride} % {var.extent}", (), 0)
    for tile in tiling.tiles:
        stride //= tile.steps
        axis = tile.var.name.upper()
        e.add_axis(axis, tile.block)
        start = f"(pid // {stride} % {tile.steps}) * {tile.block} + " if tile.steps > 1 else ""
        e.bind(tile.var, f"{start}tl.arange(0, {tile.block})", (axis,), 0)
        if tile.var.extent % tile.block:
            e.note_overrun(tile.var)
        if tile.steps == 1:
            e.full[tile.var] = (axis,)
