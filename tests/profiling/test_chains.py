"""What each rank computes in a run, as one chain: counted as parts are, and no board is left."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from planner.emit.blueprint import Part, Talk
from planner.profiling.chains import time_chains
from planner.profiling.parts import time_parts
from planner.runtime.ranks.board import HostBoard
from planner.spec.manifest import CollectiveSegment
from tests.runtime import build

PAIR = (0, 1)
ROWS, HIDDEN = 6, 16
COLLECTIVES = (
    ("all_reduce", None, (ROWS, HIDDEN)),
    ("all_gather", 1, (ROWS, 2 * HIDDEN)),
    ("reduce_scatter", 0, (ROWS // 2, HIDDEN)),
)


class Counted(HostBoard):
    """Says which boards are open."""

    open: list[Counted]

    def __init__(self, open_: list[Counted]) -> None:
        super().__init__()
        self.open = open_
        open_.append(self)

    def close(self) -> None:
        super().close()
        self.open.remove(self)


def sharded(
    folder: Path, operation: str, axis: int | None, shape: tuple[int, int]
) -> list[Part | Talk]:
    """x -> product -> a collective -> product -> y, on both ranks."""
    first = [
        build.save(
            build.product("x", "part", build.drawn(build.WIDTH, HIDDEN, rank), ROWS),
            folder / f"first{rank}",
        )
        for rank in PAIR
    ]
    rows, columns = shape
    second = build.product("joined", "y", build.drawn(columns, build.WIDTH, 2), rows)
    joined = CollectiveSegment(operation=operation, tensor="part", result="joined", axis=axis)  # type: ignore[arg-type]
    return [
        Part(first[0], ("x",), ("part",), build.SETTINGS, ranks=PAIR, shard_paths=(first[1],)),
        Talk(joined, "cpu", PAIR),
        Part(
            build.save(second, folder / "second"), ("joined",), ("y",), build.SETTINGS, ranks=PAIR
        ),
    ]


def pipelined(folder: Path) -> list[Part | Talk]:
    """x -> product on the first rank -> product on the second -> y."""
    return [
        replace(
            build.part(
                build.save(
                    build.product(a, b, build.drawn(build.WIDTH, build.WIDTH, rank), ROWS),
                    folder / b,
                )
            ),
            ranks=(rank,),
        )
        for rank, (a, b) in enumerate(itertools.pairwise(["x", "m", "y"]))
    ]


def checked(parts: Sequence[Part | Talk], stages: int) -> None:
    feeds = {"x": build.rows(ROWS)}
    open_: list[Counted] = []
    found = time_chains(parts, feeds, 2, lambda: Counted(open_))
    assert not open_
    assert found is not None
    assert found.is_resident
    assert len(found.parts_us) == stages
    assert all(0 < low <= middle <= high for low, middle, high in found.parts_us)
    others = time_parts(parts, feeds, 2)
    assert (found.talks, found.crossings) == (others.talks, others.crossings)
    assert found.fed_bytes == others.fed_bytes
    assert found.sizes == others.sizes


@pytest.mark.parametrize(("operation", "axis", "shape"), COLLECTIVES)
def test_a_rank_of_a_sharded_engine_is_one_chain(
    tmp_path: Path, operation: str, axis: int | None, shape: tuple[int, int]
) -> None:
    checked(sharded(tmp_path, operation, axis, shape), 1)


def test_each_stage_of_a_pipeline_is_a_chain(tmp_path: Path) -> None:
    checked(pipelined(tmp_path), 2)


def test_open_shapes_are_no_chain(tmp_path: Path) -> None:
    parts = [build.part(build.save(build.affine("x", "y", seed=0), tmp_path))]
    open_: list[Counted] = []
    assert time_chains(parts, {"x": build.rows(ROWS)}, 1, lambda: Counted(open_)) is None
    assert not open_
