"""Integer index expressions in one canonical form, so that equal indices are equal values.

    Affine = constant + sum coefficient * atom
    atom   = Var | floor(Affine / c) | Affine mod c | Datum (an integer loaded from a tensor)

Simplified while they are built, by ranges: `(64 h + d) // 64 -> h` for `0 <= d < 64`, and
`64 (n // 64) + n mod 64 -> n`. Equality and hashing go by `text`, which holds everything.
Division rounds down, as in Python; divisors are positive.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Text(Protocol):
    """An expression inside a Datum: what `planner.ops.expr` defines, seen from below."""

    @property
    def text(self) -> str: ...

    def substitute(self, binding: Mapping[Var, Affine]) -> Text: ...

    def variables(self) -> frozenset[Var]: ...


@dataclass(frozen=True, slots=True)
class Var:
    """A loop variable with values 0 .. extent - 1."""

    name: str
    extent: int

    @property
    def text(self) -> str:
        """Name and extent."""
        return f"{self.name}<{self.extent}"


@dataclass(frozen=True, slots=True, eq=False)
class _ByText:
    """Equality and hash by text."""

    text: str = field(init=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByText) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


@dataclass(frozen=True, slots=True, eq=False)
class FloorDiv(_ByText):
    """floor(value / divisor)."""

    value: Affine
    divisor: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", f"({self.value.text})//{self.divisor}")


@dataclass(frozen=True, slots=True, eq=False)
class Mod(_ByText):
    """value - divisor * floor(value / divisor)."""

    value: Affine
    divisor: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", f"({self.value.text})%{self.divisor}")


@dataclass(frozen=True, slots=True, eq=False)
class Datum(_ByText):
    """An integer computed from data, with values 0 .. extent - 1 (the lowering sees to that)."""

    value: Text
    extent: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", f"[{self.value.text}]<{self.extent}")


Atom = Var | FloorDiv | Mod | Datum


@dataclass(frozen=True, slots=True, eq=False)
class Affine(_ByText):
    """constant + sum of coefficient * atom; build with the functions and operators below."""

    constant: int
    terms: tuple[tuple[Atom, int], ...]
    """Sorted by the text of the atom; no coefficient is zero."""

    def __post_init__(self) -> None:
        parts = [f"{factor}*{atom.text}" for atom, factor in self.terms]
        if self.constant or not parts:
            parts.append(str(self.constant))
        object.__setattr__(self, "text", "+".join(parts))

    def __add__(self, other: Affine | int) -> Affine:
        if isinstance(other, int):
            return Affine(self.constant + other, self.terms) if other else self
        return _sum(self.constant + other.constant, (*self.terms, *other.terms))

    def __sub__(self, other: Affine | int) -> Affine:
        return self + (-other if isinstance(other, int) else other * -1)

    def __mul__(self, factor: int) -> Affine:
        if factor == 0:
            return constant(0)
        terms = tuple((atom, coefficient * factor) for atom, coefficient in self.terms)
        return Affine(self.constant * factor, terms)

    def __floordiv__(self, divisor: int) -> Affine:
        return floordiv(self, divisor)

    def __mod__(self, divisor: int) -> Affine:
        return mod(self, divisor)

    @property
    def is_constant(self) -> bool:
        """Whether it names no variable."""
        return not self.terms


def constant(value: int) -> Affine:
    """The same everywhere."""
    return Affine(value, ())


def variable(var: Var) -> Affine:
    """A loop variable; one that has a single value is that value."""
    return Affine(0, ((var, 1),)) if var.extent > 1 else constant(0)


def datum(value: Text, extent: int) -> Affine:
    """An integer read from data, known to lie in 0 .. extent - 1."""
    return Affine(0, ((Datum(value, extent), 1),))


def bounds(value: Affine) -> tuple[int, int]:
    """Smallest and largest value it may take (exact where each atom occurs once)."""
    low = high = value.constant
    for atom, factor in value.terms:
        first, last = _atom_bounds(atom)
        low += min(factor * first, factor * last)
        high += max(factor * first, factor * last)
    return low, high


def _atom_bounds(atom: Atom) -> tuple[int, int]:
    if isinstance(atom, Var | Datum):
        return 0, atom.extent - 1
    if isinstance(atom, FloorDiv):
        low, high = bounds(atom.value)
        return low // atom.divisor, high // atom.divisor
    return 0, atom.divisor - 1


def floordiv(value: Affine, divisor: int) -> Affine:
    """floor(value / divisor), simplified. O(terms)."""
    if divisor == 1:
        return value
    whole, rest = _split(value, divisor)
    low, high = bounds(rest)
    if low // divisor == high // divisor:
        return whole + low // divisor
    rest, _, step = _coarse(rest, divisor)
    reduced = divisor // step
    inner = rest.terms[0] if len(rest.terms) == 1 and not rest.constant else None
    if inner is not None and inner[1] == 1 and isinstance(inner[0], FloorDiv):
        return whole + floordiv(inner[0].value, inner[0].divisor * reduced)
    if inner is not None and inner[1] == 1 and isinstance(inner[0], Mod):
        period = inner[0].divisor
        if period % reduced == 0:
            return whole + mod(floordiv(inner[0].value, reduced), period // reduced)
    if step > 1:
        return whole + floordiv(rest, reduced)
    return whole + Affine(0, ((FloorDiv(rest, divisor), 1),))


def mod(value: Affine, divisor: int) -> Affine:
    """value mod divisor, simplified. O(terms)."""
    if divisor == 1:
        return constant(0)
    _, rest = _split(value, divisor)
    low, high = bounds(rest)
    if low // divisor == high // divisor:
        return rest - divisor * (low // divisor)
    coarse, fine, step = _coarse(rest, divisor)
    if step > 1:
        return mod(coarse, divisor // step) * step + fine
    if len(rest.terms) == 1 and not rest.constant and rest.terms[0][1] == 1:
        atom = rest.terms[0][0]
        if isinstance(atom, Mod) and atom.divisor % divisor == 0:
            return mod(atom.value, divisor)
    return Affine(0, ((Mod(rest, divisor), 1),))


def _split(value: Affine, divisor: int) -> tuple[Affine, Affine]:
    """whole and rest with value = divisor * whole + rest; rest holds the smallest coefficients."""
    whole = [(atom, int(factor / divisor)) for atom, factor in value.terms]
    rest = [(atom, math.fmod(factor, divisor)) for atom, factor in value.terms]
    return (
        _sum(value.constant // divisor, [term for term in whole if term[1]]),
        _sum(value.constant % divisor, [(atom, int(part)) for atom, part in rest if part]),
    )


def _coarse(rest: Affine, divisor: int) -> tuple[Affine, Affine, int]:
    """(coarse, fine, step) with rest = step * coarse + fine, 0 <= fine < step, step | divisor.

    Fine terms never carry: `(512 i + j) // 32768 -> i // 64` for `j < 512`. The step is 1 where
    nothing divides the divisor and the other coefficients.
    """
    ascending = sorted(rest.terms, key=lambda term: abs(term[1]))
    for count in range(len(ascending)):
        step = math.gcd(divisor, *(factor for _, factor in ascending[count:]))
        small = set(ascending[:count])
        fine = Affine(rest.constant % step, tuple(term for term in rest.terms if term in small))
        low, high = bounds(fine)
        if step > 1 and low >= 0 and high < step:
            terms = tuple(
                (a, factor // step) for a, factor in rest.terms if (a, factor) not in small
            )
            return Affine(rest.constant // step, terms), fine, step
    return rest, constant(0), 1


def _sum(start: int, terms: Iterable[tuple[Atom, int]]) -> Affine:
    """Equal atoms merged, and `c k (x // c) + k (x mod c)` recombined to `k x`."""
    merged: dict[Atom, int] = {}
    for atom, factor in terms:
        merged[atom] = merged.get(atom, 0) + factor
    kept = {atom: factor for atom, factor in merged.items() if factor}
    for atom, factor in kept.items():
        if not isinstance(atom, Mod):
            continue
        quotient = floordiv(atom.value, atom.divisor)
        if len(quotient.terms) != 1 or quotient.constant or quotient.terms[0][1] != 1:
            continue
        partner = quotient.terms[0][0]
        if kept.get(partner) == factor * atom.divisor:
            others = [term for term in kept.items() if term[0] not in (atom, partner)]
            whole = atom.value * factor
            return _sum(start + whole.constant, (*others, *whole.terms))
    return Affine(start, tuple(sorted(kept.items(), key=lambda term: term[0].text)))


def substitute(value: Affine, binding: Mapping[Var, Affine]) -> Affine:
    """The expression with variables replaced, simplified again."""
    if not any(var in binding for var in variables(value)):
        return value
    result = constant(value.constant)
    for atom, factor in value.terms:
        result = result + _substitute_atom(atom, binding) * factor
    return result


def variables(value: Affine) -> frozenset[Var]:
    """Every variable it depends on, those inside data included."""
    found: set[Var] = set()
    for atom, _ in value.terms:
        if isinstance(atom, Var):
            found.add(atom)
        elif isinstance(atom, Datum):
            found |= atom.value.variables()
        else:
            found |= variables(atom.value)
    return frozenset(found)


def _substitute_atom(atom: Atom, binding: Mapping[Var, Affine]) -> Affine:
    if isinstance(atom, Var):
        return binding.get(atom) or variable(atom)
    if isinstance(atom, FloorDiv):
        return floordiv(substitute(atom.value, binding), atom.divisor)
    if isinstance(atom, Mod):
        return mod(substitute(atom.value, binding), atom.divisor)
    return datum(atom.value.substitute(binding), atom.extent)


def flatten(index: Iterable[Affine], shape: Iterable[int]) -> Affine:
    """Row-major position of an index in a tensor of this shape."""
    position = constant(0)
    for value, size in zip(index, shape, strict=True):
        position = position * size + value
    return position


def unflatten(position: Affine, shape: tuple[int, ...]) -> tuple[Affine, ...]:
    """The index of a row-major position; inverse of `flatten`."""
    index = []
    stride = math.prod(shape)
    for size in shape:
        stride //= max(size, 1)
        index.append(mod(floordiv(position, stride), size) if size > 1 else constant(0))
    return tuple(index)
