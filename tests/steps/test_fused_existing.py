"""What is planned exists: kernels that the compiler refuses or spills are not in a plan."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import helper

from planner import pipeline
from planner.errors import EnvironmentMismatchError
from planner.fuse.build import drafted
from planner.fuse.candidates import explore
from planner.fuse.groups import Bucket, Form, pose
from planner.fuse.loops import with_all_loops
from planner.fuse.sound import Replaced
from planner.graph.semantics import program_of
from planner.ir.problem import Limits, Objective
from planner.ir.solution import Solution, Status
from planner.kernels import cache
from planner.kernels import compile as compiler
from planner.kernels.compile import Compiled
from planner.kernels.cubin import Resources
from planner.kernels.estimate import H200, launch_us
from planner.kernels.pack import numbers_for
from planner.kernels.source import Kernel
from planner.progress import Silent
from planner.runtime.fused import manifest as fused
from planner.runtime.integrity import read_manifest
from planner.solve.solve import solve
from planner.spec.io import write_plan
from planner.steps.fused import compiling
from planner.steps.fused.compiling import MAX_ROUNDS, Answer, better, existing
from tests.fuse.test_roll import _model
from tests.kernels.run import needs_triton
from tests.ops import models
from tests.steps.test_fused import planned

_SPILL = Resources(registers=255, stack_size_bytes=40, code_size_bytes=1 << 10)


class Strict:
    """Stands in for a compiler: refuses or spills what a hash says, the same every time."""

    def __init__(self, seed: int, refused_of_16: int, spilling_of_16: int) -> None:
        self._seed, self._refused, self._spilling = seed, refused_of_16, spilling_of_16

    def verdict(self, item: Kernel) -> str:
        """`refused`, `spills` or `sound`."""
        drawn = hashlib.sha256(f"{self._seed} {item.name}".encode()).digest()[0] % 16
        if drawn < self._refused:
            return "refused"
        return "spills" if drawn < self._refused + self._spilling else "sound"

    def __call__(self, kernels: Sequence[Kernel]) -> dict[str, Compiled]:
        """What is not refused."""
        sound = replace(_SPILL, stack_size_bytes=0)
        return {
            item.name: Compiled(
                item.name, 90, b"", "k", 128, 0, _SPILL if told == "spills" else sound, waits=True
            )
            for item in kernels
            if (told := self.verdict(item)) != "refused"
        }


class Question:
    """A model as the solver's problem; remembers its answers."""

    def __init__(self, model: onnx.ModelProto | None = None) -> None:
        self.program = program_of(model or models.block())
        self.numbers = numbers_for(self.program, "float32")
        self._bucket = Bucket("b", 0, explore(self.program), {"float32": self.numbers}, 0)
        self.answers: list[Answer] = []

    def __call__(self, replaced: Replaced, earlier: Solution | None) -> Answer:
        """The best of what the compiler left."""
        forms = [Form("float32", 0.0, 0, (H200.launch_us,))]
        objectives = (Objective.LATENCY,)
        groups = pose(
            [self._bucket], forms, [1.0], H200, Limits(), objectives, instead=replaced.instead
        )
        solution = solve(groups.problem, time_limit_s=20)
        parts = [choice.parts for choice in groups.chosen(solution.chosen, "b")]
        answer = Answer(groups, solution, {"b": drafted(self.program, self.numbers, parts)})
        self.answers.append(answer)
        return answer


@pytest.mark.parametrize("seed", range(6))
def test_a_choice_ends_with_kernels_that_exist_at_their_own_price(seed: int) -> None:
    ask, strict = Question(), Strict(seed, refused_of_16=5, spilling_of_16=4)
    found = existing(ask, strict, H200, Silent())
    assert found.missing == ()
    assert found.rounds == len(ask.answers) <= MAX_ROUNDS
    draft = found.answer.drafts["b"]
    assert {strict.verdict(item) for item in draft.kernels} == {"sound"}
    times = [launch_us(draft.program, parts, draft.numbers) for parts, _ in draft.launches]
    (value,) = found.answer.solution.objective
    assert value == pytest.approx(H200.launch_us + sum(times))
    for before in ask.answers[:-1]:
        assert any(strict.verdict(k) != "sound" for k in before.drafts["b"].kernels)


@pytest.mark.parametrize("is_refused", [False, True])
def test_a_loop_is_planned_where_it_compiles(
    monkeypatch: pytest.MonkeyPatch, is_refused: bool
) -> None:
    """Of steps so small that only a plan which counts every run as a gain rolls them."""
    monkeypatch.setattr(compiling, "with_loops", with_all_loops)
    strict = Strict(0, refused_of_16=0, spilling_of_16=0)

    def compile_each(kernels: Sequence[Kernel]) -> dict[str, Compiled]:
        return strict([item for item in kernels if item.steps == 1 or not is_refused])

    found = existing(ask := Question(_model("LSTM")), compile_each, H200, Silent())
    draft = found.answer.drafts["b"]
    assert draft.kernels == ask.answers[0].drafts["b"].kernels
    assert bool(draft.loops) is not is_refused
    assert any("do not compile" in text for text in draft.remarks) is is_refused
    assert found.rounds == 1


def test_what_spills_in_every_configuration_stays_as_it_was() -> None:
    ask = Question()
    found = existing(ask, Strict(0, refused_of_16=0, spilling_of_16=16), H200, Silent())
    assert found.answer.solution.chosen == ask.answers[0].solution.chosen
    assert found.answer.drafts["b"].kernels == ask.answers[0].drafts["b"].kernels


def test_a_compiler_that_refuses_everything_says_nothing_of_a_kernel() -> None:
    found = existing(Question(), Strict(0, refused_of_16=16, spilling_of_16=0), H200, Silent())
    assert not found.is_compiled
    assert found.rounds == 1


def test_a_compiler_that_does_not_run_costs_no_plan() -> None:
    def broken(_: Sequence[Kernel]) -> dict[str, Compiled]:
        raise EnvironmentMismatchError("the compiler does not run here")

    found = existing(ask := Question(), broken, H200, Silent())
    assert not found.is_compiled
    assert found.answer.solution is ask.answers[0].solution


def test_a_search_that_found_nothing_in_time_keeps_the_choice_before_it() -> None:
    ask = Question()
    first = ask(Replaced(), None)
    kept = better(first.groups, Solution(Status.UNKNOWN), first.solution)
    assert (kept.status, kept.chosen) == (Status.FEASIBLE, first.solution.chosen)
    assert kept.objective == pytest.approx(first.solution.objective)
    assert better(first.groups, first.solution, kept) is first.solution


def product(rows: int, width: int) -> onnx.ModelProto:
    """One square product and what makes six operators of it, the fewest worth generating."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h0"])]
    nodes += [helper.make_node("Relu", [f"h{i}"], [f"h{i + 1}"]) for i in range(4)]
    nodes.append(helper.make_node("Sigmoid", ["h4"], ["y"]))
    weights = {"w": models.random(width, width, scale=0.05)}
    return models.model(nodes, {"x": (rows, width)}, {"y": (rows, width)}, weights)


@needs_triton
def test_a_tile_too_large_for_the_device_is_not_in_its_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 x 64 results over 512 values at once: more than the shared memory of an L4's block."""
    monkeypatch.setenv("INFOPT_CACHE", str(tmp_path))
    compression = {"formats": ["fp16"]}
    plan = planned(product(1024, 512), tmp_path, target="l4-24gb", compression=compression)
    refused = {path.name.split("-")[0] for path in tmp_path.glob("kernels-*/*-sm89.refused")}
    assert refused
    assert plan.solver.rounds > 1
    assert plan.fusion is not None
    (bucket,) = plan.fusion.buckets
    kernels = [launch.kernel for segment in bucket.segments for launch in segment.launches]
    assert not refused & set(kernels)

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a planned kernel was not compiled")

    monkeypatch.setattr(cache, "compile_each", asked)
    for_it = plan.fusion.model_copy(update={"architectures": (89,)})
    written = write_plan(tmp_path / "plan.json", plan.model_copy(update={"fusion": for_it}))
    engine = pipeline.build(written, tmp_path / "engine")
    (part,) = read_manifest(engine).fused_segments
    assert [launch.kernel for launch in fused.read(engine / part.folder).launches] == kernels


def test_without_a_compiler_the_plan_says_that_nothing_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> str:
        raise EnvironmentMismatchError("compiling kernels needs triton")

    monkeypatch.setattr(compiler, "version", absent)
    plan = planned(models.block(), tmp_path)
    assert plan.solver.rounds == 1
    assert any("kernels are not compiled" in text for text in plan.warnings)
