"""Shapes of inputs as people write them: `--shapes audio:1x16000,step:1`."""

from __future__ import annotations

import re
from typing import Any

from planner.errors import UsageError

_SHAPE = re.compile(r":[\dx\s]*$")
"""How a shape of an input ends."""


def workload_of(words: tuple[str, ...]) -> Any:
    """One entry of `workload` with all of them, as a constraints file has it.

    Raises:
        UsageError: one is no shape, or an input has two.
    """
    found: dict[str, list[int]] = {}
    for name, shape in (parse_shape(part) for word in words for part in _apart(word)):
        if found.setdefault(name, shape) != shape:
            raise UsageError(
                f"input {name!r} is given two shapes", fix="several of them: `workload:` in a file"
            )
    return [{"shapes": found}]


def parse_shape(text: str) -> tuple[str, list[int]]:
    """`audio:1x16000` -> ("audio", [1, 16000]); nothing after the colon is a scalar.

    Raises:
        UsageError: no colon, or a dimension that is not a whole number.
    """
    name, colon, shape = text.rpartition(":")
    dims = [part.strip() for part in shape.split("x")] if shape.strip() else []
    if not colon or not name or not all(part.isascii() and part.isdigit() for part in dims):
        raise UsageError(
            f"{text!r} is no shape", fix="write NAME:1x3x224x224, or NAME: for a scalar"
        )
    return name, [int(part) for part in dims]


def _apart(text: str) -> list[str]:
    """`x:1x4,state:2x1x8` -> both of them; a comma inside a name stays."""
    found: list[str] = []
    pending = ""
    for part in text.split(","):
        pending = f"{pending},{part}" if pending else part
        if _SHAPE.search(pending):
            found.append(pending.strip())
            pending = ""
    return [*found, pending] if pending or not found else found
