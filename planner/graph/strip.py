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

from onnx import NodeProto

from planner.graph import proto
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
    nodes: Sequence[NodeProto],
    looks: Sequence[object],
    runs: Sequence[Facts],
    stored: frozenset[str],
    outputs: frozenset[str],
) -> Stripped:
    """Which operators are needed.

    Args:
        nodes: in topological order.
        looks: what each is apart from names (`propagate.look_of`).
        runs: what is known under each workload shape.
        stored: names of initialisers that nobody overrides.
        outputs: names of the model's outputs: their makers stay.
    """
    found = Stripped(constants=set(stored))
    readers = Counter(name for node in nodes for name in set(_reads(node)))
    first: dict[tuple[object, ...], NodeProto] = {}
    for position, node in enumerate(nodes):
        reads = [found.renamed.get(name, name) for name in _reads(node)]
        reason = _removal(node, reads, runs, found, readers, outputs)
        twin = None if reason else _twin(node, looks[position], reads, first, outputs)
        if twin is not None:
            reason = "done before"
            found.renamed.update(zip(node.output, twin.output, strict=True))
        if reason:
            found.reasons[reason] += 1
        else:
            found.kept.append(position)
    _drop_dead(nodes, found, outputs)
    return found


def _reads(node: NodeProto) -> tuple[str, ...]:
    return (*(name for name in node.input if name), *proto.captured(node))


def _removal(
    node: NodeProto,
    reads: Sequence[str],
    runs: Sequence[Facts],
    found: Stripped,
    readers: Mapping[str, int],
    outputs: frozenset[str],
) -> str | None:
    """Why the operator is not needed; None where it is. Records what its outputs become."""
    made = [name for name in node.output if name]
    if not outputs.isdisjoint(made):
        return None
    if made and all(run[name].value is not None for run in runs for name in made):
        found.constants.update(made)
        return "shape arithmetic"
    if _is_identity(node, reads, runs):
        found.renamed[node.output[0]] = reads[0]
        return "changes nothing"
    if _is_on_weights(node, reads, found) and _frees(reads, made, runs[0], readers):
        found.constants.update(made)
        return "on weights alone"
    return None


def _is_identity(node: NodeProto, reads: Sequence[str], runs: Sequence[Facts]) -> bool:
    if proto.domain_of(node.domain) or not reads:
        return False
    if node.op_type == "Identity":
        return True
    if node.op_type == "Dropout":
        mask = [name for name in node.output[1:] if name]
        return not mask and len(node.input) < _DROPOUT_WITH_MODE
    if node.op_type not in _SAME_TYPE:
        return False
    pairs = ((run[reads[0]], run[node.output[0]]) for run in runs)
    return all(old.shape is not None and old.type_bytes == new.type_bytes for old, new in pairs)


def _is_on_weights(node: NodeProto, reads: Sequence[str], found: Stripped) -> bool:
    if not reads or node.op_type in RANDOM or next(proto.subgraphs(node), None) is not None:
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
    node: NodeProto,
    look: object,
    reads: Sequence[str],
    first: dict[tuple[object, ...], NodeProto],
    outputs: frozenset[str],
) -> NodeProto | None:
    """An earlier operator that makes the same of the same."""
    if node.op_type in RANDOM or next(proto.subgraphs(node), None) is not None:
        return None
    gaps = tuple(bool(name) for name in node.input)
    twin = first.setdefault((look, gaps, tuple(reads)), node)
    if twin is node or not outputs.isdisjoint(node.output):
        return None
    return twin


def _drop_dead(nodes: Sequence[NodeProto], found: Stripped, outputs: frozenset[str]) -> None:
    needed = {found.renamed.get(name, name) for name in outputs}
    alive: list[int] = []
    for position in reversed(found.kept):
        node = nodes[position]
        if needed.isdisjoint(node.output):
            found.reasons["no output needs it"] += 1
            continue
        alive.append(position)
        needed.update(found.renamed.get(name, name) for name in _reads(node))
    found.kept = alive[::-1]
