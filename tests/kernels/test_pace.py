"""What a launch should take: counts of a block by hand, and kernels that were measured."""

from __future__ import annotations

import json
import statistics

import numpy as np
import pytest

from benchmarks.fit_pace import LAUNCHES, samples_of
from benchmarks.small.graph import GraphWriter
from planner.fuse.schedule import plan_part
from planner.graph.semantics import program_of
from planner.kernels.estimate import H200, launch_us
from planner.kernels.pack import numbers_for
from planner.kernels.repeats import Repeats, _Walk, repeats
from planner.kernels.source import Part
from planner.kernels.stage import Config, Stage
from planner.ops.nest import Nest, Program

_ROWS, _DEPTH, _COLUMNS = 64, 128, 96
_MEASURED = ("mmoe", "voice-activity", "unet-denoiser", "minilm-32")
"""Of the families whose programs are lowered quickly."""


def activated(*, turned: bool = False) -> tuple[Program, str]:
    """|x| W and the name of the product; `turned`: x is stored as columns."""
    g = GraphWriter("activated", "float16")
    x = g.input("x", *((_DEPTH, _ROWS) if turned else (_ROWS, _DEPTH)))
    x = g.op("Transpose", x, perm=[1, 0]) if turned else x
    g.op("MatMul", g.op("Abs", x), g.weight(_DEPTH, _COLUMNS), to="y")
    g.output("y", _ROWS, _COLUMNS)
    return program_of(g.model()), "y"


def whole(program: Program, root: str, config: Config) -> Part:
    """Everything in one stage."""
    internal = frozenset(nest.name for nest in program.nests if nest.name != root)
    reads = (*program.inputs, *program.constants)
    return plan_part(program, Stage(root, internal, reads), config)


def counted(config: Config, *, turned: bool = False) -> Repeats:
    program, root = activated(turned=turned)
    return repeats(program, whole(program, root, config))


def test_an_operand_is_worked_on_by_every_block_of_columns() -> None:
    narrow, wide = counted(Config(16, 16, 128)), counted(Config(16, 32, 128))
    assert narrow.worked == wide.worked == 16 * _DEPTH
    assert narrow.gathered == wide.gathered == 16 * _DEPTH
    assert (narrow.multiplied, wide.multiplied) == (16 * 16 * _DEPTH, 16 * 32 * _DEPTH)
    assert narrow.chained == 1


def test_what_lies_apart_in_memory_brings_its_neighbours_along() -> None:
    assert counted(Config(16, 16, 128)).unasked_bytes(2) == 0
    turned = counted(Config(4, 16, 128), turned=True)
    assert turned.unasked_bytes(2) == 4 * _DEPTH * (16 / 4 - 1) * 2
    assert turned.unasked_bytes(4) == 4 * _DEPTH * (8 / 4 - 1) * 4
    assert Repeats(rows={1: 3}).unasked_bytes(4) == 3 * 28


def test_a_scalar_is_no_element_of_another_tensor() -> None:
    g = GraphWriter("scaled", "float16")
    x, one, other = g.input("x", _ROWS, _DEPTH), g.input("c_1", 1), g.input("c_10")
    scaled = g.op("Mul", g.op("Mul", x, one), other)
    g.op("MatMul", scaled, g.weight(_DEPTH, _COLUMNS), to="y")
    g.output("y", _ROWS, _COLUMNS)
    program = program_of(g.model())
    found = repeats(program, whole(program, "y", Config(16, 16, 128)))
    assert found.gathered == 16 * _DEPTH + 2


def test_ways_that_meet_again_are_gone_once(monkeypatch: pytest.MonkeyPatch) -> None:
    g, diamonds = GraphWriter("diamonds", "float16"), 8
    x = g.input("x", _ROWS, _DEPTH)
    for _ in range(diamonds):
        x = g.op("Add", g.op("Abs", x), g.op("Neg", x))
    g.op("MatMul", x, g.weight(_DEPTH, _COLUMNS), to="y")
    g.output("y", _ROWS, _COLUMNS)
    program = program_of(g.model())
    asked: list[str] = []
    depth = _Walk.depth

    def listening(walk: _Walk, nest: Nest) -> int:
        asked.append(nest.name)
        return depth(walk, nest)

    monkeypatch.setattr(_Walk, "depth", listening)
    assert repeats(program, whole(program, "y", Config(16, 16, 128))).chained == 1
    assert diamonds < len(asked) <= 4 * diamonds + 2, "an edge each, and the root"


def test_more_blocks_that_work_again_take_longer() -> None:
    program, root = activated()
    numbers = numbers_for(program, "float16")
    part = whole(program, root, Config(16, 16, 128))
    once = launch_us(program, [part], numbers)
    assert launch_us(program, [part] * 16, numbers) > once
    assert once > H200.link_us


def test_a_slower_clock_slows_everything_but_ratios_and_what_peaks_hold() -> None:
    half = H200.pace.slowed(2, 0.25)
    assert half.looped == H200.pace.looped
    assert half.worked_us == 2 * H200.pace.worked_us
    assert half.narrow_us_per_flop == H200.pace.narrow_us_per_flop
    assert half.sector_us == 4 * H200.pace.sector_us


@pytest.mark.parametrize("model", _MEASURED)
def test_measured_kernels_are_predicted(model: str) -> None:
    rows = [row for row in json.loads(LAUNCHES.read_text()) if row["model"] == model]
    errors = [abs(np.expm1(sample.error(H200.pace))) for sample in samples_of(rows)]
    assert statistics.median(errors) <= 0.4
    assert len(errors) >= 3
