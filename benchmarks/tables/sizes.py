"""Sizes of messages and tensors as rows state them: bytes, or a number with its unit."""

from __future__ import annotations

import re

_NUMBER = r"(?<![\d.,])(\d+)(?![\d.,]*\d|[a-z^]|\s*[kmgt]i?b\b)"
"""A whole number by itself: no part of 1,000 or 1.5, and none whose unit follows."""
_PATTERNS = (
    rf"\bsize(?:_bytes)?={_NUMBER}()",
    r"=\s*(\d+)\s*()bytes",
    rf"\bbytes={_NUMBER}()",
    r"(?<![\d.,])(\d+)\s*()bytes",
    r"\b(?:message_)?(?:size|size_bytes|bytes)=(\d+(?:\.\d+)?)\s*([kmgt]i?b)\b",
)
_UNITS = {"": 1.0} | {
    f"{prefix}{middle}b": (1024.0 if middle else 1000.0) ** power
    for power, prefix in enumerate("kmgt", start=1)
    for middle in ("", "i")
}
_UNITS |= {prefix: 1024.0**power for power, prefix in enumerate("kmg", start=1)}
_NAMED = re.compile(r"(?<![\d.,a-z])(\d+(?:\.\d+)?)\s*([kmgt]i?b|b|bytes)(?![a-z\d])")
_OF_PERF = re.compile(r"(?<![\d.,a-z])(\d+)([kmg])(?![a-z\d])")
_ELEMENTS = re.compile(rf"\b(?:elements|numel)={_NUMBER}")
_WHOLE = re.compile(r"\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?e\+?\d{1,2}|\d+\.0+")
"""A whole number as spreadsheets write it: `1,048,576`, `1e6`, `4096.0`."""


def whole(text: str) -> str:
    """A whole number in digits; any other text as it is."""
    if _WHOLE.fullmatch(text.strip().lower()) is None:
        return text
    value = float(text.replace(",", ""))
    return str(int(value)) if value.is_integer() else text


def stated_bytes(text: str) -> float | None:
    """Bytes that a text states, or None."""
    for pattern in _PATTERNS:
        found = re.search(pattern, text.lower())
        if found:
            return float(found[1]) * _UNITS[found[2]]
    return None


def named_bytes(name: str) -> float | None:
    """Bytes that the name of a kernel ends with or holds, with their unit (`all_reduce 16MB`), or
    as nccl-tests take them (`all_reduce_perf 8M`); None where it states none, or several."""
    text = name.lower()
    found = _NAMED.findall(text) or (_OF_PERF.findall(text) if "perf" in text else [])
    if len(found) != 1:
        return None
    number, unit = found[0]
    return float(number) * (1.0 if unit in ("b", "bytes") else _UNITS[unit])


def stated_elements(text: str) -> int | None:
    """Elements that a text states, or None."""
    found = _ELEMENTS.search(text.lower())
    return int(found[1]) if found else None
