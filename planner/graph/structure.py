"""Names and order: each tensor made once, each name known, no cycles; a stable sort."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Sequence

from onnx import GraphProto, NodeProto

from planner.errors import ModelError
from planner.graph import proto

_SUGGEST_AMONG = 2000
"""difflib is quadratic in spirit; more names than this are not searched for a similar one."""


def check_names(graph: GraphProto, outer: Sequence[set[str]] = ()) -> None:
    """Every tensor made exactly once and every name that is read made by somebody.

    `outer` holds the names visible from the enclosing graphs, innermost last.

    Raises:
        ModelError: naming the tensor and the operator.
    """
    own = _own_names(graph)
    scopes = (*outer, own)
    for node in graph.node:
        for name in node.input:
            if name not in own:  # wording a complaint costs more than finding that there is none
                _check_known(name, scopes, f"operator {proto.label(node)} reads")
        for body in proto.subgraphs(node):
            check_names(body, scopes)
    for value in graph.output:
        _check_known(value.name, scopes, "the graph declares as output")


def _own_names(graph: GraphProto) -> set[str]:
    """Names the graph itself makes; default inputs are inputs and initialisers at once."""
    inputs = [value.name for value in graph.input]
    stored = [tensor.name for tensor in graph.initializer]
    stored += [sparse.values.name for sparse in graph.sparse_initializer]
    _check_unique(inputs, "input")
    _check_unique(stored, "initialiser")
    names = {*inputs, *stored}
    for node in graph.node:
        for name in node.output:
            if name and name in names:
                raise ModelError(
                    f"tensor {proto.short(name)!r} is made twice; the second maker is operator"
                    f" {proto.label(node)}",
                    fix="give each output its own name",
                )
            names.add(name)
    names.discard("")
    return names


def _check_unique(names: list[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ModelError(f"the {what} {proto.short(name)!r} is declared twice")
        seen.add(name)


def _check_known(name: str, scopes: Sequence[set[str]], who: str) -> None:
    if not name or any(name in scope for scope in scopes):
        return
    known = scopes[-1]
    near = (
        difflib.get_close_matches(name[:200], sorted(known), 1)
        if len(known) < _SUGGEST_AMONG
        else []
    )
    raise ModelError(
        f"{who} tensor {proto.short(name)!r}, which no input, initialiser or operator makes",
        fix=f"did you mean {proto.short(near[0])!r}?" if near else "export the model again",
    )


def order(nodes: Sequence[NodeProto]) -> list[int]:
    """Indices in topological order, as close to the given order as it can be. O(E log V).

    Raises:
        ModelError: the operators form a cycle; names those on it.
    """
    maker = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    readers: list[list[int]] = [[] for _ in nodes]
    missing = [0] * len(nodes)
    for index, node in enumerate(nodes):
        sources = {maker[name] for name in (*node.input, *proto.captured(node)) if name in maker}
        missing[index] = len(sources)
        for source in sources:
            readers[source].append(index)
    ready = [index for index, count in enumerate(missing) if count == 0]
    done: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        done.append(index)
        for reader in readers[index]:
            missing[reader] -= 1
            if missing[reader] == 0:
                heapq.heappush(ready, reader)
    if len(done) < len(nodes):
        raise _cycle(nodes, readers)
    return done


def _cycle(nodes: Sequence[NodeProto], readers: list[list[int]]) -> ModelError:
    import networkx as nx  # a quarter of a second, for broken models

    edges = nx.DiGraph((source, reader) for source, found in enumerate(readers) for reader in found)
    loop = [edge[0] for edge in nx.find_cycle(edges)]
    names = [proto.label(nodes[index]) for index in (*loop[:6], loop[0])]
    return ModelError(
        f"the operators form a cycle: {' -> '.join(names)}",
        fix="an ONNX graph must be acyclic; use Loop or Scan for recurrence",
    )


def sort(graph: GraphProto) -> bool:
    """Sorts the graph and its bodies in place; whether anything moved.

    Raises:
        ModelError: the operators form a cycle.
    """
    moved = [sort(body) for node in graph.node for body in proto.subgraphs(node)]
    indices = order(graph.node)
    if indices == list(range(len(indices))):
        return any(moved)
    nodes = [graph.node[index] for index in indices]
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    return True
