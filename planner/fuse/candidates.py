"""Candidate groups: what one launch may compute, for the solver to choose from.

Every candidate is one or more *stages* side by side. A stage is told by its root and by the tensors
it reads from memory; whatever lies between is computed on chip, recomputed where several stages
need it. Candidates are the rule-based grouping (`greedy.py`) and what single moves make of it:

    cut        a tensor inside goes through memory instead, made by a stage of its own
    take in    a stage without contraction that this one reads is computed inside, once a reader
    open       the contraction is written; what follows it elementwise is a stage of its own
    beside     independent stages of one level share a launch

Moves of one stage combine freely, up to a budget for the whole program. Nests that no candidate
makes need no mention: they are always inside.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from planner.fuse.chains import is_too_long
from planner.fuse.greedy import group
from planner.fuse.schedule import MAX_SIDE_BY_SIDE, levels
from planner.kernels.estimate import flops_of
from planner.kernels.patterns import is_contraction
from planner.kernels.stage import Stage
from planner.ops.nest import Nest, Program
from planner.ops.views import MAX_CHOICES, choices, is_choice

MAX_STAGES = 3000
"""Stages worth pricing: more of them make the solver slow before they make the plan better."""
MAX_MOVES = 4
"""Moves of one stage that are combined."""
MAX_TAKEN_IN_POINTS = 1 << 16
"""Points of a stage that others may repeat: above, memory is cheaper whatever the device."""
MIN_CUT_FLOPS = 4
"""Arithmetic per element below which a map is never worth a trip through memory."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Stages that one launch runs side by side."""

    stages: tuple[Stage, ...]

    @property
    def makes(self) -> tuple[str, ...]:
        """Tensors it writes."""
        return tuple(name for stage in self.stages for name in stage.makes)

    @property
    def reads(self) -> tuple[str, ...]:
        """Tensors it reads from memory."""
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.reads))


@dataclass(frozen=True, slots=True)
class Space:
    """All candidates of a program."""

    program: Program
    greedy: tuple[Stage, ...]
    candidates: tuple[Candidate, ...]
    heavy: frozenset[str]
    """Contractions: computed exactly once, in whatever stage."""
    optional: frozenset[str]
    """Tensors that may be written, or be computed inside every stage that reads them."""


@dataclass(frozen=True, slots=True)
class _Move:
    """A change to what a stage reads from memory."""

    name: str
    add: frozenset[str] = frozenset()
    drop: frozenset[str] = frozenset()


def explore(program: Program, *, limit: int = MAX_STAGES) -> Space:
    """Candidates of a program; the greedy grouping is among them. O(limit x size of a stage)."""
    greedy = group(program)
    heavy = frozenset(nest.name for nest in program.nests if is_contraction(nest))
    held = {stage.root: stage for stage in greedy}
    light = {root for root, s in held.items() if not heavy & {root, *s.internal} and not s.also}
    moves = {stage.root: _moves(program, stage, heavy, held, light) for stage in greedy}
    allowed = _combined(moves, limit)
    found: dict[tuple[object, ...], Stage] = {}
    variants: dict[tuple[str, str], Stage] = {}
    in_memory = frozenset(name for stage in greedy for name in stage.makes)
    for stage in greedy:
        _add(found, stage)
        for chosen in _subsets(moves[stage.root], allowed):
            made = _moved(program, stage, chosen, in_memory, heavy)
            if made is None:
                continue
            _add(found, made)
            variants[stage.root, "+".join(move.name for move in chosen)] = made
            for name in sorted(frozenset().union(*(move.add for move in chosen))):
                _add(found, closure(program, name, in_memory - {name}, ()))
    singles = tuple(Candidate((stage,)) for stage in found.values())
    beside = _beside(program, greedy, variants)
    written = {name for one in singles for name in one.makes}
    optional = frozenset(written - heavy - set(program.outputs))
    return Space(program, greedy, (*singles, *beside), heavy, optional)


def closure(
    program: Program, root: str, in_memory: Iterable[str], also: tuple[str, ...] = ()
) -> Stage:
    """The stage of a root that reads these tensors (and inputs and constants) from memory."""
    nests, there = program.by_name, set(in_memory) - {root, *also}
    internal: set[str] = set(also)
    reads: dict[str, None] = {}
    pending = [root, *also]
    while pending:
        for name in nests[pending.pop()].reads:
            if name not in nests or name in there:
                reads[name] = None
            elif name not in internal and name != root:
                internal.add(name)
                pending.append(name)
    return Stage(root, frozenset(internal), tuple(sorted(reads)), also)


def _add(found: dict[tuple[object, ...], Stage], stage: Stage) -> None:
    found.setdefault((stage.root, stage.reads, stage.also), stage)


# ---------------------------------------------------------------------- moves
def _moves(
    program: Program,
    stage: Stage,
    heavy: frozenset[str],
    held: Mapping[str, Stage],
    light: set[str],
) -> tuple[_Move, ...]:
    """What may be changed about a stage, most promising first."""
    nests = program.by_name
    inside = [nests[name] for name in sorted({stage.root, *stage.internal})]
    own = [nest for nest in inside if nest.name in heavy]
    cuts = [_Move(f"cut {name}", add=frozenset({name})) for name in _cuttable(nests, own, stage)]
    opened = [
        _Move(f"open {nest.name}", add=frozenset({nest.name}))
        for nest in own
        if nest.name != stage.root and not stage.also and _ends_in(nests, stage, nest.name)
    ]
    taken = [
        _Move(f"take {name}", drop=frozenset({name}))
        for name in stage.reads
        if name in light
        and nests[name].points <= MAX_TAKEN_IN_POINTS
        and held[name].root == name
        and not (own and _is_large_choice(nests[name]))
    ]
    return tuple((*cuts, *taken, *opened)[:MAX_MOVES])


def _is_large_choice(nest: Nest) -> bool:
    """Whether an element of it is picked from many tensors: a block of a product would pick each of
    its operands so, again for every tile (27 embeddings side by side, H200: 8.0 us inside a product
    that takes 1.1 behind a stage of 3.5)."""
    return nest.is_map and is_choice(nest.body) and choices(nest.body) > MAX_CHOICES


def _cuttable(nests: Mapping[str, Nest], own: Sequence[Nest], stage: Stage) -> list[str]:
    """Operands of the stage's contractions that take work: normalised rows, held products."""
    found: dict[str, None] = {}
    for nest in own or [nests[stage.root]]:
        for name in nest.reads:
            if name in stage.internal and _is_work(nests, name, stage):
                found[name] = None
    return list(found)


def _is_work(nests: Mapping[str, Nest], name: str, stage: Stage) -> bool:
    """Whether a tensor inside holds a reduction, or arithmetic worth doing once."""
    nest = nests[name]
    if nest.is_view:
        return False
    if not nest.is_map or flops_of(nest.body) >= MIN_CUT_FLOPS:
        return True
    return any(_is_work(nests, other, stage) for other in nest.reads if other in stage.internal)


def _ends_in(nests: Mapping[str, Nest], stage: Stage, name: str) -> bool:
    """Whether the root follows from a contraction by maps alone."""
    pending, seen = [stage.root], set[str]()
    while pending:
        current = pending.pop()
        if current == name:
            return True
        if current in seen or not nests[current].is_map:
            continue
        seen.add(current)
        pending += [other for other in nests[current].reads if other in stage.internal]
    return False


def _combined(moves: Mapping[str, Sequence[_Move]], limit: int) -> int:
    """How many moves of one stage may be combined within the budget."""
    for allowed in range(MAX_MOVES, 0, -1):
        total = sum(
            sum(1 for _ in _subsets(listed, allowed)) + len(listed) for listed in moves.values()
        )
        if total <= limit:
            return allowed
    return 1 if sum(len(listed) for listed in moves.values()) <= 2 * limit else 0


def _subsets(moves: Sequence[_Move], most: int) -> Iterable[tuple[_Move, ...]]:
    for count in range(1, most + 1):
        yield from itertools.combinations(moves, count)


def _moved(
    program: Program,
    stage: Stage,
    chosen: Sequence[_Move],
    in_memory: frozenset[str],
    heavy: frozenset[str],
) -> Stage | None:
    """The stage after some moves; None where a contraction would be computed twice, and where the
    stage would be too long."""
    add = frozenset().union(*(move.add for move in chosen))
    drop = frozenset().union(*(move.drop for move in chosen))
    made = closure(program, stage.root, (in_memory | add) - drop, stage.also)
    before = heavy & {stage.root, *stage.internal}
    if is_too_long(program, made):
        return None
    return made if heavy & {made.root, *made.internal} <= before else None


# ---------------------------------------------------------------------- side by side
def _beside(
    program: Program, greedy: Sequence[Stage], variants: Mapping[tuple[str, str], Stage]
) -> tuple[Candidate, ...]:
    """Stages of one level in one launch: as they are, and each with its first move."""
    found: dict[tuple[object, ...], Candidate] = {}
    for level in (levels(greedy), _latest(greedy)):
        rows: dict[int, list[Stage]] = {}
        for stage in greedy:
            rows.setdefault(level[stage.root], []).append(stage)
        for row in rows.values():
            for start in range(0, len(row), MAX_SIDE_BY_SIDE):
                together = row[start : start + MAX_SIDE_BY_SIDE]
                firsts = [_first_variant(variants, stage) for stage in together]
                for stages in (together, firsts):
                    key = tuple((stage.root, stage.reads) for stage in stages)
                    if len(stages) > 1:
                        found.setdefault(key, Candidate(tuple(stages)))
    return tuple(found.values())


def _first_variant(variants: Mapping[tuple[str, str], Stage], stage: Stage) -> Stage:
    own = (made for (root, name), made in variants.items() if root == stage.root)
    return next(own, stage)


def _latest(stages: Sequence[Stage]) -> dict[str, int]:
    """Root -> the latest level at which nobody has to wait for it."""
    earliest = levels(stages)
    last = max(earliest.values(), default=0)
    readers: dict[str, list[str]] = {}
    maker = {name: stage.root for stage in stages for name in stage.makes}
    for stage in stages:
        for name in stage.reads:
            if name in maker:
                readers.setdefault(maker[name], []).append(stage.root)
    found: dict[str, int] = {}
    for stage in reversed(stages):
        after = (found[root] - 1 for root in readers.get(stage.root, ()))
        found[stage.root] = min(after, default=last)
    return found
