"""The choice of groups: candidates make what they say, the solver finds the best, anything runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

from planner.fuse.build import Draft, drafted
from planner.fuse.candidates import Space, closure, explore
from planner.fuse.groups import Bucket, Form, Groups, pose
from planner.fuse.schedule import schedule
from planner.graph.semantics import program_of
from planner.ir.problem import Latency, Limits, Objective, Option, Problem
from planner.ir.solution import Status
from planner.kernels.estimate import H200, estimate
from planner.kernels.pack import numbers_for
from planner.ops import reference
from planner.ops.nest import Program
from planner.solve.solve import solve
from tests.kernels.run import needs_triton, nmse, run_interpreted
from tests.ops import models

ALL: tuple[Callable[[], onnx.ModelProto], ...] = (
    models.block,
    models.attention,
    models.convolutions,
)


def beside() -> onnx.ModelProto:
    """Three products side by side, which together are more blocks than a device holds at once."""
    rows, width = 128, 768
    nodes = [helper.make_node("Gemm", ["x", f"w{i}"], [f"y{i}"]) for i in range(3)]
    weights = {f"w{i}": models.random(width, width, seed=i, scale=0.1) for i in range(3)}
    outputs = {f"y{i}": (rows, width) for i in range(3)}
    return models.model(nodes, {"x": (rows, width)}, outputs, weights)


def posed(program: Program, forms: tuple[str, ...] = ("float32",)) -> tuple[Space, Groups]:
    """The problem of one bucket."""
    space = explore(program)
    numbers = {form: numbers_for(program, form) for form in forms}
    bucket = Bucket("b", 0, space, numbers, 0)
    listed = [Form(form, 0.0, 0, (H200.launch_us,)) for form in forms]
    return space, pose([bucket], listed, [1.0], H200, Limits(), (Objective.LATENCY,))


def repriced(problem: Problem, seed: int) -> Problem:
    """Launches at random prices; what stays inside still costs nothing."""
    random = np.random.default_rng(seed)

    def price(option: Option) -> Option:
        if not option.makes:
            return option
        time_us = float(random.uniform(0.1, 3.0))
        return replace(option, latency=((Latency(time_us, time_us, time_us),),))

    return replace(problem, options=tuple(price(option) for option in problem.options))


def chosen(program: Program, space: Space, groups: Groups, problem: Problem) -> Draft:
    """The launches of the best plan."""
    found = solve(problem, time_limit_s=20)
    assert found.status is Status.OPTIMAL
    parts = [choice.parts for choice in groups.chosen(found.chosen, "b")]
    return drafted(program, numbers_for(program, "float32"), parts)


@pytest.mark.parametrize("build", ALL)
def test_a_candidate_reads_all_that_it_does_not_compute(
    build: Callable[[], onnx.ModelProto],
) -> None:
    program = program_of(build())
    space = explore(program)
    for candidate in space.candidates:
        for stage in candidate.stages:
            inside = {stage.root, *stage.internal}
            read = {name for nest in inside for name in program.by_name[nest].reads}
            assert read - inside == set(stage.reads)
    made = {name for candidate in space.candidates for name in candidate.makes}
    assert made >= set(program.outputs)
    assert len({id(one) for one in space.candidates}) == len(space.candidates)


@pytest.mark.parametrize(("count", "is_inside"), [(3, True), (7, False)])
def test_many_tensors_side_by_side_are_not_picked_from_by_a_product(
    count: int, is_inside: bool
) -> None:
    """Every block would do so for each of its operands; few may be."""
    names = [f"x{n}" for n in range(count)]
    nodes = [
        helper.make_node("Concat", names, ["side"], axis=1),
        helper.make_node("MatMul", ["side", "w"], ["y"]),
    ]
    weights = {"w": models.random(8 * count, 32, seed=1)}
    ports = dict.fromkeys(names, (16, 8))
    program = program_of(models.model(nodes, ports, {"y": (16, 32)}, weights))
    stages = [stage for one in explore(program).candidates for stage in one.stages]
    products = [stage for stage in stages if "y" in (stage.root, *stage.internal)]
    assert any(set(names) <= set(stage.reads) for stage in products) is is_inside


def test_a_closure_stops_at_what_is_in_memory() -> None:
    program = program_of(models.block())
    whole = closure(program, "y", ())
    assert set(whole.reads) & set(program.by_name) == set()
    cut = closure(program, "y", {"a"})
    assert "a" in cut.reads
    assert "h" not in cut.internal


@pytest.mark.parametrize("form", ["float32", "float16"])
@pytest.mark.parametrize("build", [*ALL, beside])
def test_the_choice_is_never_worse_than_the_rules(
    build: Callable[[], onnx.ModelProto], form: str
) -> None:
    program = program_of(build())
    space, groups = posed(program, (form,))
    found = solve(groups.problem, time_limit_s=20)
    ruled = estimate(program, schedule(program, space.greedy), numbers_for(program, form))
    assert found.status is Status.OPTIMAL
    assert found.objective[0] <= ruled.predicted_us + 1e-6


@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_the_best_of_all(seed: int) -> None:
    """Against every set of candidates that can run and makes the output."""
    program = program_of(models.block(rows=4, width=16, hidden=32))
    space, groups = posed(program)
    problem = repriced(groups.problem, seed)
    priced = {
        name: option.latency[0][0].expected_us
        for name, option in ((o.name, o) for o in problem.options)
        if option.makes and option.latency[0][0] is not None
    }
    names = list(priced)
    best = min(
        sum(priced[name] for name in picked)
        for size in range(1, 5)
        for picked in itertools.combinations(names, size)
        if _runs(program, space, groups, picked)
    )
    found = solve(problem, time_limit_s=20)
    assert found.objective[0] == pytest.approx(best + H200.launch_us)


def _runs(program: Program, space: Space, groups: Groups, picked: tuple[str, ...]) -> bool:
    parts = [groups.choices[name].parts for name in picked]
    stages = [part.stage for group in parts for part in group]
    computed = [name for stage in stages for name in {stage.root, *stage.internal}]
    if any(computed.count(name) != 1 for name in space.heavy):
        return False
    made = [stage.root for stage in stages]
    if len(set(made)) != len(made) or not set(program.outputs) <= set(made):
        return False
    there, waiting = {*program.inputs, *program.constants}, list(parts)
    while waiting:
        ready = [g for g in waiting if all(set(p.stage.reads) <= there for p in g)]
        if not ready:
            return False
        there |= {part.stage.root for group in ready for part in group}
        waiting = [group for group in waiting if group not in ready]
    return True


@needs_triton
@pytest.mark.parametrize("build", ALL)
def test_random_groups_compute_what_the_model_means(build: Callable[[], onnx.ModelProto]) -> None:
    program = program_of(build())
    random = np.random.default_rng(5)
    feeds = {
        name: random.standard_normal(program.types[name].shape).astype(np.float32)
        for name in program.inputs
    }
    wanted = reference.run(program, feeds)
    space, groups = posed(program)
    for seed in range(3):
        plan = chosen(program, space, groups, repriced(groups.problem, seed))
        found = run_interpreted(plan, feeds)
        for name in program.outputs:
            assert nmse(found[name], wanted[name]) < 1e-9, (seed, name)


def test_a_format_is_chosen_for_the_whole_engine() -> None:
    """Half precision moves half the bytes; where its error is too large it is not taken."""
    program = program_of(models.block(rows=64, width=256, hidden=1024))
    space = explore(program)
    names = ("float32", "float16")
    bucket = Bucket("b", 0, space, {form: numbers_for(program, form) for form in names}, 0)
    forms = [Form("float32", 0.0, 0, (2.5,)), Form("float16", 1e-5, 0, (2.5,))]

    def setting(limit: float) -> str | None:
        limits = Limits(error=limit)
        found = pose([bucket], forms, [1.0], H200, limits, (Objective.LATENCY,))
        return solve(found.problem, time_limit_s=20).setting

    assert setting(1e-3) == "float16"
    assert setting(1e-6) == "float32"
