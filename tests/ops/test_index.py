"""Index expressions mean what Python's integers mean, however they were simplified."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from planner.ops import index
from planner.ops.index import Affine, Datum, FloorDiv, Mod, Var

VARS = (Var("a", 4), Var("b", 6), Var("c", 5))


def value_of(expression: Affine, at: Mapping[Var, int]) -> int:
    """Evaluates without simplifying anything."""
    total = expression.constant
    for atom, factor in expression.terms:
        if isinstance(atom, Var):
            total += factor * at[atom]
        elif isinstance(atom, FloorDiv):
            total += factor * (value_of(atom.value, at) // atom.divisor)
        else:
            assert isinstance(atom, Mod)
            total += factor * (value_of(atom.value, at) % atom.divisor)
    return total


class Pair:
    """An expression, and the same thing as plain Python over every point."""

    def __init__(self, built: Affine, plain: dict[tuple[int, ...], int]) -> None:
        self.built, self.plain = built, plain


POINTS = list(itertools.product(*(range(var.extent) for var in VARS)))


def leaf(position: int) -> Pair:
    return Pair(index.variable(VARS[position]), {point: point[position] for point in POINTS})


def combine(parts: tuple[Pair, Pair, int, int]) -> Pair:
    left, right, factor, shift = parts
    plain = {p: left.plain[p] + factor * right.plain[p] + shift for p in POINTS}
    return Pair(left.built + right.built * factor + shift, plain)


def divide(parts: tuple[Pair, int]) -> Pair:
    inner, divisor = parts
    return Pair(inner.built // divisor, {p: inner.plain[p] // divisor for p in POINTS})


def remainder(parts: tuple[Pair, int]) -> Pair:
    inner, divisor = parts
    return Pair(inner.built % divisor, {p: inner.plain[p] % divisor for p in POINTS})


DIVISORS = st.sampled_from((1, 2, 3, 4, 6, 8, 12))
EXPRESSIONS: st.SearchStrategy[Pair] = st.recursive(
    st.integers(0, 2).map(leaf),
    lambda inner: st.one_of(
        st.tuples(inner, inner, st.integers(-6, 6), st.integers(-7, 7)).map(combine),
        st.tuples(inner, DIVISORS).map(divide),
        st.tuples(inner, DIVISORS).map(remainder),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(EXPRESSIONS)
def test_simplifying_changes_no_value(pair: Pair) -> None:
    low, high = index.bounds(pair.built)
    for point in POINTS:
        found = value_of(pair.built, dict(zip(VARS, point, strict=True)))
        assert found == pair.plain[point], pair.built.text
        assert low <= found <= high, pair.built.text


@settings(max_examples=50, deadline=None)
@given(EXPRESSIONS, EXPRESSIONS)
def test_substituting_is_evaluating_later(outer: Pair, inner: Pair) -> None:
    low, high = index.bounds(inner.built)
    wide = Var("w", high - low + 1)
    moved = index.substitute(outer.built + index.variable(wide) // 2, {wide: inner.built - low})
    for point in POINTS:
        at = dict(zip(VARS, point, strict=True))
        expected = outer.plain[point] + (inner.plain[point] - low) // 2
        assert value_of(moved, at) == expected


def test_reshapes_that_undo_each_other_vanish() -> None:
    rows, columns = Var("r", 32), Var("c", 256)
    at = (index.variable(rows), index.variable(columns))
    split = index.unflatten(index.flatten(at, (32, 256)), (32, 4, 64))
    assert [v.text for v in split] == ["1*r<32", "1*(1*c<256)//64", "1*(1*c<256)%64"]
    assert index.unflatten(index.flatten(split, (32, 4, 64)), (32, 256)) == at


def test_a_transposed_split_is_found_again() -> None:
    head, size = Var("h", 4), Var("d", 64)
    joined = index.variable(head) * 64 + index.variable(size)
    assert joined // 64 == index.variable(head)
    assert joined % 64 == index.variable(size)
    assert (joined // 64) * 64 + joined % 64 == joined


def test_variables_with_one_value_are_that_value() -> None:
    assert index.variable(Var("x", 1)) == index.constant(0)


def test_terms_that_never_carry_do_not_keep_the_others_apart() -> None:
    row, column = (index.variable(Var(name, size)) for name, size in (("i", 1024), ("j", 512)))
    flat = row * 512 + column
    assert index.floordiv(flat, 512 * 64) == index.floordiv(row, 64)
    assert index.mod(flat, 512 * 64) == index.mod(row, 64) * 512 + column
    assert index.floordiv(flat + 512, 512 * 64) == index.floordiv(row + 1, 64)


def test_integers_from_data_keep_their_range() -> None:
    class Raw:
        text = "token"

        def substitute(self, binding: Mapping[Var, Affine]) -> Raw:
            return self

        def variables(self) -> frozenset[Var]:
            return frozenset({VARS[0]})

    found = index.datum(Raw(), 100)
    assert index.bounds(found * 3 + 1) == (1, 298)
    assert index.variables(found) == {VARS[0]}
    assert isinstance(found.terms[0][0], Datum)
