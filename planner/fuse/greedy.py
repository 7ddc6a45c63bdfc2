"""Which nests become stages: the rule-based grouping.

A nest is *internal* to the stages that read it unless recomputing it there costs more than a
boundary between kernels (0.85 us, `docs/fusion.md`). In detail:

* a contraction keeps what follows it elementwise: the stage's root is the last map that all
  readers pass through;
* a contraction whose only way out leads, through rows (softmax) and maps, into another contraction
  with few columns becomes part of that one's operand: attention, chains of narrow products;
* statistics of rows (normalisations, softmax) are repeated by every stage that needs them;
* index maps and cheap maps are always internal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.kernels.reduce import as_product, is_contraction, is_window
from planner.kernels.stage import Stage
from planner.ops.expr import Apply, Expr, Load, loads
from planner.ops.functions import FUNCTIONS
from planner.ops.nest import Nest, Program

MAX_CHAIN_COLUMNS = 128
"""Columns of a contraction that may hold another one in its operand: one tile holds them all, so
that nothing is computed twice."""
MAX_CHAIN_DEPTH = 512
MAX_ROW = 2048
"""Longest row whose statistics are repeated by several stages: 64 KiB of fp16 for 16 rows."""
MAX_REPEATED_FLOPS = 4
"""Work per element that a windowed contraction may repeat for every tap."""


@dataclass(slots=True)
class _Grouping:
    program: Program
    nests: Mapping[str, Nest]
    readers: Mapping[str, tuple[str, ...]]
    outputs: frozenset[str]
    roots: set[str] = field(default_factory=set)

    def is_heavy(self, name: str) -> bool:
        """Whether this is a contraction that deserves matrix instructions."""
        return is_contraction(self.nests[name])


def group(program: Program) -> tuple[Stage, ...]:
    """Stages in topological order of their roots; together they make every output."""
    nests = {nest.name: nest for nest in program.nests}
    g = _Grouping(program, nests, program.consumers(), frozenset(program.outputs))
    g.roots = {name for name in nests if name in g.outputs}
    for nest in program.nests:
        if g.is_heavy(nest.name):
            g.roots |= _exit_of(g, nest.name)
    for nest in program.nests:
        if nest.name not in g.roots and _must_be_root(g, nest):
            g.roots.add(nest.name)
    return tuple(_stage(g, nest.name) for nest in program.nests if nest.name in g.roots)


def _stage(g: _Grouping, root: str) -> Stage:
    internal: set[str] = set()
    reads: dict[str, None] = {}
    pending = [root]
    while pending:
        for name in g.nests[pending.pop()].reads:
            if name in g.nests and name not in g.roots:
                if name not in internal:
                    internal.add(name)
                    pending.append(name)
            else:
                reads[name] = None
    return Stage(root, frozenset(internal), tuple(sorted(reads)))


# ---------------------------------------------------------------------- contractions
def _exit_of(g: _Grouping, heavy: str) -> set[str]:
    """The root that a contraction is computed for; none where another contraction holds it."""
    if heavy in g.outputs:
        return {heavy}
    inside, last = {heavy}, heavy
    size = g.nests[heavy].type.size
    through_rows = False
    while True:
        following = _next(g, inside)
        if following is None:
            break
        nest = g.nests[following]
        if g.is_heavy(following):
            if _can_hold(g, following, inside):
                return set()
            break
        if not nest.is_map:
            through_rows = True
        if nest.type.size > size or (not nest.is_map and is_window(nest)):
            break
        inside.add(following)
        if _only_way_out(g, inside, following) and not through_rows:
            last = following
        if following in g.outputs:
            break
    return {last}


def _next(g: _Grouping, inside: set[str]) -> str | None:
    """The first nest, in order, that reads something inside."""
    for nest in g.program.nests:
        if nest.name not in inside and any(name in inside for name in nest.reads):
            return nest.name
    return None


def _only_way_out(g: _Grouping, inside: set[str], door: str) -> bool:
    """Whether everything inside but the door is read inside only."""
    for name in inside - {door}:
        if name in g.outputs or any(reader not in inside for reader in g.readers.get(name, ())):
            return False
    return True


def _can_hold(g: _Grouping, outer: str, inside: set[str]) -> bool:
    """Whether a contraction may compute another one, and what lies between, in its operand."""
    nest = g.nests[outer]
    factors = as_product(nest)
    assert factors is not None
    depth = math.prod(var.extent for var in nest.reduce_axes)
    if depth > MAX_CHAIN_DEPTH or is_window(nest):
        return False
    for name in inside:
        if name in g.outputs or any(r not in inside | {outer} for r in g.readers.get(name, ())):
            return False
    feeding = [_feeds(g, factor, inside) for factor in factors]
    if all(feeding) or not any(feeding):
        return False
    held, other = factors if feeding[0] else (factors[1], factors[0])
    axes = set(nest.axes)
    columns = math.prod(var.extent for var in (other.variables() - held.variables()) & axes)
    return columns <= MAX_CHAIN_COLUMNS


def _feeds(g: _Grouping, factor: Expr, inside: set[str]) -> bool:
    return any(load.tensor in inside for load in loads(factor))


# ---------------------------------------------------------------------- the rest
def _must_be_root(g: _Grouping, nest: Nest) -> bool:
    """Whether a nest that no contraction claims is better computed once."""
    if nest.is_view or _is_choice_of_loads(nest.body):
        return False
    windowed = [name for name in _contraction_readers(g, nest.name) if is_window(g.nests[name])]
    if nest.is_map:
        return bool(windowed) and flops_of(nest.body) > MAX_REPEATED_FLOPS
    if is_window(nest) or g.is_heavy(nest.name):
        return not g.is_heavy(nest.name) and bool(_contraction_readers(g, nest.name))
    row = math.prod(var.extent for var in nest.reduce_axes)
    return row > MAX_ROW or not _is_row_statistic(g, nest) or bool(windowed)


def _is_row_statistic(g: _Grouping, nest: Nest) -> bool:
    """Whether it is read next to the row it was made from: by maps larger than itself."""
    pending, seen = [nest.name], set[str]()
    while pending:
        for reader in g.readers.get(pending.pop(), ()):
            inner = g.nests[reader]
            if not inner.is_map and inner.points <= nest.type.size:
                return False
            if inner.is_map and inner.type.size <= nest.type.size:
                if reader in g.outputs:
                    return False
                if reader not in seen:
                    seen.add(reader)
                    pending.append(reader)
            elif as_product(inner) and inner.points > nest.points:
                return False
    return True


def _contraction_readers(g: _Grouping, name: str) -> list[str]:
    """Contractions that read a tensor, directly or through internal maps."""
    found: list[str] = []
    pending, seen = [name], {name}
    while pending:
        for reader in g.readers.get(pending.pop(), ()):
            if reader in seen:
                continue
            seen.add(reader)
            if g.is_heavy(reader):
                found.append(reader)
            elif g.nests[reader].is_map and reader not in g.roots:
                pending.append(reader)
    return found


def _is_choice_of_loads(body: Expr) -> bool:
    """Whether elements are only chosen (concatenation), never computed."""
    if isinstance(body, Load):
        return True
    return (
        isinstance(body, Apply)
        and body.fn == "where"
        and all(_is_choice_of_loads(arg) or not loads(arg) for arg in body.args[1:])
    )


def flops_of(body: Expr) -> int:
    """Operations of one evaluation."""
    own = FUNCTIONS[body.fn].flops if isinstance(body, Apply) else 0
    return own + sum(flops_of(part) for part in body.parts())
