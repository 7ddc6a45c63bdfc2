"""Weights asked for one launch ahead: by whom, for which, and found again from a record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.fuse.ahead import as_told, brought
from planner.fuse.build import Draft, draft
from planner.fuse.saved import as_record, draft_of
from planner.graph.semantics import program_of
from planner.kernels.compile import compile_kernel
from planner.kernels.estimate import H200
from planner.ops import reference
from tests.kernels.run import needs_triton, nmse, run_interpreted
from tests.ops import models

SMALL_CACHE = replace(H200, l2_size_bytes=1e4)
"""A device from whose L2 everything falls out."""


def plain() -> Draft:
    return draft(program_of(models.block(rows=64, width=256, hidden=1024)), "float16")


def test_what_stays_in_l2_is_not_asked_for() -> None:
    plan = plain()
    assert brought(plan) is plan


def test_each_launch_asks_for_the_weights_of_the_next() -> None:
    plan = plain()
    made = brought(plan, SMALL_CACHE)
    asked = [
        {p.tensor for p in new.parameters} - {p.tensor for p in old.parameters}
        for old, new in zip(plan.kernels, made.kernels, strict=True)
    ]
    assert any(asked)
    assert not asked[-1]
    for names, (parts, _) in zip(asked, plan.launches[1:], strict=False):
        inside = {n for part in parts for n in (part.stage.root, *part.stage.internal)}
        for name in names:
            assert name in plan.program.constants
            assert inside & set(plan.program.consumers[name])


def test_a_record_brings_back_the_same_kernels() -> None:
    for plan in (plain(), brought(plain(), SMALL_CACHE)):
        again = draft_of(as_record(plan), plan.program, plan.numbers)
        assert again.kernels == plan.kernels
        assert as_told(again, ["something else"] * len(again.kernels)) is again


def test_what_waits_still_waits() -> None:
    plan = plain()
    names = frozenset(item.name for item in plan.kernels)
    made = brought(replace(plan, waiting=names), SMALL_CACHE)
    assert {item.name for item in made.kernels} <= made.waiting


@needs_triton
def test_the_numbers_stay() -> None:
    plan = brought(plain(), SMALL_CACHE)
    feeds = {
        name: models.random(*plan.program.types[name].shape, seed=5) for name in plan.program.inputs
    }
    found, wanted = run_interpreted(plan, feeds), reference.run(plan.program, feeds)
    assert all(nmse(np.asarray(found[n]), wanted[n]) < 1e-5 for n in plan.program.outputs)


@needs_triton
@pytest.mark.parametrize("architecture", [80, 90])
def test_nothing_spills_and_nobody_waits_for_the_answer(architecture: int) -> None:
    before, after = plain(), brought(plain(), SMALL_CACHE)
    for old, new in zip(before.kernels, after.kernels, strict=True):
        made = compile_kernel(new, architecture)
        assert made.resources.stack_size_bytes == 0
        assert made.waits == (architecture >= 90)
        if new.name != old.name:
            assert new.text.index("bring(pid, q") < new.text.index("stage_0(pid, q")
