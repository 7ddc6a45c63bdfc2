"""Places of a rank's tensors: what is alive at once never shares memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.runtime.ranks.board import HostBoard
from planner.runtime.ranks.layout import kinds_of, placed
from planner.runtime.ranks.program import Compute, Program, Receive, Send
from tests.runtime import build


def segments_of(draw: Any) -> Program:
    """A chain of parts, messages and arrivals with random readers."""
    names = ["x"]
    steps: list[Any] = []
    for n in range(draw(st.integers(1, 8))):
        name = f"t{n}"
        if draw(st.booleans()):
            readers = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
            steps.append(Compute(build.segment(tuple(readers), (name,)), "file"))
        else:
            steps.append(Receive(name, 1))
        names.append(name)
        if draw(st.booleans()):
            steps.append(Send(draw(st.sampled_from(names)), 1))
    return with_deaths(("x",), steps, (names[-1],))


def with_deaths(feeds: Sequence[str], steps: Sequence[Any], returns: Sequence[str]) -> Program:
    """As `programs` says who dies where."""
    later = set(returns)
    found = []
    for step in reversed(steps):
        touched = {*step.reads, *step.makes}
        found.append(replace(step, dead=tuple(sorted(touched - later))))
        later |= set(step.reads)
    return Program(tuple(feeds), tuple(reversed(found)), tuple(returns))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_alive_at_once_never_shares_memory(data: st.DataObject) -> None:
    program = segments_of(data.draw)
    names = {name for step in program.steps for name in (*step.reads, *step.makes)} | {"x"}
    sizes = {name: data.draw(st.integers(0, 40)) for name in sorted(names)}
    kinds = {name: (np.dtype(np.float32), (size,)) for name, size in sizes.items()}
    board = HostBoard()
    first, *places, last = placed(program, kinds, board)
    ranges: dict[str, tuple[int, int]] = {}
    alive: set[str] = set(program.feeds)
    for at, step in zip([first, *places], [None, *program.steps], strict=True):
        for name, place in at.items():
            span = (place.address, place.address + place.size_bytes)
            assert ranges.setdefault(name, span) == span  # it never moves
        if step is None:
            continue
        alive |= {*step.reads, *step.makes}
        for one, other in itertools.combinations(sorted(alive), 2):
            (a, b), (c, d) = ranges[one], ranges[other]
            assert b <= c or d <= a, (one, other)
        alive -= set(step.dead)
    assert set(last) == set(program.returns)


def test_open_shapes_have_no_layout() -> None:
    step = Compute(build.segment(("x",), ("y",)), "file")
    program = with_deaths(("x",), [step], ("y",))
    fixed, open_ = build.spec("x", shape=(2, 3)), build.spec("y", shape=(None, 3))
    assert kinds_of(program, [fixed, open_]) is None
    assert kinds_of(program, [fixed, build.spec("y", "string", (2, 3))]) is None
    assert set(kinds_of(program, [fixed, build.spec("y", shape=(2, 3))]) or ()) == {"x", "y"}
