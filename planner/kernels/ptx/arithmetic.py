"""What PTX's instructions for whole numbers mean: (text with suffixes, operands) -> value.

Numbers of fewer than 64 bits are held without their sign (NVIDIA, "Parallel Thread Execution ISA").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_WIDTH = re.compile(r"^(?:[fsu]|bf?)(\d+)")

Value = Any
"""An int, an array of all threads, or None where it is not known."""


def bits_of(text: str) -> int:
    """Of an instruction's type; a predicate has one."""
    found = _WIDTH.match(text.rpartition(".")[2])
    return int(found[1]) if found else 1


def mask_of(bits: int) -> int:
    """All of so many bits; of 64 and more, as they are."""
    return (1 << bits) - 1 if bits < 64 else -1


def _signed(value: Value, bits: int) -> Value:
    if bits >= 64:
        return value
    half = 1 << (bits - 1)
    return ((value & mask_of(bits)) ^ half) - half


def _number(text: str, value: Value) -> Value:
    """The value as the instruction's type understands it."""
    bits = bits_of(text)
    is_signed = text.rpartition(".")[2].startswith("s")
    return _signed(value, bits) if is_signed else value & mask_of(bits)


def _whole(operation: Callable[[Value, Value], Value]) -> Callable[..., Value]:
    return lambda text, a, b: operation(a, b) & mask_of(bits_of(text))


def _product(text: str, a: Value, b: Value) -> Value:
    bits, first, second = bits_of(text), _number(text, a), _number(text, b)
    if ".wide" in text:
        return (first * second) & mask_of(2 * bits)
    if ".hi" not in text:
        return (first * second) & mask_of(bits)
    if bits > 32:
        return None
    if not text.endswith("u32"):
        return ((first * second) >> bits) & mask_of(bits)
    # Without a sign the product of two numbers of 32 bits passes the sign bit of 64.
    both = np.asarray(first, np.uint64) * np.asarray(second, np.uint64)
    return (both >> np.uint64(bits)).astype(np.int64) & mask_of(bits)


def _product_sum(text: str, a: Value, b: Value, c: Value) -> Value:
    bits = bits_of(text) * (2 if ".wide" in text else 1)
    product = _product(text, a, b)
    return None if product is None else (product + c) & mask_of(bits)


def _left(text: str, a: Value, b: Value) -> Value:
    bits = bits_of(text)
    moved = np.asarray(a) << np.minimum(b, bits - 1)
    return np.where(np.asarray(b) >= bits, 0, moved) & mask_of(bits)


def _right(text: str, a: Value, b: Value) -> Value:
    return (_number(text, a) >> np.minimum(b, 63)) & mask_of(bits_of(text))


def _extract(text: str, a: Value, start: Value, length: Value) -> Value:
    bits = bits_of(text)
    taken = ((a & mask_of(bits)) >> start) & ((1 << length) - 1)
    if not text.endswith(f"s{bits}") or np.ndim(length) or length == 0:
        return taken
    return _signed(taken, int(length)) & mask_of(bits)


def _insert(text: str, a: Value, b: Value, start: Value, length: Value) -> Value:
    mask = ((1 << length) - 1) << start
    return ((b & ~mask) | ((a << start) & mask)) & mask_of(bits_of(text))


def _compare(text: str, a: Value, b: Value, *more: Value) -> Value:
    parts = text.split(".")
    name = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}.get(parts[1], parts[1])
    found = np.asarray(_COMPARISONS[name](_number(text, a), _number(text, b))).astype(np.int64)
    if not more:
        return found
    return found & more[0] if parts[2] == "and" else found | more[0]


def _convert(text: str, a: Value) -> Value:
    to, source = text.split(".")[-2:]
    return _number(f".{source}", a) & mask_of(bits_of(f".{to}"))


def _divide(text: str, a: Value, b: Value) -> Value:
    first, second = _number(text, a), _number(text, b)
    quotient = np.abs(first) // np.maximum(np.abs(second), 1) * np.sign(first) * np.sign(second)
    return quotient & mask_of(bits_of(text))


def _remainder(text: str, a: Value, b: Value) -> Value:
    first, second = _number(text, a), _number(text, b)
    return (first - _divide(text, first, second) * second) & mask_of(bits_of(text))


def _permute(text: str, a: Value, b: Value, chosen: Value) -> Value:
    """Bytes of two registers of 32 bits, picked by four digits of 4 bits."""
    if np.ndim(chosen):
        return None
    both = (a & mask_of(32)) | ((b & mask_of(32)) << 32)
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
RULES: Mapping[str, Callable[..., Value]] = {
    "mov": lambda text, a: a,
    "add": _whole(lambda a, b: a + b),
    "sub": _whole(lambda a, b: a - b),
    "and": _whole(lambda a, b: a & b),
    "or": _whole(lambda a, b: a | b),
    "xor": _whole(lambda a, b: a ^ b),
    "not": lambda text, a: ~a & mask_of(bits_of(text)),
    "neg": lambda text, a: -a & mask_of(bits_of(text)),
    "abs": lambda text, a: np.abs(_number(text, a)) & mask_of(bits_of(text)),
    "min": lambda text, a, b: (
        np.minimum(_number(text, a), _number(text, b)) & mask_of(bits_of(text))
    ),
    "max": lambda text, a, b: (
        np.maximum(_number(text, a), _number(text, b)) & mask_of(bits_of(text))
    ),
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
