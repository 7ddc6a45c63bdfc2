"""Loops and the launches beside them, from a model to a device: one memory for both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from planner.fuse.build import build, draft
from planner.fuse.drafts import Draft
from planner.fuse.loops import refusal, with_sound_loops
from planner.fuse.roll import rolled_up, runs, steps_of
from planner.graph.semantics import program_of
from planner.kernels.compile import Compiled, compile_all
from planner.kernels.cubin import Resources
from planner.kernels.pack import Sheet, arena, lives, pack_weights, storage_dtype, write
from planner.kernels.source import Kernel
from planner.runtime.fused import loops as here
from planner.runtime.fused import manifest as manifests
from planner.runtime.fused.manifest import Argument, FusedManifest, Launch
from planner.runtime.fused.session import load
from tests.fuse.test_roll import CASES, _model, _plan
from tests.kernels.run import needs_triton
from tests.runtime import fake_cuda

_ARCHITECTURES = (80, 89, 90)
_Made = Mapping[tuple[str, int], Compiled]


def _packed(plan: Draft, folder: Path) -> FusedManifest:
    """The manifest, with nothing compiled."""
    made = rolled_up(plan)
    sheet = Sheet("s", made.program, made.numbers, made.launches, made.waiting, steps_of(plan))
    return write(folder, [sheet], {})


def _unrolled(plan: Draft, folder: Path) -> tuple[Launch, ...]:
    manifest = _packed(plan, folder)
    (bucket,) = manifest.buckets
    return here.without(bucket, manifest.loop_kernels).launches


@needs_triton
@pytest.mark.parametrize("case", CASES)
def test_launches_beside_a_loop_find_all_that_the_draft_gives_them(
    case: str, tmp_path: Path
) -> None:
    plan = _plan(case)
    made = rolled_up(plan)
    in_arena, _ = arena(made.program, made.kernels, made.numbers)
    sheet = Sheet("s", made.program, made.numbers, made.launches)
    _, (in_weights,) = pack_weights([sheet])
    found = _unrolled(plan, tmp_path)
    assert len(found) == len(plan.launches)
    for launch, (parts, item) in list(zip(found, plan.launches, strict=True))[1:]:
        assert launch.kernel == item.name
        assert launch.programs == item.programs
        assert launch.makes == tuple(name for part in parts for name in part.stage.makes)
        assert not launch.together
        for argument, parameter, kind in zip(
            launch.arguments, item.parameters, item.types, strict=True
        ):
            space = "weights" if parameter.tensor in in_weights else "arena"
            start = (in_weights if space == "weights" else in_arena)[parameter.tensor]
            moved = start + parameter.offset * storage_dtype(kind).itemsize
            assert argument == Argument(space, moved)


@pytest.mark.parametrize("case", CASES)
def test_what_launches_need_at_once_lies_apart(case: str) -> None:
    plan = _plan(case)
    made = rolled_up(plan)
    in_arena, size_bytes = arena(made.program, made.kernels, made.numbers)
    living = lives(plan.program, plan.kernels, plan.numbers)
    for (one, a), (other, b) in combinations(living.items(), 2):
        if a.first <= b.last and b.first <= a.last:
            begin, end = in_arena[one], in_arena[one] + a.size_bytes
            assert end <= in_arena[other] or in_arena[other] + b.size_bytes <= begin
    assert all(in_arena[name] + life.size_bytes <= size_bytes for name, life in living.items())


@needs_triton
def test_two_loops_of_one_draft_stand_each_for_its_own(tmp_path: Path) -> None:
    plan = _plan("lstm")
    ((first, last),) = plan.loops
    split = replace(plan, loops=((first, first + 3), (first + 4, last)))
    made = rolled_up(split).kernels
    assert list(steps_of(split)) == [at for at, item in enumerate(made) if item.steps > 1]
    found = _unrolled(split, tmp_path)
    assert [launch.kernel for launch in found[1:]] == [item.name for item in plan.kernels[1:]]


@needs_triton
def test_launches_keep_their_edges(tmp_path: Path) -> None:
    plan = _plan("lstm")
    (run,) = runs(plan)
    waiting = frozenset((plan.kernels[run.first].name,))
    found = _unrolled(replace(plan, waiting=waiting), tmp_path)
    assert {launch.ahead for launch in found[run.first : run.last + 1]} == {False}
    assert {launch.ahead for launch in found[run.last + 1 :]} <= {True}


def test_why_a_loop_is_none() -> None:
    made = rolled_up(_plan("lstm"))
    (item,) = (k for k in made.kernels if k.steps > 1)

    def told(registers: int, stack: int = 0, blocks: int = 1, units: int | None = None) -> str:
        resources = Resources(registers, stack, 0)
        one = Compiled(item.name, 89, b"", "e", 256, 0, resources, False)
        return refusal(replace(item, programs=blocks), one, units)

    assert told(128) == ""
    assert "spill 36 bytes" in told(128, 36)
    assert told(128, 32) == told(128, 0)
    assert "do not compile" in refusal(item, None)
    assert told(128, blocks=288) == ""
    assert "289 blocks wait for each other, no more than 288" in told(128, blocks=289)
    assert "no more than 116" in told(128, blocks=117, units=58)


class _Refusing:
    """Stands in for a compiler: refuses what a rule says."""

    def __init__(self, refused: Callable[[Kernel], bool]) -> None:
        self._refused = refused

    def __call__(self, kernels: Sequence[Kernel]) -> dict[str, Compiled]:
        """What is not refused."""
        few = Resources(registers=64, stack_size_bytes=0, code_size_bytes=0)
        return {
            k.name: Compiled(k.name, 90, b"", "e", 128, 0, few, True)
            for k in kernels
            if not self._refused(k)
        }


def _twice() -> Draft:
    """A run of steps as two loops of different length."""
    plan = _plan("lstm")
    ((first, last),) = plan.loops
    return replace(plan, loops=((first, first + 3), (first + 4, last)))


@pytest.mark.parametrize("refused", [(), (0,), (1,), (0, 1)])
def test_a_loop_that_is_refused_is_launches_and_the_others_are_rolled_anew(
    refused: tuple[int, ...],
) -> None:
    plan = _twice()
    loops = [item.name for item in rolled_up(plan).kernels if item.steps > 1]
    compile_each = _Refusing(lambda k: k.name in {loops[at] for at in refused})
    found = with_sound_loops(plan, compile_each, units=132)
    assert found.loops == tuple(one for at, one in enumerate(plan.loops) if at not in refused)
    assert found.kernels == plan.kernels
    told = [text for text in found.remarks if "do not compile" in text]
    assert [text[:3] for text in told] == [f"{plan.loops[at][0]:03d}" for at in refused]
    items = rolled_up(found).kernels
    assert compile_each(items).keys() == {item.name for item in items}


def test_there_are_no_loops_where_the_launch_that_zeroes_for_them_is_refused() -> None:
    plan = _twice()
    zeroing = rolled_up(plan).kernels[0].name
    assert zeroing not in {item.name for item in plan.kernels}
    found = with_sound_loops(plan, _Refusing(lambda k: k.name == zeroing), units=132)
    assert found.loops == ()
    assert len(found.remarks) == len(plan.remarks) + 2


def test_a_device_with_too_few_multiprocessors_gets_no_loop() -> None:
    plan = _plan("lstm")
    (item,) = (k for k in rolled_up(plan).kernels if k.steps > 1)
    everything = _Refusing(lambda k: False)
    assert with_sound_loops(plan, everything, units=item.programs).loops == plan.loops
    told = with_sound_loops(plan, everything, units=0)
    assert told.loops == ()
    assert "wait for each other" in told.remarks[-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Draft, _Made, Path]:
    """Two layers of twelve steps, with every run as a loop, for three architectures."""
    plan = draft(program_of(_model("LSTM", layers=2, steps=12)), "float16")
    plan = replace(plan, loops=tuple((run.first, run.last) for run in runs(plan)))
    kernels = [*plan.kernels, *rolled_up(plan).kernels]
    made = compile_all(kernels, _ARCHITECTURES)
    folder = tmp_path_factory.mktemp("engine")
    build(plan, folder, _ARCHITECTURES, compiled=made)
    return plan, made, folder


@needs_triton
def test_an_engine_holds_both(built: tuple[Draft, _Made, Path]) -> None:
    plan, _, folder = built
    found = manifests.read(folder)
    manifests.check_files(folder, found)
    (bucket,) = found.buckets
    (loop,) = bucket.loops
    assert bucket.launches[loop.position].together
    assert not loop.first.together
    assert len(bucket.launches) + loop.steps - 1 == len(plan.launches)
    assert loop.refused == ()
    there = {(item.kernel, item.architecture) for item in found.binaries}
    both = found.needed_kernels | found.loop_kernels
    assert there == {(kernel, a) for kernel in both for a in _ARCHITECTURES}
    assert loop.first.kernel in found.needed_kernels


@needs_triton
@pytest.mark.parametrize("architecture", _ARCHITECTURES)
def test_a_device_of_few_multiprocessors_takes_the_launches(
    built: tuple[Draft, _Made, Path], architecture: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, made, folder = built
    (loop,) = (k for k in rolled_up(plan).kernels if k.steps > 1)
    fake = fake_cuda.install(monkeypatch)
    fake.architecture = architecture
    entry = made[loop.name, architecture].entry.encode()
    for units, is_loop in ((loop.programs, True), (loop.programs - 1, False)):
        fake.units = units
        fake.functions.clear()
        with load(folder) as session:
            queued = len(session.first.bucket.launches)
            assert [not way.refusal for way in session.loops] == [is_loop]
        assert (entry in fake.functions) == is_loop
        assert queued == len(plan.launches) - (loop.steps - 1 if is_loop else 0)


@needs_triton
def test_an_architecture_that_spills_gets_launches_only(
    built: tuple[Draft, _Made, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, made, _ = built
    (loop,) = (k for k in rolled_up(plan).kernels if k.steps > 1)
    spilling = made[loop.name, 89]
    resources = replace(spilling.resources, stack_size_bytes=64)
    given = {**made, (loop.name, 89): replace(spilling, resources=resources)}
    del given[loop.name, 80]
    refused = frozenset({(loop.name, 80)})
    found = build(plan, tmp_path, _ARCHITECTURES, compiled=given, refused=refused)
    (told,) = found.buckets[0].loops
    assert {one.architecture: one.reason for one in told.refused} == {
        80: "as a loop they do not compile",
        89: "as a loop they spill 64 bytes a thread",
    }
    assert [b.architecture for b in found.binaries if b.kernel == loop.name] == [90]
    fake = fake_cuda.install(monkeypatch)
    for architecture, is_loop in ((80, False), (86, False), (89, False), (90, True)):
        fake.architecture = architecture
        with load(tmp_path) as session:
            assert [not way.refusal for way in session.loops] == [is_loop]


@needs_triton
def test_a_loop_that_nobody_holds_leaves_an_engine_of_launches(
    built: tuple[Draft, _Made, Path], tmp_path: Path
) -> None:
    plan, made, _ = built
    names = {k.name for k in rolled_up(plan).kernels if k.steps > 1}
    given = {key: one for key, one in made.items() if key[0] not in names}
    refused = frozenset((name, a) for name in names for a in _ARCHITECTURES)
    found = build(plan, tmp_path, _ARCHITECTURES, compiled=given, refused=refused)
    assert {b.kernel for b in found.binaries} == found.needed_kernels
    (text,) = here.described(found)
    assert "one loop" not in text
    assert text.count("launches on sm_") == 3
