"""Equal launches in a row as one: a loop over steps whose blocks wait for each other.

The steps of a recurrence are equal kernels on addresses that move at a constant stride. As one
kernel, what reads only weights stands before the loop, so that weights stay in registers and shared
memory over all steps; a step costs what its blocks wait for each other instead of a launch and the
weights' way from L2.

Blocks of one stage count their finished steps in a counter of the stage; whoever reads what a stage
made in the step before waits until its counter says so. So layers of a wave wait for the layer in
front of them and for themselves, and for nobody else. All blocks must be on the device at once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from planner.kernels.expressions import HELPERS
from planner.kernels.source import Body, Kernel, Numbers, Parameter, Part, stage_body
from planner.ops.nest import Program

COUNTER_SPACING = 64
"""Elements of int32 between two counters: a line of L2 each, and more."""
MAX_AWAITED = 4
"""Stages that one waits for: a thread each looks at their counters."""
_HEAD = """import triton
import triton.language as tl
"""
_HELD = """

@triton.jit
def held(x, AHEAD: tl.constexpr):
    if AHEAD:
        x = tl.inline_asm_elementwise(
            "mov.b32 $0, $1;", "=r,r", [x], dtype=x.dtype, is_pure=False, pack=2
        )
    return x
"""
_ARRIVE = """

@triton.jit
def arrive(counter):
    tl.debug_barrier()
    tl.inline_asm_elementwise(
        \"\"\"{
 .reg .pred q; .reg .u32 t;
 mov.u32 t, %tid.x;
 setp.ne.u32 q, t, 0;
 @q bra DONE;
 red.release.gpu.global.add.u32 [$1], 1;
 DONE:
 mov.u32 $0, 0;
}\"\"\",
        "=r,l", [counter], dtype=tl.int32, is_pure=False, pack=1
    )
"""


@dataclass(frozen=True, slots=True)
class Moves:
    """Where the steps of a launch find what the first step found at its parameters."""

    strides: Mapping[Parameter, int]
    """Of the first step -> elements from one step to the next; 0 where not named."""
    strips: tuple[tuple[str, ...], ...]
    """Tensors that are made to lie at that stride."""
    awaited: tuple[tuple[int, ...], ...]
    """Part -> parts that make, in the step before, what it reads."""
    steps: int


def rolled(
    program: Program, parts: Sequence[Part], numbers: Numbers, moves: Moves, counters: str
) -> Kernel:
    """The loop over launches of which `parts` are the first.

    Args:
        counters: a tensor of zeros, `COUNTER_SPACING` for each part.
    """
    bodies = [stage_body(program, part, numbers) for part in parts]
    parameters = tuple(dict.fromkeys(p for body in bodies for p in body.parameters))
    names = {parameter: f"q{position}" for position, parameter in enumerate(parameters)}
    counted = f"q{len(names)}"
    helpers = sorted({name for body in bodies for name in body.helpers})
    sizes = [part.tiling.programs for part in parts]
    groups: dict[tuple[object, ...], list[int]] = {}
    for position, body in enumerate(bodies):
        moved = tuple(moves.strides.get(p, 0) for p in body.parameters)
        awaited = len(moves.awaited[position])
        key = (body.lines, body.types, sizes[position], moved, awaited)
        groups.setdefault(key, []).append(position)
    functions, calls, start = [], [], 0
    waits = sorted({len(one) for one in moves.awaited} - {0})
    for number, members in enumerate(groups.values()):
        body = bodies[members[0]]
        strides = [moves.strides.get(p, 0) for p in body.parameters]
        awaited = len(moves.awaited[members[0]])
        functions.append(_function(f"stage_{number}", body, strides, awaited, moves))
        given = [
            [*(names[p] for p in bodies[m].parameters), *_counting(m, moves.awaited[m], sizes)]
            for m in members
        ]
        calls += _call(f"stage_{number}", given, start, sizes[members[0]], counted)
        start += sizes[members[0]] * len(members)
    text = _HEAD + _HELD + _ARRIVE + "".join(_await(count) for count in waits)
    text += "".join(HELPERS[name] for name in helpers) + "".join(functions)
    inside = "".join(f"    {line}\n" for line in ("pid = tl.program_id(0)", *calls))
    pointers = ", ".join((*names.values(), counted))
    text += f"\n\n@triton.jit\ndef KERNEL({pointers}, AHEAD: tl.constexpr):\n{inside}"
    types = (*(numbers.storage[p.tensor] for p in parameters), "int32")
    warps = max(part.tiling.config.warps for part in parts)
    pipeline = max(part.tiling.config.pipeline for part in parts)
    told_by = f"{text}{','.join(types)} warps {warps} pipeline {pipeline}"
    name = f"rolled_{hashlib.sha256(told_by.encode()).hexdigest()[:12]}"
    return Kernel(
        name,
        text.replace("KERNEL", name),
        (*parameters, Parameter(counters, 0)),
        types,
        start,
        warps,
        pipeline,
        strips=moves.strips,
        steps=moves.steps,
    )


def _counting(own: int, awaited: Sequence[int], sizes: Sequence[int]) -> list[str]:
    """Arguments of a stage: its counter, then counter and blocks of each stage it waits for."""
    found = [f"{own * COUNTER_SPACING}"]
    for other in awaited:
        found += [f"{other * COUNTER_SPACING}", f"{sizes[other]}"]
    return found


def _await(count: int) -> str:
    """The function that waits for so many counters: thread n looks at the n-th."""
    pairs = ", ".join(f"c{n}, t{n}" for n in range(count))
    lines = [
        "{",
        " .reg .pred p, q; .reg .u32 t, v, w; .reg .u64 a;",
        " mov.u32 t, %tid.x;",
        f" setp.ge.u32 q, t, {count};",
        " @q bra DONE;",
        " mov.u64 a, $1; mov.u32 w, $2;",
    ]
    for n in range(1, count):
        lines += [
            f" setp.eq.u32 p, t, {n};",
            f" selp.b64 a, ${2 * n + 1}, a, p; selp.b32 w, ${2 * n + 2}, w, p;",
        ]
    lines += [
        " LOOK:",
        " ld.acquire.gpu.global.u32 v, [a];",
        " setp.ge.u32 p, v, w;",
        " @p bra DONE;",
        " nanosleep.u32 20;",
        " bra LOOK;",
        " DONE:",
        " mov.u32 $0, 0;",
        "}",
    ]
    body = "\n".join(lines)
    kinds = ",".join(["=r", *["l,r"] * count])
    return f'''

@triton.jit
def await_{count}({pairs}):
    tl.inline_asm_elementwise(
        """{body}""",
        "{kinds}", [{pairs}], dtype=tl.int32, is_pure=False, pack=1
    )
    tl.debug_barrier()
'''


def _function(name: str, body: Body, strides: Sequence[int], awaited: int, moves: Moves) -> str:
    count = len(body.parameters)
    pointers = [f"p{position}" for position in range(count)]
    waits = [f"w{n}, n{n}" for n in range(awaited)]
    taken = ", ".join(["pid", *pointers, "counters", "mine", *waits, "AHEAD: tl.constexpr"])
    before, again = _kept(body.early)
    made = {name for strip in moves.strips for name in strip}
    known = {f"p{n}" for n, p in enumerate(body.parameters) if p.tensor not in made}
    given, first, rest = _by_need(body, known)
    lines = [*before, f"for step in tl.range(0, {moves.steps}, num_stages=1):"]
    lines += [f"    {line}" for line in given]
    if awaited:
        asked = ", ".join(f"counters + w{n}, step * n{n}" for n in range(awaited))
        lines += ["    if AHEAD:", f"        await_{awaited}({asked})"]
    lines += [f"    {line}" for line in (*first, *again, *rest)]
    lines += ["    if AHEAD:", "        arrive(counters + mine)"]
    lines += [f"    p{n} += {stride}" for n, stride in enumerate(strides) if stride]
    text = "".join(f"    {line}\n" for line in lines)
    return f"\n\n@triton.jit\ndef {name}({taken}):\n{text}"


_WORD = re.compile(r"\b[a-z]+\d+\b")


def _by_need(body: Body, known: Set[str]) -> tuple[list[str], list[str], list[str]]:
    """Loads that need no other stage's step, loads that do, and the rest. Loads stand first, so
    that all of them are on their way together.

    Args:
        known: addresses of what is not made step by step.
    """
    early = {line.split(" = ")[0] for line in body.early}
    given: list[str] = []
    first: list[str] = []
    rest: list[str] = []
    for line in body.late:
        _, _, text = line.partition(" = ")
        words = set(_WORD.findall(text))
        pointers = {word for word in words if word[0] == "p"}
        if not text.startswith("tl.load(") or not words - pointers <= early:
            rest.append(line)
        elif pointers <= known:
            given.append(line)
        else:
            first.append(line)
    return given, first, rest


_LOADED = re.compile(r"(\w+) = tl\.load\((?:p\d+) \+ (\w+)")
_WIDENED = re.compile(r"(\w+) = (x\w+)\.to\(tl\.float32\)$")


def _kept(early: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands before the loop, and what is done again in each step: tiles of weights are kept
    as they are stored and widened where they are used, which takes half the registers."""
    tiles = {line.split(" = ")[0] for line in early if "None" in line}
    loaded = {m[1] for line in early if (m := _LOADED.match(line)) and m[2] in tiles}
    before, inside = [], []
    for line in early:
        wide = _WIDENED.match(line)
        if wide and wide[2] in loaded:
            inside.append(f"{wide[1]} = held({wide[2]}, AHEAD).to(tl.float32)")
        else:
            before.append(line)
    return before, inside


def _call(
    name: str, given: Sequence[Sequence[str]], start: int, size: int, counted: str
) -> list[str]:
    """The lines that run a function on its range of blocks, for one stage or several equal ones."""
    local = f"(pid - {start})"
    end = start + size * len(given)
    chosen = [f"a{position}" for position in range(len(given[0]))]
    lines = [f"n = {local} // {size}"]
    for number, values in enumerate(given):
        lines.append("if n == 0:" if number == 0 else f"elif n == {number}:")
        if number and number == len(given) - 1:
            lines[-1] = "else:"
        lines += [f"    {a} = {q}" for a, q in zip(chosen, values, strict=True)]
    if len(given) == 1:
        chosen, lines = list(given[0]), ["n = 0"]
    split = next(i for i, q in enumerate(given[0]) if not q.startswith("q"))
    asked = [*chosen[:split], counted, *chosen[split:]]
    lines.append(f"{name}({local} - n * {size}, {', '.join(asked)}, AHEAD)")
    return [f"if (pid >= {start}) & (pid < {end}):", *(f"    {line}" for line in lines)]
