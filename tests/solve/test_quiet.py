"""Garbage collection leaves a problem alone while it is solved, and only then."""

from __future__ import annotations

import gc

import pytest

from planner.solve.quiet import frozen


class _Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_only_the_outermost_thaws_and_new_garbage_is_found() -> None:
    before = gc.get_freeze_count()
    with frozen():
        inside = gc.get_freeze_count()
        with frozen():
            pass
        assert before < gc.get_freeze_count() <= inside  # frozen objects may end, none joins
        _Cycle()
        assert gc.collect() > 0
    assert gc.get_freeze_count() == before == 0


def test_thaws_after_an_error() -> None:
    with pytest.raises(KeyboardInterrupt), frozen():
        raise KeyboardInterrupt
    assert gc.get_freeze_count() == 0
