"""A graph that can be edited: who makes a tensor, who reads it, its shape if that is fixed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from planner.graph import proto, structure

Shape = tuple[int, ...]
Integers = npt.NDArray[np.int64]
BLOCK = 8
"""Channels that ONNX Runtime's convolutions compute together on any processor."""
LEAST_OPSET = 7
"""Broadcasting as it is today; shapes of Reshape as an input."""


@dataclass(slots=True, eq=False)
class Node:
    """One operator; `inputs` and `outputs` are those of now, `made` how it came into the model."""

    made: NodeProto
    inputs: list[str]
    outputs: list[str]

    @property
    def kind(self) -> str:
        """Operator type, with its domain unless that is ONNX's own."""
        return proto.kind(self.made)

    def attribute(self, name: str, default: Any = None) -> Any:
        """Its value, or the default."""
        for found in self.made.attribute:
            if found.name == name:
                return helper.get_attribute_value(found)
        return default


class Net:
    """The top level of a model while it is rewritten; `finish` puts it back."""

    def __init__(self, model: ModelProto, block: int = BLOCK) -> None:
        """
        Args:
            block: channels that the runtime's convolutions compute together.
        """
        graph = model.graph
        self.model = model
        self.block = block
        self.opset = next(
            (one.version for one in model.opset_import if proto.domain_of(one.domain) == ""), 1
        )
        fed = {port.name for port in graph.input}
        self.constants = {one.name: one for one in graph.initializer if one.name not in fed}
        self.shapes = _static_shapes(model)
        self.types = {
            one.name: one.type.tensor_type.elem_type
            for one in (*graph.value_info, *graph.input, *graph.output)
        }
        """Element types of what the model declares; of new tensors nothing is known."""
        captured = (name for node in graph.node for name in proto.captured(node))
        outputs = (port.name for port in graph.output)
        self.pinned = {*captured, *outputs}
        """Tensors that keep their names: outputs of the model, and what bodies read."""
        self._taken = {*fed, *(one.name for one in graph.initializer)}
        self._nodes: dict[Node, None] = {}
        self._makers: dict[str, Node] = {}
        self._readers: dict[str, dict[Node, None]] = {}
        for node in graph.node:
            copy = NodeProto.FromString(node.SerializeToString())
            self._register(Node(copy, list(node.input), list(node.output)))

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._nodes))

    def __contains__(self, node: Node) -> bool:
        return node in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def maker(self, name: str) -> Node | None:
        """The operator that makes a tensor; None for inputs and constants."""
        return self._makers.get(name)

    def readers(self, name: str) -> list[Node]:
        """The operators that read a tensor (bodies not counted: see `pinned`)."""
        return list(self._readers.get(name, ()))

    def only_reader(self, name: str) -> Node | None:
        """Who reads a tensor, where that is one operator and nobody else wants it."""
        readers = self.readers(name)
        return readers[0] if len(readers) == 1 and name not in self.pinned else None

    def shape(self, name: str) -> Shape | None:
        """Dimensions of a tensor where all are fixed and none is zero."""
        return self.shapes.get(name)

    def integers(self, name: str) -> Integers | None:
        """The value of an integer constant, flat."""
        tensor = self.constants.get(name)
        kinds = (TensorProto.INT64, TensorProto.INT32)
        if tensor is None or tensor.data_type not in kinds or not self.is_stored(name):
            return None
        return numpy_helper.to_array(tensor).astype(np.int64).reshape(-1)

    def add(
        self, op_type: str, inputs: Iterable[str], outputs: Iterable[str], **attributes: Any
    ) -> Node:
        """A new operator of ONNX's own domain."""
        inputs, outputs = list(inputs), list(outputs)
        node = Node(helper.make_node(op_type, [], [], outputs[0], **attributes), inputs, outputs)
        self._register(node)
        return node

    def remove(self, node: Node) -> None:
        """Takes an operator out; what it made is free to be made by another."""
        del self._nodes[node]
        for name in node.outputs:
            self._makers.pop(name, None)
        for name in set(node.inputs):
            self._readers.get(name, {}).pop(node, None)

    def read(self, node: Node, position: int, name: str) -> None:
        """Lets an operator read another tensor."""
        old = node.inputs[position]
        node.inputs[position] = name
        if old not in node.inputs:
            self._readers.get(old, {}).pop(node, None)
        self._readers.setdefault(name, {})[node] = None

    def make(self, node: Node, position: int, name: str) -> None:
        """Lets an operator make its output under another name."""
        self._makers.pop(node.outputs[position], None)
        node.outputs[position] = name
        self._makers[name] = node

    def set_attribute(self, node: Node, name: str, value: int) -> None:
        """Gives an operator's attribute another value."""
        others = [one for one in node.made.attribute if one.name != name]
        del node.made.attribute[:]
        node.made.attribute.extend((*others, helper.make_attribute(name, value)))

    def redirect(self, old: str, new: str) -> None:
        """Everybody who reads `old` reads `new`."""
        for node in self.readers(old):
            for position, name in enumerate(node.inputs):
                if name == old:
                    self.read(node, position, new)

    def prune(self, name: str) -> None:
        """Drops the operator that makes a tensor if nobody needs anything that it makes; and so on
        upwards."""
        waiting = [name]
        while waiting:
            node = self.maker(waiting.pop())
            if node is None or self._is_needed(node):
                continue
            self.remove(node)
            waiting.extend(node.inputs)

    def _is_needed(self, node: Node) -> bool:
        return any(self._readers.get(o) or o in self.pinned for o in node.outputs)

    def fresh(self, base: str, shape: Shape) -> str:
        """A name that nobody has, for a tensor of this shape."""
        number = 0
        while (name := f"{base}__{number}") in self._taken or name in self.shapes:
            number += 1
        self._taken.add(name)
        self.shapes[name] = shape
        return name

    def constant(self, values: npt.ArrayLike, base: str) -> str:
        """An int64 constant, shared by all that want the same."""
        array = np.asarray(values, np.int64)
        name = f"{base}__{'x'.join(map(str, array.reshape(-1).tolist())) or 'scalar'}"
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(array, name)
            self.shapes[name] = array.shape
            self._taken.add(name)
        return name

    def recast(self, name: str, shape: Shape) -> str:
        """The same constant under another shape."""
        if self.shapes[name] == shape:
            return name
        wanted = f"{name}__as_{'x'.join(map(str, shape)) or 'scalar'}"
        if wanted not in self.constants:
            copy = TensorProto.FromString(self.constants[name].SerializeToString())
            copy.name = wanted
            copy.dims[:] = shape
            self.constants[wanted] = copy
            self.shapes[wanted] = shape
            self._taken.add(wanted)
        return wanted

    def is_stored(self, name: str) -> bool:
        """Whether it is a constant whose value lies in the model file."""
        tensor = self.constants.get(name)
        return tensor is not None and tensor.data_location != TensorProto.EXTERNAL

    def transposed(self, name: str) -> str:
        """A stored matrix, transposed."""
        wanted = f"{name}__transposed"
        if wanted not in self.constants:
            value = np.ascontiguousarray(numpy_helper.to_array(self.constants[name]).T)
            self.constants[wanted] = numpy_helper.from_array(value, wanted)
            self.shapes[wanted] = value.shape
            self._taken.add(wanted)
        return wanted

    def finish(self) -> None:
        """Writes the operators back, sorted; constants that nobody reads are dropped."""
        graph = self.model.graph
        del graph.node[:]
        for node in self._nodes:
            node.made.input[:], node.made.output[:] = node.inputs, node.outputs
            graph.node.append(node.made)
        used = {name for node in graph.node for name in node.input} | self.pinned
        fed = {port.name for port in graph.input}
        kept = [one for one in graph.initializer if one.name in used or one.name in fed]
        known = {one.name for one in kept}
        kept += [one for one in self.constants.values() if one.name in used - known]
        kept = [TensorProto.FromString(one.SerializeToString()) for one in kept]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        structure.sort(graph)

    def _register(self, node: Node) -> None:
        self._nodes[node] = None
        for name in node.outputs:
            self._makers[name] = node
            self._taken.add(name)
        for name in node.inputs:
            self._readers.setdefault(name, {})[node] = None


def _static_shapes(model: ModelProto) -> dict[str, Shape]:
    graph = model.graph
    found: dict[str, Shape] = {one.name: tuple(one.dims) for one in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
            continue
        dims = tuple(dim.dim_value for dim in kind.shape.dim)
        if all(size > 0 for size in dims):
            found[value.name] = dims
    return {name: dims for name, dims in found.items() if 0 not in dims}
