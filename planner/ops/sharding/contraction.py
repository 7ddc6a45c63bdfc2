"""Matrix products: rows, columns and batches are parallel, the inner index is summed."""

from __future__ import annotations

from collections.abc import Sequence

from planner.ops.sharding.base import Axis, Call, Index, parallel, summed

_GROUP_ORDER, _BIAS = 4, 5
"""Slots of MatMulNBits: the order of its weights along K, where it is not theirs; its bias."""


def _batches(call: Call, slots: Sequence[int], outer: int) -> list[Index]:
    """The leading dimensions of a product, broadcast as numpy does."""
    found: list[Index] = []
    rank = len(call.made)
    for axis in range(outer):
        inputs = []
        for slot in slots:
            own = axis - outer + call.rank(slot) - 2
            if own >= 0 and call.shape(slot)[own] == call.made[axis]:
                inputs.append(Axis(slot, own))
        found += parallel(call.made[axis], inputs, [Axis(0, axis)] if axis < rank else [])
    return found


def matmul(call: Call) -> list[Index]:
    """numpy.matmul, with the swaps of FusedMatMul."""
    swap_left = bool(call.attributes.get("transA", 0))
    swap_right = bool(call.attributes.get("transB", 0))
    left, right = call.shape(0), call.shape(1)
    has_row, has_column = len(left) > 1, len(right) > 1
    row, inner = (len(left) - 2, len(left) - 1) if has_row else (-1, 0)
    inner_right, column = (len(right) - 2, len(right) - 1) if has_column else (0, -1)
    if swap_left:
        row, inner = inner, row
    if swap_right:
        inner_right, column = column, inner_right
    rank = len(call.made)
    found = _batches(call, (0, 1), rank - has_row - has_column)
    if has_row:
        target = rank - 1 - has_column
        found += parallel(left[row], [Axis(0, row)], [Axis(0, target)])
    if has_column:
        found += parallel(right[column], [Axis(1, column)], [Axis(0, rank - 1)])
    return found + summed(left[inner], [Axis(0, inner), Axis(1, inner_right)])


def gemm(call: Call) -> list[Index]:
    """alpha A B + beta C; C is broadcast to the result."""
    a_row = 1 if call.attributes.get("transA", 0) else 0
    b_column = 0 if call.attributes.get("transB", 0) else 1
    rows, columns = call.made
    shift = call.shape(2)
    row_shift = [Axis(2, 0)] if len(shift) == 2 and shift[0] == rows else []
    has_column = bool(shift) and shift[-1] == columns
    column_shift = [Axis(2, len(shift) - 1)] if has_column else []
    inner = [Axis(0, 1 - a_row), Axis(1, 1 - b_column)]
    once = [2] if call.has(2) else []
    return [
        *parallel(rows, [Axis(0, a_row), *row_shift], [Axis(0, 0)]),
        *parallel(columns, [Axis(1, b_column), *column_shift], [Axis(0, 1)]),
        *summed(call.shape(0)[1 - a_row], inner, once=once),
    ]


def packed(call: Call) -> list[Index]:
    """MatMulNBits: weights in blocks along K, a row of blocks for each column of the result.

    Blocks are shared whole, and as many at once as their zero points fill bytes. Where
    the last one is padded, activations would be cut elsewhere than weights.
    """
    left, (columns, blocks, _) = call.shape(0), call.shape(1)
    inner, last = len(left) - 1, len(call.made) - 1
    found: list[Index] = []
    for axis in range(inner):
        found += parallel(left[axis], [Axis(0, axis)], [Axis(0, axis)])
    sides = [slot for slot in (2, 3) if call.has(slot)]
    if any(len(call.shape(slot)) != 2 for slot in sides) or call.has(_GROUP_ORDER):
        return found
    bias = [_BIAS] if call.has(_BIAS) else []
    found += parallel(columns, [Axis(slot, 0) for slot in (1, *sides, *bias)], [Axis(0, last)])
    units = min((call.shape(slot)[1] for slot in sides), default=blocks)
    is_padded = left[inner] != blocks * int(call.attributes.get("block_size", 0))
    if blocks % units or is_padded:
        return found
    shared = [Axis(0, inner, left[inner] // units), Axis(1, 1, blocks // units)]
    shared += [Axis(slot, 1, call.shape(slot)[1] // units) for slot in sides]
    return found + summed(units, shared, once=bias)


def einsum(call: Call) -> list[Index]:
    """Each letter is an index: parallel where the result has it, else summed."""
    equation = str(call.attributes.get("equation", "")).replace(" ", "")
    given, arrow, wanted = equation.partition("->")
    terms = given.split(",")
    if "." in equation or any(len(set(term)) < len(term) for term in terms):
        return []
    letters = sorted(set(given) - {","})
    if not arrow:
        wanted = "".join(letter for letter in letters if given.count(letter) == 1)
    found: list[Index] = []
    for letter in letters:
        inputs = [Axis(n, term.index(letter)) for n, term in enumerate(terms) if letter in term]
        extent = call.shape(inputs[0].slot)[inputs[0].axis]
        inputs = [axis for axis in inputs if call.shape(axis.slot)[axis.axis] == extent]
        if letter in wanted:
            found += parallel(extent, inputs, [Axis(0, wanted.index(letter))])
        elif len(inputs) == sum(letter in term for term in terms):
            found += summed(extent, inputs)
    return found


PACKED = "com.microsoft::MatMulNBits"
"""A product whose weights are kept in blocks of few bits."""
RULES = {
    "MatMul": matmul,
    PACKED: packed,
    "com.microsoft::FusedMatMul": matmul,
    "Gemm": gemm,
    "Einsum": einsum,
}
