"""Shapes behind operators that onnx cannot infer: another of the same shapes stands in for each.

onnx knows none of the results of GroupNormalization (a function whose body depends on its inputs),
nor of the operators of ONNX Runtime's own domain, and so of nothing behind them.
"""

from __future__ import annotations

import onnx
from onnx import ModelProto, NodeProto, helper

from planner.graph import proto

_MICROSOFT = ("Gelu", "BiasGelu", "FastGelu", "QuickGelu", "SkipLayerNormalization")
LIKE_FIRST = frozenset({"GroupNormalization", *(f"com.microsoft::{kind}" for kind in _MICROSOFT)})
"""Operators whose result looks like their first input."""
_PRODUCT = "com.microsoft::FusedMatMul"
_SUM = 3
"""The output of SkipLayerNormalization that is the sum of its inputs; those before are statistics.
"""


def inferred(model: ModelProto, *, data_prop: bool = True) -> ModelProto:
    """The model with the types and shapes of what its operators make.

    Raises:
        InferenceError, RuntimeError, ValueError: as `onnx.shape_inference.infer_shapes`.
    """
    plain = with_stand_ins(model)
    found = onnx.shape_inference.infer_shapes(plain, data_prop=data_prop)
    if plain is model:
        return found
    del found.graph.node[:]
    found.graph.node.extend(model.graph.node)
    return found


def with_stand_ins(model: ModelProto) -> ModelProto:
    """A copy with other operators in place of those; the model itself if it has none. Its weights
    are copied, its functions and bodies of control flow left as they are."""
    if not any(_is_stood_in_for(node) for node in model.graph.node):
        return model
    plain = ModelProto()
    plain.CopyFrom(model)
    del plain.graph.node[:]
    for node in model.graph.node:
        plain.graph.node.extend(_stand_ins(node) if _is_stood_in_for(node) else [node])
    return plain


def _is_stood_in_for(node: NodeProto) -> bool:
    kind = proto.kind(node)
    return (kind in LIKE_FIRST or kind == _PRODUCT) and len(node.input) > 0


def _stand_ins(node: NodeProto) -> list[NodeProto]:
    if proto.kind(node) == _PRODUCT:
        said = {attribute.name: attribute.i for attribute in node.attribute}
        left = "...ji" if said.get("transA") else "...ij"
        right = "...kj" if said.get("transB") else "...jk"
        equation = f"{left},{right}->...ik"
        return [helper.make_node("Einsum", node.input[:2], node.output[:1], equation=equation)]
    made = [name for at, name in enumerate(node.output) if name and at in (0, _SUM)]
    return [helper.make_node("Identity", node.input[:1], [name]) for name in made]
