"""The rule-based grouping: what becomes one stage, and what a stack of recurrent layers becomes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from benchmarks.small import ranking, sequence, speech
from planner.fuse.build import Draft, draft
from planner.fuse.candidates import explore
from planner.fuse.chains import MAX_BEHIND
from planner.fuse.greedy import group
from planner.fuse.schedule import levels
from planner.graph.semantics import program_of
from planner.kernels.configs import candidates, default_config
from planner.kernels.estimate import H200, Floor, contractions_in_a_row, estimate, floor
from planner.kernels.tiling import shape_of
from planner.ops.nest import Program
from tests.ops import models


def check_stages(program: Program) -> None:
    """Every output is made once, and what a stage reads was made by an earlier one."""
    stages = group(program)
    there = {*program.inputs, *program.constants}
    for stage in stages:
        assert set(stage.reads) <= there, stage.root
        assert not there & set(stage.makes)
        there |= set(stage.makes)
    assert set(program.outputs) <= there
    needed = {nest.name for nest in program.nests}
    inside = {name for stage in stages for name in (stage.root, *stage.internal)}
    assert needed == inside


@pytest.mark.parametrize("build", [models.block, models.attention, models.convolutions])
def test_stages_make_everything_in_order(build: object) -> None:
    assert callable(build)
    check_stages(program_of(build()))


def test_a_chain_of_hundreds_is_cut_where_it_would_be_too_deep_to_walk() -> None:
    kinds, count = ("Sin", "Tanh", "Abs"), 600
    names = ["x", *(f"t{number}" for number in range(count))]
    nodes = [
        helper.make_node(kinds[number % 3], [names[number]], [names[number + 1]])
        for number in range(count)
    ]
    program = program_of(models.model(nodes, {"x": (1, 16)}, {names[-1]: (1, 16)}, {}))
    check_stages(program)
    assert max(len(stage.internal) for stage in group(program)) < MAX_BEHIND
    assert len(draft(program, "float32").kernels) == -(-count // MAX_BEHIND)
    stages = [stage for one in explore(program).candidates for stage in one.stages]
    assert max(len(stage.internal) for stage in stages) < MAX_BEHIND


def test_attention_is_one_stage() -> None:
    stages = group(program_of(models.attention(rows=64)))
    assert len(stages) == 2
    assert {"scores", "p", "o"} <= stages[1].internal


def test_normalisations_are_repeated_where_they_are_read() -> None:
    """x -> norm -> two products: no stage of its own for the norm, no copy in memory."""
    node = helper.make_node
    nodes = [
        node("LayerNormalization", ["x", "g", "b"], ["n"]),
        node("MatMul", ["n", "w"], ["left"]),
        node("MatMul", ["n", "v"], ["right"]),
    ]
    weights = {"g": models.random(64), "b": models.random(64)}
    weights |= {"w": models.random(64, 256), "v": models.random(64, 256, seed=1)}
    outputs = {"left": (20, 256), "right": (20, 256)}
    program = program_of(models.model(nodes, {"x": (20, 64)}, outputs, weights))
    stages = group(program)
    assert [stage.root for stage in stages] == ["left", "right"]
    assert all("n" in stage.internal for stage in stages)
    assert len(draft(program, "float16").kernels) == 1


def test_a_convolution_is_not_computed_again_for_every_tap() -> None:
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("Conv", ["r", "v"], ["y"], pads=[1, 1, 1, 1]),
    ]
    weights = {"w": models.random(8, 3, 3, 3), "v": models.random(4, 8, 3, 3)}
    program = program_of(models.model(nodes, {"x": (1, 3, 10, 10)}, {"y": (1, 4, 10, 10)}, weights))
    assert [stage.root for stage in group(program)] == ["r", "y"]


def test_a_streaming_conformer_layer_is_twelve_launches() -> None:
    plan = draft(program_of(speech.conformer_chunk(layers=1)), "float16")
    check_stages(plan.program)
    assert len(plan.kernels) <= 12
    two = draft(program_of(speech.conformer_chunk(layers=2)), "float16")
    assert len(two.kernels) - len(plan.kernels) <= 12
    three = draft(program_of(speech.conformer_chunk(layers=3)), "float16")
    distinct = [len({item.name for item in p.kernels}) for p in (two, three)]
    assert distinct[0] == distinct[1], "deeper models need no more kernels"
    assert contractions_in_a_row(two.program) == 2 * contractions_in_a_row(plan.program)


def test_recurrent_layers_run_as_a_wave() -> None:
    layers, steps = 4, 12
    program = program_of(sequence.lstm_stack("float32", layers=layers, steps=steps, width=32))
    check_stages(program)
    plan = draft(program, "float32")
    assert len(plan.kernels) == layers + steps - 1
    assert len({item.name for item in plan.kernels}) <= 3 * layers
    cells = [stage for stage in plan.stages if stage.also]
    assert len(cells) >= layers * (steps - 1) - 1, "the first step has no product of its own"
    assert [nest.name for nest in program.nests if "/xs" in nest.name], "one product of all inputs"


def test_narrow_layers_over_many_points_are_one_kernel() -> None:
    plan = draft(program_of(ranking.nerf("float32", points=256)), "float16")
    assert len(plan.stages) == 1


def test_products_of_vectors_are_not_chained() -> None:
    """Every block would compute the first product again for its few columns of the second."""
    node = helper.make_node
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("MatMul", ["h", "v"], ["y"])]
    weights = {"w": models.random(128, 128), "v": models.random(128, 32)}
    program = program_of(models.model(nodes, {"x": (1, 128)}, {"y": (1, 32)}, weights))
    assert [stage.root for stage in group(program)] == ["h", "y"]


def test_a_pooled_image_is_not_pooled_again_by_every_column() -> None:
    node = helper.make_node
    nodes = [
        node("GlobalAveragePool", ["x"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("MatMul", ["f", "w"], ["y"]),
    ]
    weights = {"w": models.random(16, 10)}
    program = program_of(models.model(nodes, {"x": (1, 16, 9, 9)}, {"y": (1, 10)}, weights))
    assert len(group(program)) == 2


def test_experts_run_side_by_side() -> None:
    plan = draft(program_of(ranking.mmoe("float32")), "float32")
    assert len(plan.kernels) <= 6
    level = levels(plan.stages)
    assert sum(value == 0 for value in level.values()) >= 16


def test_every_candidate_covers_the_root() -> None:
    plan = draft(program_of(models.convolutions()), "float32")
    for stage in plan.stages:
        shape = shape_of(plan.program, stage)
        listed = candidates(shape)
        assert listed[0] == default_config(shape)
        assert len(set(listed)) == len(listed)


def test_the_floor_counts_what_a_product_does_and_what_of_a_table_is_read() -> None:
    def least(rows: int) -> Floor:
        nodes = [
            helper.make_node("Cast", ["x"], ["ids"], to=onnx.TensorProto.INT64),
            helper.make_node("Gather", ["table", "ids"], ["e"]),
            helper.make_node("MatMul", ["e", "w"], ["y"]),
        ]
        weights = {"table": models.random(rows, 64), "w": models.random(64, 32)}
        made = models.model(nodes, {"x": (8,)}, {"y": (8, 32)}, weights)
        plan = draft(program_of(made), "float32")
        return floor(plan.program, plan.numbers)

    one, other = least(500), least(5000)
    assert one == other, "eight rows are read of any table"
    operations = 2 * 8 * 64 * 32
    assert one.compute_us * 2 * H200.flops_per_us["float32"] == pytest.approx(operations, rel=0.1)
    read = 4 * (8 * 64 + 64 * 32)
    assert one.memory_us * H200.l2_bytes_per_us == pytest.approx(read)


def test_the_prediction_is_above_the_floor() -> None:
    plan: Draft = draft(program_of(speech.conformer_chunk(layers=1)), "float16")
    found = estimate(plan.program, [parts for parts, _ in plan.launches], plan.numbers)
    assert 0 < found.floor_us < found.predicted_us
    assert found.launches == len(plan.kernels)
    assert found.flops > 2 * 32 * 256 * 1024 * 4 * 0.5


def test_a_prefix_sum_of_indices_is_no_weight() -> None:
    """An index computed from an input is data: it is read after the wait, and clamped."""
    node = helper.make_node
    nodes = [
        node("Cast", ["x"], ["i"], to=onnx.TensorProto.INT64),
        node("Gather", ["table", "i"], ["y"], axis=0),
    ]
    made = models.model(
        nodes, {"x": (5,)}, {"y": (5, 8)}, {"table": np.asarray(models.random(50, 8))}
    )
    text = draft(program_of(made), "float32").kernels[0].text
    before, after = text.split("gdc_wait()")[-2:]
    assert "tl.minimum(tl.maximum(" in after
    assert "tl.minimum(tl.maximum(" not in before
