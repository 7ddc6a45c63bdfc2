"""Matrix products: a sum over a product of two loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.ops import index
from planner.ops.builder import Builder, Lower, Node, NotCovered, broadcast, optional
from planner.ops.expr import Expr, Load, apply, number
from planner.ops.index import Affine
from planner.ops.nest import Reducer, TensorType


def _batched(builder: Builder, name: str, batch: Sequence[Affine], last: Sequence[Affine]) -> Load:
    """An element of an operand whose leading dimensions are broadcast."""
    shape = builder.shape(name)
    outer = len(shape) - len(last)
    aligned = batch[len(batch) - outer :] if outer else ()
    position = tuple(
        value if size > 1 else index.constant(0)
        for value, size in zip(aligned, shape[:outer], strict=True)
    )
    return Load(name, (*position, *last))


def _matmul(builder: Builder, node: Node) -> None:
    left, right = node.inputs[:2]
    product(builder, left, right, node.outputs[0])


def product(
    builder: Builder,
    left: str,
    right: str,
    target: str,
    *,
    transposed: tuple[bool, bool] = (False, False),
    type_: TensorType | None = None,
) -> str:
    """numpy.matmul of two tensors, each with its last two dimensions swapped where told."""
    rows, columns = len(builder.shape(left)) > 1, len(builder.shape(right)) > 1
    swap_left, swap_right = transposed
    depth = builder.shape(left)[-2 if swap_left else -1]

    def body(*at: Affine) -> Expr:
        outer, k = list(at[:-1]), at[-1]
        n = [outer.pop()] if columns else []
        m = [outer.pop()] if rows else []
        first = [k, *m] if swap_left else [*m, k]
        second = [*n, k] if swap_right else [k, *n]
        a = _batched(builder, left, outer, first)
        return apply("mul", a, _batched(builder, right, outer, second))

    return builder.reduce(target, Reducer.SUM, (depth,), body, type_)


def _fused_matmul(builder: Builder, node: Node) -> None:
    """com.microsoft FusedMatMul: alpha * op(A) op(B)."""
    if node.attributes.get("transBatchA", 0) or node.attributes.get("transBatchB", 0):
        raise NotCovered("FusedMatMul with transposed batches", where=node.name)
    alpha = float(node.attributes.get("alpha", 1.0))
    left, right = node.inputs[:2]
    swaps = bool(node.attributes.get("transA", 0)), bool(node.attributes.get("transB", 0))
    type_ = builder.types[node.outputs[0]]
    bare = product(builder, left, right, builder.fresh(left), transposed=swaps, type_=type_)
    builder.map(node.outputs[0], lambda *at: apply("mul", Load(bare, tuple(at)), number(alpha)))


def _gemm(builder: Builder, node: Node) -> None:
    left, right = node.inputs[:2]
    bias = optional(node, 2)
    alpha = float(node.attributes.get("alpha", 1.0))
    beta = float(node.attributes.get("beta", 1.0))
    swaps = bool(node.attributes.get("transA", 0)), bool(node.attributes.get("transB", 0))
    type_ = builder.types[node.outputs[0]]
    bare = product(builder, left, right, builder.fresh(left), transposed=swaps, type_=type_)

    def body(*at: Affine) -> Expr:
        value = apply("mul", Load(bare, tuple(at)), number(alpha))
        if bias is None or beta == 0.0:
            return value
        shift = apply("mul", broadcast(builder, bias, at), number(beta))
        return apply("add", value, shift)

    builder.map(node.outputs[0], body)


def _einsum(builder: Builder, node: Node) -> None:
    """Letters are variables; operands are multiplied from left to right."""
    equation = str(node.attributes["equation"]).replace(" ", "")
    if "." in equation or len(node.inputs) > 2:
        raise NotCovered(f"Einsum {equation!r}", where=node.name)
    given, _, wanted = equation.partition("->")
    terms = given.split(",")
    letters = sorted(set(given) - {","})
    if "->" not in equation:
        wanted = "".join(letter for letter in letters if given.count(letter) == 1)
    sizes = {
        letter: size
        for term, name in zip(terms, node.inputs, strict=True)
        for letter, size in zip(term, builder.shape(name), strict=True)
    }
    summed = [letter for letter in letters if letter not in wanted]

    def body(*at: Affine) -> Expr:
        place = dict(zip([*wanted, *summed], at, strict=True))
        factors = [
            Load(name, tuple(place[letter] for letter in term))
            for term, name in zip(terms, node.inputs, strict=True)
        ]
        return factors[0] if len(factors) == 1 else apply("mul", *factors)

    if not summed:
        builder.map(node.outputs[0], body)
        return
    builder.reduce(node.outputs[0], Reducer.SUM, [sizes[letter] for letter in summed], body)


FAMILY: Mapping[str, Lower] = {
    "MatMul": _matmul,
    "com.microsoft::FusedMatMul": _fused_matmul,
    "Gemm": _gemm,
    "Einsum": _einsum,
}
