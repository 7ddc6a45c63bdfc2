"""Conditions that are known: the branch that is always taken takes the operator's place.

    If(true) { then: Neg(x) -> t;  else: ... } -> y      becomes      Neg(x) -> y

Exporters leave such conditions where they ask for a rank or a size that is fixed once shapes are;
behind the operator nobody knew any shape.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from planner.graph import names, proto


def inline_known(graph: GraphProto) -> int:
    """Replaces `If` operators of the top level whose condition is a constant, in place; how many.

    Operators stay in an order in which everything is made before it is read.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    taken = set(names.tensor_names(graph))
    nodes: list[NodeProto] = []
    count = 0
    for node in graph.node:
        branch = _known_branch(node, constants)
        if branch is None:
            nodes.append(node)
            continue
        count += 1
        body = renamed(branch, proto.label(node), taken)
        graph.initializer.extend(body.initializer)
        nodes += body.node
        nodes += _handed_over(body, node)
    if count:
        kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(kept)
    return count


def _known_branch(node: NodeProto, constants: dict[str, TensorProto]) -> GraphProto | None:
    condition = constants.get(node.input[0]) if proto.kind(node) == "If" else None
    if condition is None or condition.data_location == TensorProto.EXTERNAL:
        return None
    wanted = "then_branch" if numpy_helper.to_array(condition).all() else "else_branch"
    found: list[GraphProto] = [one.g for one in node.attribute if one.name == wanted]
    return None if found[0].sparse_initializer else found[0]


def renamed(branch: GraphProto, prefix: str, taken: set[str]) -> GraphProto:
    """A copy whose own tensors have names that nothing else has."""
    body = GraphProto()
    body.CopyFrom(branch)
    own = [tensor.name for tensor in body.initializer]
    own += [name for node in body.node for name in node.output if name]
    new = {name: names.fresh(f"{prefix}/{name}", taken) for name in own}
    proto.rename_reads(body, new)
    for tensor in body.initializer:
        tensor.name = new[tensor.name]
    for node in body.node:
        node.output[:] = [new.get(name, name) for name in node.output]
    return body


def _handed_over(body: GraphProto, node: NodeProto) -> Iterator[NodeProto]:
    """What the branch answers, under the names that the operator gave it."""
    for made, wanted in zip(body.output, node.output, strict=True):
        if wanted:
            yield helper.make_node("Identity", [made.name], [wanted], f"{wanted}/branch")
