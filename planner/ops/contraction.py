"""Matrix products: a sum over a product of two loads."""

from __future__ import annotations

import itertools
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
    """Letters are variables; operands are multiplied from left to right, two at a time."""
    ranks = [len(builder.shape(name)) for name in node.inputs]
    terms, wanted = spelled(str(node.attributes["equation"]), ranks)
    operands = list(node.inputs)
    while len(operands) > 2:
        later = {*wanted, *itertools.chain(*terms[2:])}
        kept = [letter for letter in dict.fromkeys(terms[0] + terms[1]) if letter in later]
        made = _summed(builder, operands[:2], terms[:2], kept, builder.fresh(operands[0]))
        operands[:2], terms[:2] = [made], [kept]
    _summed(builder, operands, terms, wanted, node.outputs[0])


def spelled(equation: str, ranks: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    """The letters of each operand's dimensions and of the result's, `...` spelled out.

    Args:
        ranks: of the operands.
    """
    given, arrow, wanted = equation.replace(" ", "").partition("->")
    listed = given.split(",")
    counts = [rank - len(term) + 3 for term, rank in zip(listed, ranks, strict=True)]
    dots = max((n for term, n in zip(listed, counts, strict=True) if "." in term), default=0)
    names = [f"...{position}" for position in range(dots)]

    def letters(term: str, count: int) -> list[str]:
        if "." not in term:
            return list(term)
        before, _, after = term.partition("...")
        return [*before, *names[dots - count :], *after]

    terms = [letters(term, count) for term, count in zip(listed, counts, strict=True)]
    if arrow:
        return terms, letters(wanted, dots)
    once = [letter for letter in sorted(set(given) - set(",.")) if given.count(letter) == 1]
    return terms, [*names, *once]


def _summed(
    builder: Builder,
    operands: Sequence[str],
    terms: Sequence[Sequence[str]],
    wanted: Sequence[str],
    target: str,
) -> str:
    """The product of one or two tensors, summed over the letters that are not wanted."""
    shapes = [builder.shape(name) for name in operands]
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = max(sizes.get(letter, 1), size)
    summed = sorted(sizes.keys() - set(wanted))

    def body(*at: Affine) -> Expr:
        place = dict(zip([*wanted, *summed], at, strict=True))
        factors = [
            Load(
                name,
                tuple(
                    place[letter] if size > 1 else index.constant(0)
                    for letter, size in zip(term, shape, strict=True)
                ),
            )
            for term, name, shape in zip(terms, operands, shapes, strict=True)
        ]
        return factors[0] if len(factors) == 1 else apply("mul", *factors)

    shape = tuple(sizes[letter] for letter in wanted)
    made = TensorType(builder.dtype(operands[0]), shape)
    if not summed:
        return builder.map(target, body, made)
    return builder.reduce(target, Reducer.SUM, [sizes[letter] for letter in summed], body, made)


FAMILY: Mapping[str, Lower] = {
    "MatMul": _matmul,
    "com.microsoft::FusedMatMul": _fused_matmul,
    "Gemm": _gemm,
    "Einsum": _einsum,
}
