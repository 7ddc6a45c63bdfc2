"""Scalar expressions: what one element of a tensor is, given the loop variables.

    Load(t, index, guards, other)   t[index] where every guard holds, else `other`
    Apply(fn, args)                 one of `functions.FUNCTIONS`
    Cast(dtype, x), Const, Index(affine), Inside(guards)

Floating-point values are computed in float32 on the device and in float64 by the reference;
a Cast to a narrower type rounds. Equality and hashing go by `text`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.ops import index
from planner.ops.index import Affine, Var


@dataclass(frozen=True, slots=True, eq=False)
class Expr:
    """Base of all expressions."""

    text: str = field(init=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expr) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def substitute(self, binding: Mapping[Var, Affine]) -> Expr:
        """The expression with variables replaced."""
        return self

    def variables(self) -> frozenset[Var]:
        """Every variable it depends on."""
        return frozenset()

    def parts(self) -> tuple[Expr, ...]:
        """Expressions directly inside (those inside indices are in `Load.data`)."""
        return ()


@dataclass(frozen=True, slots=True, eq=False)
class Const(Expr):
    """A number, as the model has it."""

    value: float
    dtype: str
    """`float32`, `int64`, `bool`, ...: its kind decides the arithmetic."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", f"{self.value!r}:{self.dtype}")


@dataclass(frozen=True, slots=True)
class Bound:
    """low <= value < high."""

    value: Affine
    low: int
    high: int

    @property
    def text(self) -> str:
        """As a person writes it."""
        return f"{self.low}<={self.value.text}<{self.high}"

    @property
    def is_certain(self) -> bool:
        """Whether it holds for every value of the variables."""
        low, high = index.bounds(self.value)
        return self.low <= low and high < self.high

    @property
    def is_impossible(self) -> bool:
        """Whether it holds for no value of the variables."""
        low, high = index.bounds(self.value)
        return high < self.low or self.high <= low

    def substitute(self, binding: Mapping[Var, Affine]) -> Bound:
        """The guard with variables replaced."""
        return Bound(index.substitute(self.value, binding), self.low, self.high)


def needed(guards: tuple[Bound, ...]) -> tuple[Bound, ...]:
    """Guards that may fail, each once."""
    found = {guard.text: guard for guard in guards if not guard.is_certain}
    return tuple(found.values())


@dataclass(frozen=True, slots=True, eq=False)
class Load(Expr):
    """An element of a tensor; `other` where a guard fails."""

    tensor: str
    index: tuple[Affine, ...]
    guards: tuple[Bound, ...] = ()
    other: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "guards", needed(self.guards))
        where = "".join(f"|{guard.text}" for guard in self.guards)
        other = f"?{self.other!r}" if self.guards else ""
        inside = ",".join(value.text for value in self.index)
        object.__setattr__(self, "text", f"{self.tensor}[{inside}{where}{other}]")

    def substitute(self, binding: Mapping[Var, Affine]) -> Load:
        """The load at another index."""
        moved = tuple(index.substitute(value, binding) for value in self.index)
        guards = tuple(guard.substitute(binding) for guard in self.guards)
        return Load(self.tensor, moved, guards, self.other)

    def variables(self) -> frozenset[Var]:
        """Of index and guards."""
        values = (*self.index, *(guard.value for guard in self.guards))
        return frozenset().union(*(index.variables(value) for value in values))


@dataclass(frozen=True, slots=True, eq=False)
class Index(Expr):
    """The value of an index expression, as an integer."""

    value: Affine

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", f"index({self.value.text})")

    def substitute(self, binding: Mapping[Var, Affine]) -> Expr:
        """The index with variables replaced."""
        return Index(index.substitute(self.value, binding))

    def variables(self) -> frozenset[Var]:
        """Of the index."""
        return index.variables(self.value)


@dataclass(frozen=True, slots=True, eq=False)
class Inside(Expr):
    """Whether every guard holds (a truth value)."""

    guards: tuple[Bound, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "guards", needed(self.guards))
        object.__setattr__(self, "text", "&".join(g.text for g in self.guards) or "true")

    def substitute(self, binding: Mapping[Var, Affine]) -> Expr:
        """The guards with variables replaced."""
        return Inside(tuple(guard.substitute(binding) for guard in self.guards))

    def variables(self) -> frozenset[Var]:
        """Of all guards."""
        return frozenset().union(*(index.variables(guard.value) for guard in self.guards))


@dataclass(frozen=True, slots=True, eq=False)
class Apply(Expr):
    """A function of `planner.ops.functions` applied to values."""

    fn: str
    args: tuple[Expr, ...]

    def __post_init__(self) -> None:
        inside = ",".join(arg.text for arg in self.args)
        object.__setattr__(self, "text", f"{self.fn}({inside})")

    def substitute(self, binding: Mapping[Var, Affine]) -> Expr:
        """The arguments with variables replaced; choices that are certain are made."""
        return apply(self.fn, *(arg.substitute(binding) for arg in self.args))

    def variables(self) -> frozenset[Var]:
        """Of all arguments."""
        return frozenset().union(*(arg.variables() for arg in self.args))

    def parts(self) -> tuple[Expr, ...]:
        """The arguments."""
        return self.args


@dataclass(frozen=True, slots=True, eq=False)
class Cast(Expr):
    """A value rounded or truncated to another type."""

    dtype: str
    value: Expr

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", f"{self.dtype}({self.value.text})")

    def substitute(self, binding: Mapping[Var, Affine]) -> Expr:
        """The value with variables replaced."""
        return Cast(self.dtype, self.value.substitute(binding))

    def variables(self) -> frozenset[Var]:
        """Of the value."""
        return self.value.variables()

    def parts(self) -> tuple[Expr, ...]:
        """The value."""
        return (self.value,)


def apply(fn: str, *args: Expr) -> Expr:
    """`Apply`, except where the result is known: a choice that is certain, x * 1, x + 0."""
    if fn == "where" and isinstance(args[0], Inside):
        if not args[0].guards:
            return args[1]
        if any(guard.is_impossible for guard in args[0].guards):
            return args[2]
    if fn == "mul" and _is_number(args[1], 1.0):
        return args[0]
    if fn in ("add", "sub") and _is_number(args[1], 0.0):
        return args[0]
    return Apply(fn, args)


def _is_number(value: Expr, number: float) -> bool:
    return isinstance(value, Const) and value.value == number


def number(value: float, dtype: str = "float32") -> Const:
    """A constant; integers stay integers."""
    if dtype.startswith(("int", "uint")):
        return Const(int(value), dtype)
    return Const(float(value) if not math.isnan(value) else math.nan, dtype)


def loads(value: Expr) -> list[Load]:
    """Every load inside, those that compute indices included, left to right."""
    found: list[Load] = []
    if isinstance(value, Load):
        found.append(value)
        for position in (*value.index, *(guard.value for guard in value.guards)):
            found += _loads_of(position)
    if isinstance(value, Index):
        found += _loads_of(value.value)
    if isinstance(value, Inside):
        for guard in value.guards:
            found += _loads_of(guard.value)
    for part in value.parts():
        found += loads(part)
    return found


def _loads_of(position: Affine) -> list[Load]:
    found: list[Load] = []
    for atom, _ in position.terms:
        if isinstance(atom, index.Datum) and isinstance(atom.value, Expr):
            found += loads(atom.value)
        elif isinstance(atom, index.FloorDiv | index.Mod):
            found += _loads_of(atom.value)
    return found
