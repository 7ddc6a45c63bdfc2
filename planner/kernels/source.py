"""The Triton source of a launch: one or more stages side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from planner.kernels.emit import Emitter
from planner.kernels.expressions import HELPERS
from planner.kernels.patterns import is_contraction
from planner.kernels.products import added
from planner.kernels.reduce import reduce
from planner.kernels.stage import Kind, Stage, Tiling
from planner.kernels.text import TRITON_TYPE
from planner.kernels.tiling import reductions, siblings
from planner.ops import index
from planner.ops.expr import Load
from planner.ops.index import Affine
from planner.ops.nest import Nest, Program

_HEAD = """import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
"""


_WAIT = ("if AHEAD:", "    gdc_wait()", "if AHEAD == 1:", "    gdc_launch_dependents()")


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
class Parameter:
    """An address a kernel is given: a tensor, from one of its elements on."""

    tensor: str
    offset: int
    """Elements; a multiple of 16 bytes."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """Source of one launch; equal sources are one kernel, whatever the tensors are called."""

    name: str
    text: str
    parameters: tuple[Parameter, ...]
    types: tuple[str, ...]
    """Element type behind each parameter."""
    programs: int
    warps: int
    pipeline: int
    lets_go_early: bool = False
    """Whether what follows may start as soon as this does, not only once this has its inputs.
    Chains of tiny kernels want it; blocks that wait take the place of blocks that work."""
    strips: tuple[tuple[str, ...], ...] = ()
    """Tensors that must lie one behind the other: a loop over steps walks along them."""
    steps: int = 1
    """More than one: a loop whose blocks wait for each other (`planner.kernels.rolled`), so that
    all of them must be on the device at once."""


@dataclass(frozen=True, slots=True)
class Body:
    """The lines of a stage, and the addresses it wants as `p0, p1, ...`."""

    early: tuple[str, ...]
    """What reads nothing but weights: before the wait for the kernel in front."""
    late: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    types: tuple[str, ...]
    helpers: frozenset[str]

    @property
    def lines(self) -> tuple[str, ...]:
        """All of them, with the wait between."""
        return (*self.early, *_WAIT, *self.late)


def kernel(program: Program, parts: Sequence[Part], numbers: Numbers) -> Kernel:
    """The kernel that runs these stages, each on its own range of blocks.

    Stages with equal bodies (steps of several layers, experts) share one function: the block number
    chooses their addresses.
    """
    bodies = [stage_body(program, part, numbers) for part in parts]
    parameters = tuple(dict.fromkeys(p for body in bodies for p in body.parameters))
    names = {parameter: f"q{position}" for position, parameter in enumerate(parameters)}
    helpers = sorted({name for body in bodies for name in body.helpers})
    groups: dict[tuple[object, ...], list[int]] = {}
    for position, body in enumerate(bodies):
        key = (body.lines, body.types, parts[position].tiling.programs)
        groups.setdefault(key, []).append(position)
    functions, calls, start = [], [], 0
    for number, members in enumerate(groups.values()):
        body = bodies[members[0]]
        functions.append(_function(f"stage_{number}", body))
        size = parts[members[0]].tiling.programs
        given = [[names[p] for p in bodies[member].parameters] for member in members]
        calls += _call(f"stage_{number}", given, start, size, alone=len(groups) == 1)
        start += size * len(members)
    types = tuple(numbers.storage[parameter.tensor] for parameter in parameters)
    text = _HEAD + "".join(HELPERS[name] for name in helpers) + "".join(functions)
    text += _entry(tuple(names.values()), calls)
    warps = max(part.tiling.config.warps for part in parts)
    pipeline = max(part.tiling.config.pipeline for part in parts)
    told_by = f"{text}{','.join(types)} warps {warps} pipeline {pipeline}"
    digest = hashlib.sha256(told_by.encode()).hexdigest()[:12]
    return Kernel(
        f"fused_{digest}",
        text.replace("KERNEL", f"fused_{digest}"),
        parameters,
        types,
        start,
        warps,
        pipeline,
        all(_is_tiny(program, part) for part in parts),
    )


def _is_tiny(program: Program, part: Part) -> bool:
    """Whether its blocks may wait beside blocks that work: no product, or that of a vector in a
    single warp. Measured on an H200: cells of one warp 319 us early, 386 late; of two and four
    warps 553 and 1196 us early, 362 and 845 late."""
    if part.tiling.kind is Kind.PRODUCT:
        return False
    if part.tiling.config.warps == 1:
        return True
    nests = program.by_name
    return not any(is_contraction(nests[n]) for n in (part.stage.root, *part.stage.internal))


def let_go(item: Kernel, *, early: bool) -> Kernel:
    """The same kernel, letting what follows start early or not; by another name if it changes."""
    if item.lets_go_early == early:
        return item
    base = item.name.removesuffix("_o")
    name = base if item.name != base else base + "_o"
    return replace(item, name=name, text=item.text.replace(item.name, name), lets_go_early=early)


def _function(name: str, body: Body) -> str:
    pointers = ", ".join(f"p{position}" for position in range(len(body.parameters)))
    inside = "".join(f"    {line}\n" for line in body.lines)
    return f"\n\n@triton.jit\ndef {name}(pid, {pointers}, AHEAD: tl.constexpr):\n{inside}"


def _entry(pointers: tuple[str, ...], calls: Sequence[str]) -> str:
    lines = [
        "@triton.jit",
        f"def KERNEL({', '.join(pointers)}, AHEAD: tl.constexpr):",
        "    if AHEAD == 2:",
        "        gdc_launch_dependents()",
        "    pid = tl.program_id(0)",
        *(f"    {call}" for call in calls),
    ]
    return "\n\n" + "\n".join(lines) + "\n"


def _call(
    name: str, given: Sequence[Sequence[str]], start: int, size: int, *, alone: bool
) -> list[str]:
    """The lines that run a function on its range of blocks, for one stage or several equal ones."""
    local = f"pid - {start}" if start else "pid"
    if len(given) == 1:
        lines = [f"{name}({local}, {', '.join(given[0])}, AHEAD)"]
    else:
        lines = [f"n = ({local}) // {size}"]
        chosen = [f"a{position}" for position in range(len(given[0]))]
        for number, addresses in enumerate(given):
            lines.append("if n == 0:" if number == 0 else f"elif n == {number}:")
            if number == len(given) - 1:
                lines[-1] = "else:"
            lines += [f"    {a} = {q}" for a, q in zip(chosen, addresses, strict=True)]
        lines.append(f"{name}({local} - n * {size}, {', '.join(chosen)}, AHEAD)")
    if alone:
        return lines
    end = start + size * len(given)
    return [f"if (pid >= {start}) & (pid < {end}):", *(f"    {line}" for line in lines)]


def stage_body(program: Program, part: Part, numbers: Numbers) -> Body:
    """The generated body of a stage."""
    nests = program.by_name
    tiling = part.tiling
    e = Emitter(
        program,
        {name: nests[name] for name in part.stage.internal},
        numbers.storage,
        numbers.product_type,
        numbers.precision,
        tiling.config,
        part.anchor,
        reduce,
        added,
    )
    _open_tiles(e, tiling)
    root = nests[part.stage.root]
    place = tuple(tiling.binding[var] for var in root.axes)
    found = list(reductions(root, dict(zip(root.axes, place, strict=True)), e.internal))
    anchor = next((item for item in found if item.nest.name == part.anchor), None)
    if anchor is not None:
        alike = siblings(anchor, found, e.internal)
        e.siblings = {item.key: (item.nest, item.binding) for item in alike if not item.is_guarded}
    stores = [_store(e, nests[name], place, numbers) for name in part.stage.makes]
    scope = e.scopes.open[0]
    parameters = tuple(Parameter(*key) for key in e.pointers)
    return Body(
        tuple(scope.early),
        (*scope.lines, *stores),
        parameters,
        tuple(numbers.storage[parameter.tensor] for parameter in parameters),
        frozenset(e.helpers),
    )


def _store(e: Emitter, root: Nest, place: tuple[Affine, ...], numbers: Numbers) -> str:
    """Computes a tile of a tensor; the line that writes it."""
    if root.name in e.internal:
        made = e.value(Load(root.name, place))
    else:
        made = e.nest(root, dict(zip(root.axes, place, strict=True)))
    pointer, offset = e.address(root.name, index.flatten(place, root.type.shape))
    touched = set().union(*(index.variables(value) for value in place))
    mask = e.mask((), touched)
    stored = numbers.storage[root.name]
    target = "tl.int8" if stored == "bool" else TRITON_TYPE[stored]
    is_number = not made.axes and not made.name.isidentifier()
    name = f"tl.full((), {made.name}, {target})" if is_number else made.name
    value = f"{_spread(e, name, made.axes, offset.axes)}.to({target})"
    where = f"{pointer} + {offset.name}"
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
