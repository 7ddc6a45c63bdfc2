"""A model of static shapes, cut into parts that code can be generated for and parts that cannot be.

Parts run one after the other and alternate: a part of either kind is convex, since every operator
stands behind all parts that it depends on. Small coverable parts between others are left to the
library: crossing over costs more than they do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

from planner.graph import proto
from planner.graph.semantics import read_node, static_types
from planner.graph.stand_ins import inferred
from planner.ops.builder import Builder, Node, NotCovered
from planner.ops.lower import kind_of, lower_node, lower_owned
from planner.ops.nest import Program, TensorType
from planner.ops.partial import in_parts
from planner.ops.summed import in_memory_order
from planner.ops.turned import inputs_turned

Array = np.ndarray[Any, Any]
MIN_NODES = 6
"""Operators that a part must have, where others exist, to be worth crossing over: each saves about
2.5 us of launch, and crossing costs a wait and a launch (10 to 20 us; estimates)."""
MAX_POINTS = 2e12
"""Points of one operator's loops above which nothing is launch-bound: the library does better."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the model."""

    nodes: tuple[str, ...]
    """Names of its operators, in order."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    program: Program | None
    """What it means; None: ONNX Runtime alone runs it."""
    owners: Mapping[str, str] = field(default_factory=dict)
    """Nest of the program -> operator that it is part of."""
    reasons: tuple[str, ...] = ()
    """Why it is not generated: each operator that is not covered, and why."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A model in parts."""

    segments: tuple[Segment, ...]
    covered: int
    """Operators that code can be generated for."""
    operators: int

    @property
    def generated(self) -> int:
        """Operators of the generated parts."""
        return sum(len(part.nodes) for part in self.segments if part.program is not None)


@dataclass(frozen=True, slots=True)
class _Model:
    nodes: tuple[Node, ...]
    reads: tuple[tuple[str, ...], ...]
    """Per node, what its bodies capture included."""
    types: Mapping[str, TensorType]
    stored: Mapping[str, Array]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def cut(path: Path, shapes: Sequence[Mapping[str, tuple[int, ...]]] = ({},)) -> tuple[Cut, ...]:
    """Cuts the model at `path` for each set of input shapes, between the same operators.

    Picklable, for a process of its own: models are somebody else's input. External data is read.
    """
    models = [_read(path, given) for given in shapes]
    missing: dict[str, str] = {}
    for model in models:
        missing.update(_missing(model))
    names = [node.name for node in models[0].nodes]
    groups = _groups(models[0], [name not in missing for name in names])
    covered = sum(name not in missing for name in names)
    return tuple(
        Cut(
            tuple(_segment(model, members, kind, missing) for members, kind in groups),
            covered,
            len(names),
        )
        for model in models
    )


def extract(path: Path, segment: Segment, target: Path) -> None:
    """Writes a part of the model as a model of its own, weights inside."""
    source = inferred(onnx.load(path))
    wanted = set(segment.nodes)
    nodes = [node for i, node in enumerate(source.graph.node) if _name(node, i) in wanted]
    read = {name for node in nodes for name in (*node.input, *proto.captured(node))}
    weights = [item for item in source.graph.initializer if item.name in read]
    made = {name for node in nodes for name in node.output}
    for node in source.graph.node:  # what a constant outside makes travels along
        if node.op_type == "Constant" and node.output[0] in read - made:
            nodes.insert(0, node)
    known = {value.name: value for value in _values(source)}
    graph = helper.make_graph(
        nodes,
        "part",
        [known[name] for name in segment.inputs],
        [known[name] for name in segment.outputs],
        weights,
        value_info=[v for name, v in known.items() if name in made - set(segment.outputs)],
    )
    part = helper.make_model(graph, opset_imports=source.opset_import, functions=source.functions)
    part.ir_version = source.ir_version
    onnx.save(part, target)


def _values(model: ModelProto) -> Sequence[onnx.ValueInfoProto]:
    graph = model.graph
    return [*graph.value_info, *graph.input, *graph.output]


def _name(node: NodeProto, position: int) -> str:
    return node.name or f"{node.op_type}_{position}"


def _read(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> _Model:
    given = onnx.load(path)
    proto.set_shapes(given.graph, shapes)
    if shapes:
        _forget_shapes(given)
    source = inferred(given)
    graph = source.graph
    stored = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    inputs = tuple(value.name for value in graph.input if value.name not in stored)
    types = static_types(source)
    opsets = {entry.domain: entry.version for entry in source.opset_import}
    nodes, reads = [], []
    for position, node in enumerate(graph.node):
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            stored[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            continue
        has_body = next(proto.subgraphs(node), None) is not None
        reads.append((*(n for n in node.input if n), *(proto.captured(node) if has_body else ())))
        nodes.append(read_node(node, position, opsets))
    types.update({name: TensorType(v.dtype.name, v.shape) for name, v in stored.items()})
    outputs = tuple(value.name for value in graph.output)
    return _Model(tuple(nodes), tuple(reads), types, stored, inputs, outputs)


def _forget_shapes(model: ModelProto) -> None:
    """Of everything but inputs: declared ones may be those of other input shapes."""
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def _missing(model: _Model) -> dict[str, str]:
    """Operator -> why no code is generated for it."""
    builder = Builder(dict(model.types), dict(model.stored))
    found: dict[str, str] = {}
    for node in model.nodes:
        before = len(builder.nests)
        try:
            lower_node(builder, node)
        except NotCovered as error:
            found[node.name] = error.what
            continue
        points = sum(nest.points for nest in builder.nests[before:])
        if points > MAX_POINTS:
            found[node.name] = f"{kind_of(node)} of {points:.2g} points is not launch-bound"
    return found


def _groups(model: _Model, generated: list[bool]) -> list[tuple[list[int], bool]]:
    """(nodes, whether generated) of every part, in order."""
    generated = list(generated)
    while True:
        level = _levels(model, generated)
        count = Counter(level)
        small = {n for n, size in count.items() if n % 2 == 0 and size < MIN_NODES}
        if len(count) == 1 or not small:
            break
        generated = [own and level[i] not in small for i, own in enumerate(generated)]
    return [
        ([i for i, other in enumerate(level) if other == number], number % 2 == 0)
        for number in sorted(count)
    ]


def _levels(model: _Model, generated: Sequence[bool]) -> list[int]:
    """Number of the part of each node: even where generated, odd where not."""
    maker = {name: i for i, node in enumerate(model.nodes) for name in node.outputs}
    level: list[int] = []
    for position, reads in enumerate(model.reads):
        least = 0 if generated[position] else 1
        before = [level[maker[name]] for name in reads if name in maker]
        highest = max(before, default=least)
        level.append(max(least, highest + (highest - least) % 2))
    return level


def _segment(
    model: _Model, members: Sequence[int], is_generated: bool, missing: Mapping[str, str]
) -> Segment:
    nodes = [model.nodes[i] for i in members]
    made = dict.fromkeys(name for node in nodes for name in node.outputs if name)
    read = dict.fromkeys(name for i in members for name in model.reads[i])
    inputs = tuple(name for name in read if name not in made and name not in model.stored)
    inside = set(members)
    elsewhere = {n for i, reads in enumerate(model.reads) if i not in inside for n in reads}
    outputs = tuple(name for name in made if name in elsewhere or name in model.outputs)
    program, owners = None, dict[str, str]()
    if is_generated and outputs:
        stored = {name: model.stored[name] for name in read if name in model.stored}
        lowered, owners = lower_owned(nodes, model.types, stored, inputs, outputs)
        program, parts_of = in_parts(inputs_turned(in_memory_order(lowered)))
        owners |= {made: owners[name] for made, name in parts_of.items() if name in owners}
    names = tuple(node.name for node in nodes)
    reasons = tuple(f"{name}: {missing[name]}" for name in names if name in missing)
    return Segment(names, inputs, outputs, program, owners, reasons)
