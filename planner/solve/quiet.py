"""Garbage collection that passes over a problem: millions of objects that all stay.

Each full collection walks them (seconds of a hundred thousand operators' problem), and plans by
the thousand make it come again and again.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def frozen() -> Iterator[None]:
    """What exists now is not looked through for garbage inside; the outermost of nested calls
    counts."""
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
