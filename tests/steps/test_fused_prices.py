"""What launches are said to take: as compiled where their kernels were followed, else by shape."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from planner.fuse.build import draft
from planner.fuse.loops import saved_us, with_all_loops
from planner.graph.semantics import program_of
from planner.kernels.cache import KernelCache
from planner.kernels.estimate import H200, launch_us
from planner.kernels.ptx.trace import Trace
from planner.steps.fused.compiling import Compilers
from planner.steps.fused.prices import Prices, beyond, prices_of, size_of
from tests.fuse.test_roll import _model
from tests.kernels.run import needs_triton
from tests.ops import models

_SLOW = Trace(1, 1e6, 0.0, 1e6, 1e6, 0.0, 0.0)


@needs_triton
@pytest.mark.parametrize("architecture", [80, 90])
def test_compiled_kernels_are_followed_on_devices_that_were_measured(
    architecture: int, tmp_path: Path
) -> None:
    plan = draft(program_of(models.block()), "float16")
    compilers = Compilers(KernelCache(tmp_path), architecture)
    prices = prices_of({"b": plan}, compilers, H200)
    shapes = [launch_us(plan.program, parts, plan.numbers) for parts, _ in plan.launches]
    found = [prices.launch_us(plan, number) for number in range(len(shapes))]
    assert set(prices.traces) == (
        {item.name for item in plan.kernels} if architecture == 90 else set()
    )
    assert (found == shapes) is (architecture == 80)
    assert all(0.4 < us < 20 for us in found)


def test_without_a_compiler_prices_are_those_of_shapes() -> None:
    plan = draft(program_of(models.block()), "float16")
    prices = prices_of({"b": plan}, None, H200)
    parts, _ = plan.launches[0]
    assert prices.launch_us(plan, 0) == launch_us(plan.program, parts, plan.numbers)


def test_steps_of_loops_are_priced_by_shape() -> None:
    plan = with_all_loops(draft(program_of(_model("LSTM")), "float16"), H200)
    assert plan.loops
    prices = Prices(H200, {item.name: _SLOW for item in plan.kernels})
    for number, (parts, _) in enumerate(plan.launches):
        loop = next((one for one in plan.loops if one[0] <= number <= one[1]), None)
        said = prices.launch_us(plan, number)
        if loop is None:
            assert said > 500
        else:
            plain = launch_us(plan.program, parts, plan.numbers)
            assert said == pytest.approx(plain - saved_us(plan, loop[0], H200))


def test_tensors_have_the_size_that_they_are_stored_in() -> None:
    plan = draft(program_of(models.block()), "float16")
    name = plan.program.outputs[0]
    assert size_of(plan, name) in (
        2 * plan.program.types[name].size,
        4 * plan.program.types[name].size,
    )


def test_a_promise_that_compiled_kernels_would_break_is_told() -> None:
    buckets = cast(Any, [SimpleNamespace(predicted_us=us) for us in (120.0, 90.0)])
    assert beyond(None, buckets) == beyond(120.0, buckets) == ()
    (text,) = beyond(110.0, buckets)
    assert "120" in text
    assert "110" in text
