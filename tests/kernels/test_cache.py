"""Compiled kernels are found again, and so is what the compiler refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from benchmarks.small.suite import SUITE
from planner.errors import EnvironmentMismatchError, InfoptError
from planner.fuse.build import draft
from planner.graph.semantics import program_of
from planner.kernels import cache as caches
from planner.kernels import compile as compiler
from planner.kernels.cache import KernelCache
from planner.kernels.compile import Compiled
from planner.kernels.cubin import Resources
from planner.kernels.source import Kernel
from tests.kernels.run import needs_triton

pytestmark = needs_triton


class Compiler:
    """Compiles the kernels it is told to, and counts what it is asked."""

    def __init__(self, sound: set[str]) -> None:
        self.sound = sound
        self.asked: list[str] = []

    def __call__(
        self, kernels: Iterable[Kernel], architecture: int, *, workers: int
    ) -> Mapping[str, Compiled]:
        names = [item.name for item in kernels]
        self.asked += names
        resources = Resources(32, 0, 1024)
        return {
            name: Compiled(name, architecture, b"cubin", name, 128, 0, resources, waits=True)
            for name in names
            if name in self.sound
        }


@pytest.fixture
def kernels() -> tuple[Kernel, ...]:
    made = draft(program_of(SUITE["mmoe"]("float16")), "float16").kernels
    assert len({item.name for item in made}) >= 2
    return made


def test_neither_what_compiled_nor_what_was_refused_is_asked_again(
    kernels: tuple[Kernel, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = kernels[0].name
    asked = Compiler({sound})
    monkeypatch.setattr(caches, "compile_each", asked)
    for _ in range(2):
        found = KernelCache(tmp_path).compiled(kernels, [90], workers=1)
        assert set(found) == {(sound, 90)}
        assert found[sound, 90].cubin == b"cubin"
    assert sorted(asked.asked) == sorted({item.name for item in kernels})


def test_another_architecture_is_asked_for_itself(
    kernels: tuple[Kernel, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "compile_each", Compiler(set()))
    KernelCache(tmp_path).compiled(kernels, [80], workers=1)
    everything = Compiler({item.name for item in kernels})
    monkeypatch.setattr(caches, "compile_each", everything)
    assert KernelCache(tmp_path).compiled(kernels, [90], workers=1)
    assert everything.asked


@pytest.mark.parametrize(
    ("raised", "is_remembered"), [(InfoptError("too much"), True), (OSError("no space"), False)]
)
def test_only_what_the_kernel_is_to_blame_for_is_remembered(
    raised: Exception,
    is_remembered: bool,
    kernels: tuple[Kernel, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> Compiled:
        if isinstance(raised, OSError):
            raise EnvironmentMismatchError(str(raised))
        raise raised

    def here(asked: Iterable[Kernel], architecture: int, *, workers: int) -> Mapping[str, Compiled]:
        made = {item.name: compiler._attempt((item, architecture)) for item in asked}
        return {name: one for name, one in made.items() if one is not None}

    monkeypatch.setattr(compiler, "compile_kernel", refuse)
    monkeypatch.setattr(caches, "compile_each", here)
    cache = KernelCache(tmp_path)
    if is_remembered:
        assert cache.compiled(kernels, [90], workers=1) == {}
    else:
        with pytest.raises(EnvironmentMismatchError):
            cache.compiled(kernels, [90], workers=1)
    assert cache.is_refused(kernels[0].name, 90) == is_remembered
