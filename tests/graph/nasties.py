"""Builders of small models: sound, unusual, damaged and hostile ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

Dims = Sequence[int | str | None] | None


def value(name: str, dims: Dims = (1, 4), dtype: int = TensorProto.FLOAT) -> ValueInfoProto:
    """A declared input or output."""
    return helper.make_tensor_value_info(name, dtype, dims)


def weight(name: str, array: Any) -> TensorProto:
    """An initialiser."""
    return numpy_helper.from_array(np.asarray(array), name)


def node(op_type: str, inputs: Sequence[str], outputs: Sequence[str], **more: Any) -> NodeProto:
    """An operator."""
    return helper.make_node(op_type, list(inputs), list(outputs), **more)


def graph(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto] = (),
    outputs: Sequence[ValueInfoProto] = (),
    weights: Sequence[TensorProto] = (),
    name: str = "g",
) -> GraphProto:
    """A graph, by default from `x` to `y`, both 1x4."""
    return helper.make_graph(
        list(nodes),
        name,
        list(inputs) or [value("x")],
        list(outputs) or [value("y")],
        list(weights),
    )


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto] = (),
    outputs: Sequence[ValueInfoProto] = (),
    weights: Sequence[TensorProto] = (),
    opset: int = 17,
    ir_version: int = 8,
    **more: Any,
) -> ModelProto:
    """A model around `graph`."""
    imports = [helper.make_opsetid("", opset), *more.pop("imports", ())]
    made = helper.make_model(graph(nodes, inputs, outputs, weights), opset_imports=imports, **more)
    made.ir_version = ir_version
    return made


def save(made: ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """Writes it as it is, without any check."""
    path = folder / name
    path.write_bytes(made.SerializeToString())
    return path


def relu() -> ModelProto:
    """The smallest sound model."""
    return model([node("Relu", ["x"], ["y"])])


def matmul(weights: TensorProto) -> ModelProto:
    """y = x W with the initialiser given."""
    return model([node("MatMul", ["x", "W"], ["y"])], weights=[weights])


def external(
    location: str, offset: int = 0, length: int | None = 64, dims: Sequence[int] = (4, 4)
) -> ModelProto:
    """y = x W with W in another file."""
    tensor = TensorProto(name="W", data_type=TensorProto.FLOAT, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": offset, "length": length}
    for key, entry in entries.items():
        if entry is not None:
            tensor.external_data.add(key=key, value=str(entry))
    return matmul(tensor)


def cycle() -> ModelProto:
    """a = x + b, b = relu(a)."""
    return model([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"])], outputs=[value("b")])


def unsorted() -> ModelProto:
    """Acyclic, but the reader stands before the maker."""
    return model([node("Relu", ["t"], ["y"]), node("Neg", ["x"], ["t"])])


def recursive() -> ModelProto:
    """A local function that calls itself."""
    return with_functions({"Rec": ["Rec"]}, call="Rec")


def exploding(depth: int = 40) -> ModelProto:
    """Functions that each call the next one twice: 2^depth operators once inlined."""
    calls = {f"F{i}": [f"F{i + 1}"] * 2 for i in range(depth)}
    return with_functions({**calls, f"F{depth}": []}, call="F0")


def with_functions(calls: dict[str, list[str]], call: str) -> ModelProto:
    """Local functions that call each other in a row; one without calls is a Neg."""
    made = model([node(call, ["x"], ["y"], domain="loc")], imports=[helper.make_opsetid("loc", 1)])
    for name, callees in calls.items():
        steps = [(callee, "loc") for callee in callees] or [("Neg", "")]
        names = ["a", *(f"t{i}" for i in range(len(steps) - 1)), "b"]
        body = [
            node(op_type, [names[i]], [names[i + 1]], domain=domain)
            for i, (op_type, domain) in enumerate(steps)
        ]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("loc", 1)]
        made.functions.append(helper.make_function("loc", name, ["a"], ["b"], body, opsets))
    return made


def overloaded() -> ModelProto:
    """Two local functions of one name: `F:long` calls `F:short`, which is no recursion."""
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("loc", 1)]
    call = node("F", ["x"], ["y"], domain="loc", overload="long")
    made = model([call], imports=imports[1:], opset=21, ir_version=10)
    inner = node("F", ["a"], ["t"], domain="loc", overload="short")
    bodies = {"long": [inner, node("Neg", ["t"], ["b"])], "short": [node("Exp", ["a"], ["b"])]}
    for overload, body in bodies.items():
        made.functions.append(
            helper.make_function("loc", "F", ["a"], ["b"], body, imports, overload=overload)
        )
    return made


def random_pair() -> ModelProto:
    """Two equal random draws, added: y is random, z = 2x is not."""
    like = {"dtype": TensorProto.FLOAT, "shape": [1, 4]}
    return model(
        [
            node("RandomNormal", [], ["r1"], **like),
            node("RandomNormal", [], ["r2"], **like),
            node("Sub", ["r1", "r2"], ["y"]),
            node("Add", ["x", "x"], ["z"]),
        ],
        outputs=[value("y"), value("z")],
    )


def conditional() -> ModelProto:
    """y = flag ? t W : t - W with t = Identity(x): the bodies capture a weight and a tensor."""
    then = graph([node("MatMul", ["t", "W"], ["p"])], outputs=[value("p")], name="then")
    other = graph([node("Sub", ["t", "V"], ["q"])], outputs=[value("q")], name="else")
    for body in (then, other):
        del body.input[:]
    return model(
        [
            node("Identity", ["x"], ["t"]),
            node("If", ["flag"], ["y"], then_branch=then, else_branch=other),
        ],
        inputs=[value("x"), value("flag", [], TensorProto.BOOL)],
        weights=[
            weight("W", np.arange(16, dtype=np.float32).reshape(4, 4)),
            weight("V", np.ones((1, 4), np.float32)),
        ],
    )


def endless_loop() -> ModelProto:
    """A Loop without trip count whose condition is always true."""
    body = helper.make_graph(
        [node("Identity", ["c"], ["c2"]), node("Identity", ["v"], ["v2"])],
        "body",
        [
            value("i", [], TensorProto.INT64),
            value("c", [], TensorProto.BOOL),
            value("v"),
        ],
        [value("c2", [], TensorProto.BOOL), value("v2")],
    )
    return model(
        [node("Loop", ["", "yes", "x"], ["y"], body=body)], weights=[weight("yes", np.array(True))]
    )


def fold_bomb() -> ModelProto:
    """y = x + sum(ConstantOfShape(2^34 floats)): folding would allocate 64 GiB."""
    return model(
        [
            node("ConstantOfShape", ["n"], ["huge"]),
            node("ReduceSum", ["huge"], ["s"], keepdims=0),
            node("Add", ["x", "s"], ["y"]),
        ],
        weights=[weight("n", np.array([2**34], np.int64))],
    )


def shape_chain() -> ModelProto:
    """y = reshape(x, [shape(x)[0], -1]) with the target computed from x: folds once x is bound."""
    return model(
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "zero"], ["n"]),
            node("Unsqueeze", ["n", "axis"], ["n1"]),
            node("Concat", ["n1", "rest"], ["to"], axis=0),
            node("Reshape", ["x", "to"], ["flat"]),
            node("Relu", ["flat"], ["y"]),
        ],
        inputs=[value("x", ["batch", 2, 3])],
        outputs=[value("y", ["batch", None])],
        weights=[
            weight("zero", np.array(0, np.int64)),
            weight("axis", np.array([0], np.int64)),
            weight("rest", np.array([-1], np.int64)),
        ],
    )
