"""Ranks on GPUs without any: the fabric's own work on a driver and a library that stand in."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.errors import EnvironmentMismatchError
from planner.runtime.fused.driver import Driver
from planner.runtime.ranks import nccl as library
from planner.runtime.ranks.board import CudaBoard
from planner.runtime.ranks.heads import empty_for, head_of
from planner.runtime.ranks.nccl_fabric import NcclFabric
from planner.runtime.ranks.place import Place
from tests.runtime import fake_cuda
from tests.runtime.fake_nccl import FakeNccl, Wire

WORLD = 4
Each = Callable[[Callable[[NcclFabric], Any]], list[Any]]


@pytest.fixture
def each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Each]:
    """Does something on every rank at once, in a thread each."""
    fake_cuda.install(monkeypatch)
    wire = Wire()

    def joined(rank: int) -> NcclFabric:
        nccl: Any = FakeNccl(wire)
        return NcclFabric(rank, WORLD, str(tmp_path / "meeting"), nccl=nccl, driver=Driver())

    with ThreadPoolExecutor(WORLD) as pool:
        fabrics = list(pool.map(joined, range(WORLD)))
        yield lambda work: list(pool.map(work, fabrics))


def given(rank: int, shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray[Any, Any]:
    """A rank's own tensor."""
    return np.random.default_rng(rank).integers(-9, 9, shape).astype(dtype)


@pytest.mark.parametrize("members", [(0, 1, 2, 3), (2, 0), (3,)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_collectives_do_what_numpy_does(each: Each, members: tuple[int, ...], axis: int) -> None:
    shape = (4, 8, 12)
    size = len(members)

    def work(fabric: NcclFabric) -> Any:
        group = fabric.group(members)
        if fabric.rank not in members:
            return None
        value = given(fabric.rank, shape)
        return (
            group.all_reduce(value),
            group.all_gather(value, axis),
            group.reduce_scatter(value, axis),
            group.split(value, axis),
        )

    found = each(work)
    values = [given(rank, shape) for rank in members]
    total = np.sum(values, axis=0)
    for position, rank in enumerate(members):
        reduced, gathered, scattered, split = found[rank]
        np.testing.assert_array_equal(reduced, total)
        np.testing.assert_array_equal(gathered, np.concatenate(values, axis))
        np.testing.assert_array_equal(scattered, np.split(total, size, axis)[position])
        np.testing.assert_array_equal(split, np.split(values[position], size, axis)[position])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_places_are_spoken_of_in_place(each: Each, axis: int) -> None:
    """`split` and `all_gather` between places are each other's inverse; a sum overwrites."""
    shape = (8, 4, 4)

    def work(fabric: NcclFabric) -> Any:
        talk, group = fabric.talk(), fabric.group(tuple(range(WORLD)))

        def place(size: tuple[int, ...]) -> Place:
            dtype = np.dtype(np.float32)
            count = int(np.prod(size)) * dtype.itemsize
            return Place(fabric.board.allocate(count), dtype, size)

        piece_shape = tuple(n // WORLD if at == axis else n for at, n in enumerate(shape))
        whole, piece, again = place(shape), place(piece_shape), place(shape)
        whole.array[...] = given(7, shape)
        talk.together(group, "split", axis, whole, piece)
        talk.together(group, "all_gather", axis, piece, again)
        talk.together(group, "all_reduce", None, whole, whole)
        return again.array.copy(), whole.array.copy()

    for again, total in each(work):
        np.testing.assert_array_equal(again, given(7, shape))
        np.testing.assert_array_equal(total, WORLD * given(7, shape))


def test_lengths_that_vary_do_not_each_keep_memory(each: Each) -> None:
    def work(fabric: NcclFabric) -> int:
        group = fabric.group(tuple(range(WORLD)))
        for length in range(1, 100):
            group.all_gather(given(fabric.rank, (3, length)), 1)
        assert isinstance(fabric.board, CudaBoard)
        return len(fabric.board._held)

    assert max(each(work)) <= 12  # a doubling each, of 16 bytes to 4.8 kB, and two to pass through


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "float16"])
def test_messages_of_any_shape_arrive(each: Each, dtype: str) -> None:
    def work(fabric: NcclFabric) -> Any:
        if fabric.rank == 1:
            for shape in ((3, 5), (), (0, 2), (100, 1000)):
                fabric.send(given(1, shape, dtype), 2)
            fabric.send(None, 2)
        return [fabric.receive(1) for _ in range(5)] if fabric.rank == 2 else None

    *arrived, nothing = each(work)[2]
    assert nothing is None
    for value, shape in zip(arrived, ((3, 5), (), (0, 2), (100, 1000)), strict=True):
        assert value.dtype == dtype
        np.testing.assert_array_equal(value, given(1, shape, dtype))


def test_a_fabric_leaves_all_its_communicators(each: Each) -> None:
    def work(fabric: NcclFabric) -> Any:
        fabric.group((0, 1))
        fabric.close()
        return len(fabric.nccl.left)  # type: ignore[attr-defined]

    assert each(work) == [2, 2, 1, 1]


def test_heads_say_what_comes() -> None:
    assert empty_for(head_of(None)) is None
    for value in (np.zeros((2, 0, 3), np.int8), np.zeros((), bool)):
        made = empty_for(head_of(value))
        assert made is not None
        assert (made.shape, made.dtype) == (value.shape, value.dtype)
    with pytest.raises(EnvironmentMismatchError, match="strings"):
        head_of(np.array(["a"], object))


def test_an_absent_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "library_path", lambda: None)
    with pytest.raises(EnvironmentMismatchError, match="not installed") as found:
        library.Nccl()
    assert "infopt[nccl]" in found.value.text


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "libnccl.so.2"
    path.write_bytes(b"no library")
    with pytest.raises(EnvironmentMismatchError, match="cannot be loaded"):
        library.Nccl(str(path))


def test_calls_carry_codes_and_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Call:
        restype = argtypes = None

        def __init__(self, answer: object) -> None:
            self.answer = answer

        def __call__(self, *arguments: object) -> object:
            return self.answer

    class Broken:
        def __getattr__(self, name: str) -> Call:
            call = Call(b"unhandled cuda error" if name == "ncclGetErrorString" else 1)
            setattr(self, name, call)
            return call

    monkeypatch.setattr(ctypes, "CDLL", lambda path: Broken())
    nccl = library.Nccl("anything")
    with pytest.raises(library.NcclError, match="ncclSend: unhandled cuda error"):
        nccl.send(0, 1, 1, 1, 0)
    assert not library.can_add(np.dtype(bool))
    with pytest.raises(EnvironmentMismatchError, match="does not add bool"):
        nccl.all_reduce(0, 0, 1, np.dtype(bool), 1, 0)
