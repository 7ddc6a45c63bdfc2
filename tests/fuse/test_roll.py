"""Equal launches in a row as one loop: which ones, where their tensors lie, what they compute."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from planner.fuse.build import Draft, draft
from planner.fuse.loops import with_loops
from planner.fuse.roll import Run, loops_of, rolled_up, runs
from planner.fuse.saved import as_record, draft_of
from planner.graph.semantics import program_of
from planner.kernels.compile import compile_kernel
from planner.kernels.pack import arena, storage_dtype
from planner.kernels.rolled import rolled
from planner.kernels.source import Kernel, Parameter
from planner.ops import reference
from tests.kernels.run import needs_triton, nmse, run_interpreted

_STEPS, _INPUTS = 12, 16
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _model(
    kind: str,
    *,
    layers: int = 1,
    ways: int = 1,
    batch: int = 1,
    hidden: int = 16,
    steps: int = _STEPS,
) -> onnx.ModelProto:
    random = np.random.default_rng(3)
    nodes, weights, width, name = [], [], _INPUTS, "x"
    for layer in range(layers):
        shapes = {
            f"w{layer}": (ways, _GATES[kind] * hidden, width),
            f"r{layer}": (ways, _GATES[kind] * hidden, hidden),
            f"b{layer}": (ways, 2 * _GATES[kind] * hidden),
        }
        for weight, shape in shapes.items():
            value = random.standard_normal(shape).astype(np.float32) / hidden**0.5
            weights.append(numpy_helper.from_array(value, weight))
        extra: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
        direction = "bidirectional" if ways == 2 else "forward"
        nodes.append(
            helper.make_node(
                kind,
                [name, *shapes],
                [f"y{layer}"],
                hidden_size=hidden,
                direction=direction,
                **extra,
            )
        )
        nodes.append(helper.make_node("Transpose", [f"y{layer}"], [f"t{layer}"], perm=[0, 2, 1, 3]))
        wanted = np.array([steps, batch, ways * hidden])
        weights.append(numpy_helper.from_array(wanted, f"s{layer}"))
        name, width = f"o{layer}", ways * hidden
        nodes.append(helper.make_node("Reshape", [f"t{layer}", f"s{layer}"], [name]))
    graph = helper.make_graph(
        nodes,
        "steps",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (steps, batch, _INPUTS))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (steps, batch, width))],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


CASES = {
    "lstm": {"kind": "LSTM"},
    "gru": {"kind": "GRU"},
    "rnn": {"kind": "RNN"},
    "both ways": {"kind": "LSTM", "ways": 2},
    "a wave": {"kind": "LSTM", "layers": 3},
    "a wave of several sequences": {"kind": "GRU", "layers": 2, "batch": 3},
}


def _plan(case: str) -> Draft:
    plan = draft(program_of(_model(**CASES[case])), "float16")  # type: ignore[arg-type]
    return replace(plan, loops=tuple((run.first, run.last) for run in runs(plan)))


@pytest.mark.parametrize("case", CASES)
def test_steps_lie_where_the_loop_walks(case: str) -> None:
    plan = _plan(case)
    made = rolled_up(plan)
    offsets, _ = arena(made.program, made.kernels, made.numbers)
    found = list(runs(plan))
    assert found
    for run in found:
        first = plan.launches[run.first][1]
        for step in range(run.last - run.first + 1):
            item = plan.launches[run.first + step][1]
            for start, here in zip(first.parameters, item.parameters, strict=True):
                if here.tensor in plan.program.constants:
                    assert here == start
                    continue
                size_bytes = storage_dtype(plan.numbers.storage[here.tensor]).itemsize
                moved = (here.offset - start.offset) * size_bytes
                moved += offsets[here.tensor] - offsets[start.tensor]
                assert moved == step * run.moves.strides[start] * size_bytes


@pytest.mark.parametrize("case", CASES)
def test_nobody_reads_what_was_not_awaited(case: str) -> None:
    plan = _plan(case)
    for run in runs(plan):
        made: dict[str, tuple[int, int]] = {}
        for step in range(run.last - run.first + 1):
            for own, part in enumerate(plan.launches[run.first + step][0]):
                for name in part.stage.reads:
                    if name in made:
                        at, maker = made[name]
                        assert at < step
                        assert maker in run.moves.awaited[own]
                made.update(dict.fromkeys(part.stage.makes, (step, own)))


def _one_by_one(plan: Draft, run: Run, name: str, made: Draft) -> list[Kernel]:
    """The loop as launches of a single step each: what an interpreter can run."""
    moves = replace(run.moves, steps=1)
    single = rolled(made.program, plan.launches[run.first][0], made.numbers, moves, name)
    return [
        replace(single, strips=(), parameters=(*item.parameters, Parameter(name, 0)))
        for _, item in plan.launches[run.first : run.last + 1]
    ]


@needs_triton
@pytest.mark.parametrize("case", ["lstm", "both ways", "a wave of several sequences"])
def test_steps_compute_what_the_program_means(case: str) -> None:
    plan = _plan(case)
    made = rolled_up(plan)
    launches, at = [], 0
    by_first = {run.first: run for run in runs(plan)}
    for parts, item in made.launches:
        if item.steps == 1:
            launches.append((parts, item))
            at += 1
            continue
        run = by_first[at]
        name = item.parameters[-1].tensor
        launches += [((), one) for one in _one_by_one(plan, run, name, made)]
        at = run.last + 1
    random = np.random.default_rng(4)
    (name,) = plan.program.inputs
    feeds = {name: random.standard_normal(plan.program.types[name].shape).astype(np.float32)}
    found = run_interpreted(replace(made, launches=tuple(launches)), feeds)
    wanted = reference.run(plan.program, feeds)
    for output in plan.program.outputs:
        assert nmse(found[output], wanted[output]) < 1e-5


@needs_triton
def test_what_is_compiled_waits_and_keeps_its_weights() -> None:
    made = rolled_up(_plan("a wave"))
    (item,) = (item for item in made.kernels if item.steps > 1)
    compiled = compile_kernel(item, 90)
    assert compiled.resources.stack_size_bytes == 0
    assert not compiled.waits
    stages = len(re.findall(r"def stage_\d+", item.text))
    assert item.text.count("arrive(counters + mine)") == stages


def test_loops_are_told_by_edges() -> None:
    edges = ["first", "graph node", "loop", "loop", "dependent launch", "loop", "graph node"]
    assert loops_of(edges) == ((1, 3), (4, 5))
    assert loops_of([]) == ()


def test_two_loops_in_a_row_stay_apart() -> None:
    assert loops_of(["first", "loop", "graph node", "loop"]) == ((0, 1), (2, 3))


def test_a_step_of_little_work_stays_a_launch_and_large_weights_make_a_loop() -> None:
    small = replace(_plan("lstm"), loops=())
    assert with_loops(small).loops == ()
    large = draft(program_of(_model("LSTM", layers=2, batch=4, hidden=256)), "float16")
    assert with_loops(large).loops


def test_a_draft_keeps_its_loops() -> None:
    plan = _plan("rnn")
    again = draft_of(as_record(plan), plan.program, plan.numbers)
    assert again.loops == plan.loops
    assert [k.name for k in rolled_up(again).kernels] == [k.name for k in rolled_up(plan).kernels]
