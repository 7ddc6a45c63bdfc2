"""Whole numbers that the threads of a block hold: what addresses and branches are made of.

Every thread at once, as NumPy arrays of 64 bits; a number of fewer bits is held without its sign.
Floating-point values are not computed: no address depends on them. What is loaded is random, for
tables are looked up anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from planner.kernels.ptx import Instruction, Kind, Routine

_WIDTH = re.compile(r"^(?:[fsu]|bf?)(\d+)")
_REGISTER = re.compile(r"%[a-z]+\d+")
_PARAMETER = re.compile(r"_param_(\d+)")
_BETWEEN_PARAMETERS = 36
"""Bits: tensors lie 64 GiB apart, so that none shares a sector with another."""
_COMPUTED = frozenset({Kind.INTEGER, Kind.MULTIPLICATION, Kind.MOVE})
_FROM_OUTSIDE = frozenset({Kind.LOAD, Kind.SHARED_LOAD, Kind.SHUFFLE})

Value = Any
"""An int, an array of all threads, or None where it is not known."""


def addressing(routine: Routine) -> frozenset[str]:
    """Registers that an address, a guard of memory, or a branch depends on; O(code x depth)."""
    needed: set[str] = set()
    for one in routine.code:
        if one.address is not None:
            needed.update(name for name in (one.address[0], one.guard) if name)
        if one.kind is Kind.COPY:
            needed.update(_REGISTER.findall(" ".join(one.operands[3:])))
        if one.kind in (Kind.BRANCH, Kind.RETURN) and one.guard:
            needed.add(one.guard)
    size = -1
    while size != len(needed):
        size = len(needed)
        for one in routine.code:
            if needed.intersection(one.writes):
                needed.update(one.reads)
                needed.update((one.guard,) if one.guard else ())
    return frozenset(needed)


class Values:
    """Registers of one block."""

    def __init__(self, threads: int, block: int) -> None:
        """Nothing has run yet.

        Args:
            block: its number in the grid.
        """
        self._threads = threads
        own = np.arange(threads, dtype=np.int64)
        self._held: dict[str, Value] = {"%tid.x": own, "%laneid": own % 32, "%ctaid.x": block}
        self._random = np.random.default_rng(block)

    def get(self, operand: str) -> Value:
        """What a register or a constant is."""
        if operand.startswith("%"):
            return self._held.get(operand)
        if (parameter := _PARAMETER.search(operand)) is not None:
            return int(parameter[1])
        try:
            return int(operand.rstrip("U"), 0)
        except ValueError:
            return 0 if "global_smem" in operand else None

    def where(self, guard: str, *, is_negated: bool) -> np.ndarray[Any, Any] | None:
        """Which threads a predicate lets through; None where that is not known."""
        value = self._held.get(guard)
        if value is None:
            return None
        return np.broadcast_to((np.asarray(value) != 0) ^ is_negated, (self._threads,))

    def run(self, one: Instruction) -> None:
        """Gives an instruction's results."""
        if one.kind in _FROM_OUTSIDE:
            drawn = self._random.integers(0, 1 << 31, (len(one.writes), self._threads))
            self._held.update(zip(one.writes, drawn, strict=True))
        elif one.text.startswith("ld.param"):
            self._held[one.writes[0]] = self._parameter(one)
        elif one.text.startswith("mov") and "{" in "".join(one.operands):
            self._repack(one)
        elif one.writes:
            self._set(one, self._computed(one))

    def _parameter(self, one: Instruction) -> Value:
        place = one.operands[1].strip("[] ")
        number = self.get(place)
        return None if number is None else (number + 1) << _BETWEEN_PARAMETERS

    def _set(self, one: Instruction, value: Value) -> None:
        name = one.writes[0]
        before = self._held.get(name)
        if one.guard is not None and value is not None and before is not None:
            let_through = self.where(one.guard, is_negated=one.is_negated)
            value = None if let_through is None else np.where(let_through, value, before)
        self._held[name] = value

    def _repack(self, one: Instruction) -> None:
        """Several registers as one, or the other way round."""
        target, source = one.operands
        whole_bits = _bits(one.text)
        if not target.startswith("{"):
            names = [part.strip() for part in source.strip("{} ").split(",")]
            parts = [self.get(name) for name in names]
            each = whole_bits // len(names)
            is_known = all(part is not None for part in parts)
            pieces = [
                (part & _mask(each)) << (each * n) for n, part in enumerate(parts) if is_known
            ]
            self._held[target] = sum(pieces) if is_known else None
            return
        names = [part.strip() for part in target.strip("{} ").split(",")]
        whole, each = self.get(source), whole_bits // len(names)
        for number, name in enumerate(names):
            self._held[name] = None if whole is None else (whole >> (each * number)) & _mask(each)

    def _computed(self, one: Instruction) -> Value:
        rule = _RULES.get(one.head) if one.kind in _COMPUTED else None
        given = [self.get(operand) for operand in one.sources]
        if rule is None or any(value is None for value in given):
            return None
        return rule(one.text, *given)


def _bits(text: str) -> int:
    """Of an instruction's type; a predicate has one."""
    found = _WIDTH.match(text.rpartition(".")[2])
    return int(found[1]) if found else 1


def _mask(bits: int) -> int:
    return (1 << bits) - 1 if bits < 64 else -1


def _signed(value: Value, bits: int) -> Value:
    if bits >= 64:
        return value
    half = 1 << (bits - 1)
    return ((value & _mask(bits)) ^ half) - half


def _number(text: str, value: Value) -> Value:
    """The value as the instruction's type understands it."""
    bits = _bits(text)
    is_signed = text.rpartition(".")[2].startswith("s")
    return _signed(value, bits) if is_signed else value & _mask(bits)


def _whole(operation: Callable[[Value, Value], Value]) -> Callable[..., Value]:
    return lambda text, a, b: operation(a, b) & _mask(_bits(text))


def _product(text: str, a: Value, b: Value) -> Value:
    bits, first, second = _bits(text), _number(text, a), _number(text, b)
    if ".wide" in text:
        return (first * second) & _mask(2 * bits)
    if ".hi" not in text:
        return (first * second) & _mask(bits)
    if bits > 32:
        return None
    if not text.endswith("u32"):
        return ((first * second) >> bits) & _mask(bits)
    # Without a sign the product of two numbers of 32 bits passes the sign bit of 64.
    both = np.asarray(first, np.uint64) * np.asarray(second, np.uint64)
    return (both >> np.uint64(bits)).astype(np.int64) & _mask(bits)


def _product_sum(text: str, a: Value, b: Value, c: Value) -> Value:
    bits = _bits(text) * (2 if ".wide" in text else 1)
    product = _product(text, a, b)
    return None if product is None else (product + c) & _mask(bits)


def _left(text: str, a: Value, b: Value) -> Value:
    bits = _bits(text)
    moved = np.asarray(a) << np.minimum(b, bits - 1)
    return np.where(np.asarray(b) >= bits, 0, moved) & _mask(bits)


def _right(text: str, a: Value, b: Value) -> Value:
    return (_number(text, a) >> np.minimum(b, 63)) & _mask(_bits(text))


def _extract(text: str, a: Value, start: Value, length: Value) -> Value:
    bits = _bits(text)
    taken = ((a & _mask(bits)) >> start) & ((1 << length) - 1)
    if not text.endswith(f"s{bits}") or np.ndim(length) or length == 0:
        return taken
    return _signed(taken, int(length)) & _mask(bits)


def _insert(text: str, a: Value, b: Value, start: Value, length: Value) -> Value:
    mask = ((1 << length) - 1) << start
    return ((b & ~mask) | ((a << start) & mask)) & _mask(_bits(text))


def _compare(text: str, a: Value, b: Value, *more: Value) -> Value:
    parts = text.split(".")
    name = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}.get(parts[1], parts[1])
    found = np.asarray(_COMPARISONS[name](_number(text, a), _number(text, b))).astype(np.int64)
    if not more:
        return found
    return found & more[0] if parts[2] == "and" else found | more[0]


def _convert(text: str, a: Value) -> Value:
    to, source = text.split(".")[-2:]
    return _number(f".{source}", a) & _mask(_bits(f".{to}"))


def _divide(text: str, a: Value, b: Value) -> Value:
    first, second = _number(text, a), _number(text, b)
    quotient = np.abs(first) // np.maximum(np.abs(second), 1) * np.sign(first) * np.sign(second)
    return quotient & _mask(_bits(text))


def _remainder(text: str, a: Value, b: Value) -> Value:
    first, second = _number(text, a), _number(text, b)
    return (first - _divide(text, first, second) * second) & _mask(_bits(text))


def _permute(text: str, a: Value, b: Value, chosen: Value) -> Value:
    """Bytes of two registers of 32 bits, picked by four digits of 4 bits."""
    if np.ndim(chosen):
        return None
    both = (a & _mask(32)) | ((b & _mask(32)) << 32)
    digits = [(chosen >> (4 * place)) & 7 for place in range(4)]
    return sum(((both >> (8 * digit)) & 255) << (8 * place) for place, digit in enumerate(digits))


_COMPARISONS: Mapping[str, Callable[[Value, Value], Value]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
_RULES: Mapping[str, Callable[..., Value]] = {
    "mov": lambda text, a: a,
    "add": _whole(lambda a, b: a + b),
    "sub": _whole(lambda a, b: a - b),
    "and": _whole(lambda a, b: a & b),
    "or": _whole(lambda a, b: a | b),
    "xor": _whole(lambda a, b: a ^ b),
    "not": lambda text, a: ~a & _mask(_bits(text)),
    "neg": lambda text, a: -a & _mask(_bits(text)),
    "abs": lambda text, a: np.abs(_number(text, a)) & _mask(_bits(text)),
    "min": lambda text, a, b: np.minimum(_number(text, a), _number(text, b)) & _mask(_bits(text)),
    "max": lambda text, a, b: np.maximum(_number(text, a), _number(text, b)) & _mask(_bits(text)),
    "mul": _product,
    "mad": _product_sum,
    "shl": _left,
    "shr": _right,
    "bfe": _extract,
    "bfi": _insert,
    "setp": _compare,
    "selp": lambda text, a, b, chosen: np.where(np.asarray(chosen) != 0, a, b),
    "cvt": _convert,
    "div": _divide,
    "rem": _remainder,
    "prmt": _permute,
}
