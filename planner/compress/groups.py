"""Work in portions of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence


def groups_within(
    names: Sequence[str], size_bytes: Callable[[str], int], limit_size_bytes: int
) -> Iterator[list[str]]:
    """Consecutive names whose sizes sum to at most the limit (one name alone may exceed it)."""
    group: list[str] = []
    total = 0
    for name in names:
        size = size_bytes(name)
        if group and total + size > limit_size_bytes:
            yield group
            group, total = [], 0
        group.append(name)
        total += size
    if group:
        yield group
