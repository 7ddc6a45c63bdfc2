"""Which software and format say something of another: `software:kind/format`, closest first.

A library's encoders and decoders, and networks over images, are different code with different
kernels, so that another library's encoder tells more of an encoder than its own decoder does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from benchmarks.tables.software import BUILT_WITH, SIMILAR, pool_of

KIN_FORMATS = {
    "fp32": ("tf32", "fp16", "bf16"),
    "tf32": ("fp16", "bf16", "fp32"),
    "fp16": ("bf16", "tf32", "fp32"),
    "bf16": ("fp16", "tf32", "fp32"),
    "fp8": ("int8", "bf16", "fp16"),
    "int8": ("fp8", "fp16", "bf16"),
    "int8_wo": ("int4_wo", "bf16", "fp16"),
    "int4_wo": ("int8_wo", "bf16", "fp16"),
    "2:4": ("fp16", "bf16"),
    "2:4_int8": ("int8", "2:4", "fp16"),
}
"""Format -> formats whose factors serve, best first: never several mixed, for kernels of one format
may be predicted too long and those of another too short."""
KINDS = ("encoder", "decoder", "encoder-decoder", "images")
OFFLOAD = "offload"
"""In place of a format where weights stream: what streams add hides what formats do."""


def key_of(software: str, kind: str, format: str) -> str:
    """Of a curve or of rows."""
    return f"{software}:{kind}/{format}"


def closest(key: str, known: Collection[str]) -> Iterator[str]:
    """Of known keys those that say something of one, closest first: the same kind of model in this
    software, its other versions, what is built the same way, what runs models the same way; then
    other kinds in this software."""
    software, _, rest = key.partition(":")
    kind, _, format = rest.partition("/")
    names = {each.partition(":")[0] for each in known}
    formats = (format, *KIN_FORMATS.get(format, ()), OFFLOAD)
    pool = pool_of(software)
    others = [other for other in KINDS if other != kind]
    wanted = [(name, kind) for name in (*kin_of(software, names), *([pool] if pool else []))]
    wanted += [(name, other) for name in kin_of(software, names) for other in others]
    for name, each in wanted:
        yield from (k for form in formats if (k := key_of(name, each, form)) in known)


def pooled(key: str) -> str | None:
    """The key of all software that runs models the same way; None where streams hide that."""
    software, _, rest = key.partition(":")
    pool = pool_of(software)
    return None if pool is None or rest.endswith(f"/{OFFLOAD}") else f"{pool}:{rest}"


def kin_of(software: str, known: Collection[str]) -> list[str]:
    """Software that says something about this one, closest first: itself, its other versions, what
    is built the same way, what runs its engines."""
    found: list[str] = []
    within = BUILT_WITH.get(_version_of(software) or software, software)
    for name in (software, SIMILAR.get(software, software), within):
        same = [name] if name in known else []
        version = _version_of(name)
        others = [n for n in known if version and n != name and _version_of(n) == version]
        others.sort(key=lambda other: (abs(_number(other) - _number(name)), other))
        found += [other for other in (*same, *others) if other not in found]
    return found


def _version_of(software: str) -> str | None:
    """`tensorrt` of `tensorrt-8.6`; None of software without versions."""
    name, _, version = software.rpartition("-")
    return name if version[:1].isdigit() else None


def _number(software: str) -> float:
    """Of a version."""
    digits = re.match(r"\d+(?:\.\d+)?", software.rpartition("-")[2])
    return float(digits[0]) if digits else 0.0
