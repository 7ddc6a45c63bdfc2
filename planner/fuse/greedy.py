"""Which nests become stages: the rule-based grouping.

A nest is *internal* to the stages that read it unless recomputing it there costs more than a
boundary between kernels (0.85 us, `docs/fusion.md`). In detail:

* a contraction keeps what follows it elementwise: the stage's root is the last map that all
  readers pass through;
* a contraction whose only way out leads, through rows (softmax) and maps, into another contraction
  with few columns becomes part of that one's operand: attention, chains of narrow products;
* statistics of rows (normalisations, softmax) are repeated by every stage that needs them, but not
  for each value of a sum over other rows (`planner.fuse.crossed`);
* a sum taken in parts (`planner.ops.partial`) is added by what follows, up to a normalisation;
* index maps and cheap maps are always internal.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.fuse.chains import MAX_BEHIND
from planner.fuse.crossed import crossed
from planner.kernels.estimate import flops_of
from planner.kernels.patterns import MAX_SHORT, as_product, is_contraction, is_window
from planner.kernels.stage import Stage
from planner.ops.expr import Expr, loads
from planner.ops.nest import Nest, Program
from planner.ops.partial import is_total
from planner.ops.turned import is_turned
from planner.ops.views import MAX_CHOICES, choices, is_choice

MAX_CHAIN_COLUMNS = 128
"""Columns of a contraction that may hold another one in its operand: one tile holds them all, so
that nothing is computed twice."""
MAX_CHAIN_DEPTH = 512
MAX_HELD_DEPTH = 128
"""Longest sum of a contraction held by another: heads of attention, narrow layers. The weights of
longer ones do not fit beside the outer tile."""
MAX_CHAIN_LENGTH = 8
"""Contractions inside one stage: each is code, registers and a recomputation."""
MAX_REPEATED_POINTS = 8192
"""Multiplications that every block may repeat rather than wait for another stage."""
MAX_ROW = 2048
"""Longest row whose statistics are repeated by several stages: 64 KiB of fp16 for 16 rows."""
MAX_REPEATED_ROWS = 16384
"""Elements of a normalised operand that every block of a product may normalise again: what a block
holds in registers. Measured at 128 x 768: repeated 12 us, made once 2 us."""
MAX_REPEATED_FLOPS = 4
"""Work per element that a windowed contraction may repeat for every tap."""


@dataclass(slots=True)
class _Grouping:
    program: Program
    nests: Mapping[str, Nest]
    place: Mapping[str, int]
    readers: Mapping[str, tuple[str, ...]]
    outputs: frozenset[str]
    roots: set[str] = field(default_factory=set)
    joined: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Root -> internal tensors that are written as well."""
    home: dict[str, str] = field(default_factory=dict)
    """The other way round: such a tensor -> the root beside which it is written."""

    heavy: frozenset[str] = frozenset()
    """Contractions: each deserves a stage."""

    def is_heavy(self, name: str) -> bool:
        """Whether this is a contraction."""
        return name in self.heavy


def group(program: Program) -> tuple[Stage, ...]:
    """Stages in topological order of their roots; together they make every output."""
    nests = program.by_name
    place = {name: position for position, name in enumerate(nests)}
    g = _Grouping(program, nests, place, program.consumers, frozenset(program.outputs))
    g.heavy = frozenset(nest.name for nest in program.nests if is_contraction(nest))
    for nest in program.nests:
        if g.is_heavy(nest.name):
            _settle(g, nest.name)
        elif _is_read_by_products(g, nest):
            _settle(g, nest.name, held=False)
    for nest in program.nests:
        if is_total(nest):
            _settle_total(g, nest.name)
    for nest in program.nests:
        if g.is_heavy(nest.name):
            _keep_long_rows(g, nest)
    _settle_rest(g)
    return tuple(_stage(g, nest.name) for nest in program.nests if nest.name in g.roots)


def _settle_rest(g: _Grouping) -> None:
    """Outputs, and what no contraction claims and is better computed once."""

    is_written = functools.partial(_is_written, g)
    g.roots |= g.outputs & g.nests.keys() - g.home.keys()
    for nest in g.program.nests:
        if not is_written(nest.name) and _must_be_root(g, nest):
            g.roots.add(nest.name)
        if not nest.is_map:
            g.roots.update(crossed(g.nests, nest, is_written))
    _cut_long_chains(g)


def _is_written(g: _Grouping, name: str) -> bool:
    return name in g.roots or name in g.home


def _cut_long_chains(g: _Grouping) -> None:
    """Roots inside stages that would be longer than `MAX_BEHIND`."""
    behind: dict[str, int] = {}
    for nest in g.program.nests:
        inner = (behind[n] for n in nest.reads if n in g.nests and not _is_written(g, n))
        behind[nest.name] = 1 + max(inner, default=0)
        is_computed = nest.is_map and not nest.is_view and nest.name not in g.home
        if behind[nest.name] >= MAX_BEHIND and is_computed:
            g.roots.add(nest.name)


def _stage(g: _Grouping, root: str) -> Stage:
    also = g.joined.get(root, ())
    internal: set[str] = set()
    reads: dict[str, None] = {}
    pending = [root]
    while pending:
        for name in g.nests[pending.pop()].reads:
            elsewhere = name in g.roots or g.home.get(name, root) != root
            if name in g.nests and not elsewhere:
                if name not in internal:
                    internal.add(name)
                    pending.append(name)
            else:
                reads[name] = None
    return Stage(root, frozenset(internal), tuple(sorted(reads)), also)


# ---------------------------------------------------------------------- contractions
def _is_read_by_products(g: _Grouping, nest: Nest) -> bool:
    """Whether a window's result (depthwise convolution, pooling) would be repeated by products."""
    return not nest.is_map and is_window(nest) and bool(_contraction_readers(g, nest.name))


def _settle(g: _Grouping, heavy: str, *, held: bool = True) -> None:
    """Finds the root that a contraction is computed for; none where another contraction holds it
    (`held`: it may).

    Follows readers in order while they are maps of at most its size. A root that everything passes
    through is best; one beside which only tensors of its own shape are read elsewhere (the state of
    a recurrent cell) writes these too.
    """
    inside, last = {heavy}, heavy
    leaks: tuple[str, ...] = ()
    size = g.nests[heavy].type.size
    through_rows = False
    while last not in g.outputs:
        following = _next(g, inside)
        if following is None:
            break
        nest = g.nests[following]
        if g.is_heavy(following):
            if held and _can_hold(g, following, inside):
                return
            break
        through_rows = through_rows or not nest.is_map
        if nest.type.size > size or (not nest.is_map and is_window(nest)):
            break
        inside.add(following)
        found = _leaks(g, inside, following)
        if not through_rows and all(_is_like(g, name, following) for name in found):
            last, leaks = following, found
    g.roots.add(last)
    if leaks:
        g.joined[last] = leaks
        g.home.update(dict.fromkeys(leaks, last))


def _settle_total(g: _Grouping, total: str) -> None:
    """Finds the root of the stage that adds parts of a sum: as far as maps and statistics of whole
    rows lead, a normalisation and what else is read of it (the sum beside a residual) included."""
    inside, last = {total}, total
    leaks: tuple[str, ...] = ()
    size = g.nests[total].type.size
    while last not in g.outputs:
        following = _next(g, inside)
        if following is None or g.is_heavy(following) or following in g.roots:
            break
        nest = g.nests[following]
        row = math.prod(var.extent for var in nest.reduce_axes)
        if nest.type.size > size or row > MAX_ROW or (not nest.is_map and is_window(nest)):
            break
        inside.add(following)
        if not nest.is_map or nest.type.size != size:
            continue
        found = _leaks(g, inside, following)
        if all(_is_like(g, name, following) for name in found):
            last, leaks = following, found
    g.roots.add(last)
    if leaks:
        g.joined[last] = leaks
        g.home.update(dict.fromkeys(leaks, last))


def _next(g: _Grouping, inside: set[str]) -> str | None:
    """The first nest, in order, that reads something inside."""
    following = {reader for name in inside for reader in g.readers.get(name, ())} - inside
    return min(following, key=g.place.__getitem__, default=None)


def _leaks(g: _Grouping, inside: set[str], door: str) -> tuple[str, ...]:
    """What is inside, besides the door, and wanted outside."""
    return tuple(
        name
        for name in sorted(inside - {door}, key=g.place.__getitem__)
        if name in g.outputs or any(r not in inside for r in g.readers.get(name, ()))
    )


def _is_like(g: _Grouping, name: str, door: str) -> bool:
    """Whether a tensor can be written along with the door: an elementwise result of its shape."""
    nest = g.nests[name]
    return nest.is_map and not nest.is_view and nest.type.shape == g.nests[door].type.shape


def _can_hold(g: _Grouping, outer: str, inside: set[str]) -> bool:
    """Whether a contraction may compute another one, and what lies between, in its operand."""
    nest = g.nests[outer]
    factors = as_product(nest)
    assert factors is not None
    depth = math.prod(var.extent for var in nest.reduce_axes)
    if depth > MAX_CHAIN_DEPTH or is_window(nest):
        return False
    held_inside = [name for name in _held(g, inside) if g.is_heavy(name)]
    longest = max(math.prod(v.extent for v in g.nests[n].reduce_axes) for n in held_inside)
    if len(held_inside) > MAX_CHAIN_LENGTH or longest > MAX_HELD_DEPTH:
        return False
    for name in inside:
        if name in g.outputs or any(r not in inside | {outer} for r in g.readers.get(name, ())):
            return False
    feeding = [_feeds(g, factor, inside) for factor in factors]
    if all(feeding) or not any(feeding):
        return False
    held, other = factors if feeding[0] else (factors[1], factors[0])
    axes = set(nest.axes)
    if not held.variables() & axes:  # a vector: every block of columns computes it again
        return sum(g.nests[name].points for name in held_inside) <= MAX_REPEATED_POINTS
    columns = math.prod(var.extent for var in (other.variables() - held.variables()) & axes)
    return columns <= MAX_CHAIN_COLUMNS


def _held(g: _Grouping, inside: set[str]) -> set[str]:
    """Everything that would be computed inside: what lies behind, up to tensors in memory."""
    found, pending = set(inside), list(inside)
    while pending:
        for name in g.nests[pending.pop()].reads:
            in_memory = name in g.roots or name in g.home or name not in g.nests
            if not in_memory and name not in found:
                found.add(name)
                pending.append(name)
    return found


def _feeds(g: _Grouping, factor: Expr, inside: set[str]) -> bool:
    return any(load.tensor in inside for load in loads(factor))


def _keep_long_rows(g: _Grouping, heavy: Nest) -> None:
    """Normalised operands too large for registers are made once: a contraction that loops over them
    would read every row three times, and normalise between its loads and its products."""
    for load in loads(heavy.body):
        nest = g.nests.get(load.tensor)
        if nest is None or not nest.is_map or nest.type.size <= MAX_REPEATED_ROWS:
            continue
        if nest.name in g.roots or nest.name in g.home:
            continue
        inside = [g.nests[name] for name in _held(g, {nest.name})]
        if any(g.is_heavy(item.name) for item in inside):
            continue
        if any(_is_long(item) for item in inside):
            g.roots.add(nest.name)


def _is_long(nest: Nest) -> bool:
    """Whether it reduces rows rather than windows or a few values."""
    row = math.prod(var.extent for var in nest.reduce_axes)
    return not nest.is_map and not is_window(nest) and row > MAX_SHORT


# ---------------------------------------------------------------------- the rest
def _must_be_root(g: _Grouping, nest: Nest) -> bool:
    """Whether a nest that no contraction claims is better computed once."""
    if is_turned(nest):
        return True
    if nest.is_map and is_choice(nest.body):
        return choices(nest.body) > MAX_CHOICES
    windowed = [name for name in _contraction_readers(g, nest.name) if is_window(g.nests[name])]
    if nest.is_map:
        return bool(windowed) and flops_of(nest.body) > MAX_REPEATED_FLOPS
    if is_window(nest) or g.is_heavy(nest.name) or is_total(nest):
        return False
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
            elif g.is_heavy(reader):
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
