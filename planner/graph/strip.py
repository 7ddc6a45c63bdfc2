"""Simplification of a graph whose weights are absent: takes away what needs no values for that.

    Shape -> Gather -> Concat        ->  the numbers, where every workload shape settles them
    Transpose(weight), weight alone  ->  a weight, turned once when the engine is built
    Identity, Dropout, Reshape to the same shape  ->  nothing
    the same operator on the same operands twice  ->  once
    what no output needs             ->  nothing

What must read values stays: batch normalisation is not folded into convolutions, constants are not
multiplied out. An operator on weights alone is taken away only where its result takes no more
memory than it frees, so that a shared embedding is not stored twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from planner.graph.piece import Piece
from planner.graph.propagate import RANDOM, Fact

Facts = Mapping[str, Fact]
"""What is known of each tensor under one set of input shapes."""

_SAME_TYPE = frozenset(("Reshape", "Expand", "Cast", "Flatten"))
"""Operators that do nothing where type and shape stay the same."""
_DROPOUT_WITH_MODE = 3
"""Operands of a Dropout that may be told to train."""


@dataclass
class Stripped:
    """What is left, and why the rest is not."""

    kept: list[int] = field(default_factory=list)
    """Positions of the operators left, in order."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Tensor -> the one to read in its place."""
    constants: set[str] = field(default_factory=set)
    """Tensors that need no operator: initialisers, and what was settled."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why operators were taken away -> how many."""


def strip(
    pieces: Sequence[Piece],
    runs: Sequence[Facts],
    stored: frozenset[str],
    outputs: frozenset[str],
) -> Stripped:
    """Which operators are needed.

    Args:
        pieces: operators in topological order.
        runs: what is known under each workload shape.
        stored: names of initialisers that nobody overrides.
        outputs: names of the model's outputs: their makers stay.
    """
    found = Stripped(constants=set(stored))
    readers = Counter(name for piece in pieces for name in set(piece.reads))
    first: dict[tuple[object, ...], Piece] = {}
    for position, piece in enumerate(pieces):
        reads = [found.renamed.get(name, name) for name in piece.reads]
        reason = _removal(piece, reads, runs, found, readers, outputs)
        twin = None if reason else _twin(piece, reads, first, outputs)
        if twin is not None:
            reason = "done before"
            found.renamed.update(zip(piece.outputs, twin.outputs, strict=True))
        if reason:
            found.reasons[reason] += 1
        else:
            found.kept.append(position)
    _drop_dead(pieces, found, outputs)
    return found


def _removal(
    piece: Piece,
    reads: Sequence[str],
    runs: Sequence[Facts],
    found: Stripped,
    readers: Mapping[str, int],
    outputs: frozenset[str],
) -> str | None:
    """Why the operator is not needed; None where it is. Records what its outputs become."""
    made = piece.makes
    if not outputs.isdisjoint(made):
        return None
    if made and all(run[name].value is not None for run in runs for name in made):
        found.constants.update(made)
        return "shape arithmetic"
    if _is_identity(piece, reads, runs):
        found.renamed[piece.outputs[0]] = reads[0]
        return "changes nothing"
    if _is_on_weights(piece, reads, found) and _frees(reads, made, runs[0], readers):
        found.constants.update(made)
        return "on weights alone"
    return None


def _is_identity(piece: Piece, reads: Sequence[str], runs: Sequence[Facts]) -> bool:
    node = piece.node
    if node.domain not in ("", "ai.onnx") or not reads:
        return False
    if node.op_type == "Identity":
        return True
    if node.op_type == "Dropout":
        has_mask = any(piece.outputs[1:])
        return not has_mask and len(piece.inputs) < _DROPOUT_WITH_MODE
    if node.op_type not in _SAME_TYPE:
        return False
    pairs = ((run[reads[0]], run[piece.outputs[0]]) for run in runs)
    return all(old.shape is not None and old.type_bytes == new.type_bytes for old, new in pairs)


def _is_on_weights(piece: Piece, reads: Sequence[str], found: Stripped) -> bool:
    if not reads or piece.node.op_type in RANDOM or piece.has_body:
        return False
    return all(name in found.constants for name in reads)


def _frees(
    reads: Sequence[str], made: Sequence[str], run: Facts, readers: Mapping[str, int]
) -> bool:
    """Whether the results take no more memory than operands that nobody else reads."""
    if any(run[name].shape is None for name in made):
        return False
    freed = sum(run[name].size_bytes for name in set(reads) if readers[name] == 1)
    return sum(run[name].size_bytes for name in made) <= freed


def _twin(
    piece: Piece,
    reads: Sequence[str],
    first: dict[tuple[object, ...], Piece],
    outputs: frozenset[str],
) -> Piece | None:
    """An earlier operator that makes the same of the same."""
    if piece.node.op_type in RANDOM or piece.has_body:
        return None
    gaps = tuple(map(bool, piece.inputs))
    twin = first.setdefault((piece.look, gaps, tuple(reads)), piece)
    if twin is piece or not outputs.isdisjoint(piece.outputs):
        return None
    return twin


def _drop_dead(pieces: Sequence[Piece], found: Stripped, outputs: frozenset[str]) -> None:
    needed = {found.renamed.get(name, name) for name in outputs}
    alive: list[int] = []
    for position in reversed(found.kept):
        piece = pieces[position]
        if needed.isdisjoint(piece.outputs):
            found.reasons["no output needs it"] += 1
            continue
        alive.append(position)
        needed.update(found.renamed.get(name, name) for name in piece.reads)
    found.kept = alive[::-1]
