"""Parts whose graphs are the same but for names: layers of a model whose weights come with every
run. One session serves them all.

A session costs more than its graph: on a GPU a library handle with its workspace each, some 150 MB
(81 parts of a GPT held 12.7 GB of an H200 where 1 GB of weights was to be there at a time).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain

from onnx import GraphProto, ModelProto

from planner.graph import proto, weights
from planner.spec.manifest import Twin
from planner.spec.session import SessionSettings


class Twins:
    """Parts in the order in which they are written."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], tuple[str, dict[str, str]]] = {}

    def of(self, file: str, model: ModelProto, settings: SessionSettings) -> Twin | None:
        """The first part with the same graph and settings; None: this one is the first.

        Args:
            file: names the part.
        """
        if any(True for node in model.graph.node for _ in proto.subgraphs(node)):
            return None  # what a body reads has names of its own; such parts are few
        if any(map(weights.is_external, proto.tensors(model))):
            return None  # every part has a file of that name, with values of its own
        given = _canonical_names(model.graph)
        key = _digest(model, given), settings.model_dump_json()
        known, theirs = self._first.setdefault(key, (file, given))
        if known == file:
            return None
        own = {canonical: name for name, canonical in theirs.items()}
        ports = (value.name for value in (*model.graph.input, *model.graph.output))
        return Twin(file=known, names={name: own[given[name]] for name in ports})


def _canonical_names(graph: GraphProto) -> dict[str, str]:
    """A number for every value, in the order in which the file names them."""
    names = dict.fromkeys(name for name in _values(graph) if name)
    return {name: f"v{number}" for number, name in enumerate(names)}


def _values(graph: GraphProto) -> Iterator[str]:
    yield from (value.name for value in graph.input)
    yield from (value.name for value in graph.output)
    yield from chain.from_iterable((*node.input, *node.output) for node in graph.node)
    yield from (each.name for each in graph.initializer)
    yield from (each.values.name for each in graph.sparse_initializer)


def _digest(model: ModelProto, given: dict[str, str]) -> str:
    """Of the file with canonical names and without what only people read."""
    plain = ModelProto()
    plain.CopyFrom(model)
    plain.producer_name = plain.producer_version = plain.doc_string = ""
    del plain.metadata_props[:]
    graph = plain.graph
    graph.name, graph.doc_string = "twin", ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for node in graph.node:
        node.name, node.doc_string = "", ""
        del node.metadata_props[:]
        node.input[:] = [given.get(name, "") for name in node.input]
        node.output[:] = [given.get(name, "") for name in node.output]
    for value in (*graph.input, *graph.output):
        value.name, value.doc_string = given[value.name], ""
        del value.metadata_props[:]
    for tensor in graph.initializer:
        tensor.name, tensor.doc_string = given[tensor.name], ""
    for sparse in graph.sparse_initializer:
        sparse.values.name = given[sparse.values.name]
    for note in graph.quantization_annotation:
        note.tensor_name = given.get(note.tensor_name, note.tensor_name)
    return hashlib.sha256(plain.SerializeToString(deterministic=True)).hexdigest()
