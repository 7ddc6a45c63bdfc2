"""One process at a time measures on the GPU: whoever measures holds a file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_depth = 0
"""How often this process holds it: measuring may be nested."""


@contextmanager
def exclusive() -> Iterator[None]:
    """Holds the file named by INFOPT_GPU_LOCK, where set. Not for several threads."""
    global _depth
    path = os.environ.get("INFOPT_GPU_LOCK")
    if not path or _depth > 0:
        yield
        return
    with Path(path).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1
