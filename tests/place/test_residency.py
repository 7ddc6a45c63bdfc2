"""Which weights stay: against every choice there is; and where operators are cut into runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from planner.ir.graph import Graph, Op, Tensor
from planner.ir.problem import Latency, Objective, Problem
from planner.ir.solution import Status
from planner.place.chunks import Chunk, chunks
from planner.place.residency import RESIDENT, STREAMED, Priced, option_name, pose_residency
from planner.solve.solve import solve

FIXED = 1000


def draw(rng: np.random.Generator, count: int, shapes: int) -> list[Priced]:
    found = []
    for n in range(count):
        kept, fetched, table = (int(rng.integers(0, 9)) * 1000 for _ in range(3))
        fetched = 0 if rng.random() < 0.2 else fetched
        chunk = Chunk((f"op{n}",), kept + fetched + table, fetched, table)
        resident = [float(rng.integers(1, 100)) for _ in range(shapes)]
        streamed = [us + float(rng.integers(0, 100)) for us in resident]
        moves = rng.random() < 0.9
        rows = (resident, streamed)
        cells = [tuple(Latency(us, us, us) for us in row) for row in rows]
        found.append(Priced(chunk, cells[0], cells[1] if moves else None))
    return found


def memory(priced: list[Priced], streams: tuple[bool, ...]) -> int:
    """What is there at its fullest: a part's weights come while the part before it runs."""
    kept = sum(p.weight_size_bytes(is_streamed=s) for p, s in zip(priced, streams, strict=True))
    sizes = [p.chunk.fetched_size_bytes * s for p, s in zip(priced, streams, strict=True)]
    pairs = [
        sizes[n] + (sizes[(n + 1) % len(sizes)] if len(sizes) > 1 else 0) for n in range(len(sizes))
    ]
    return FIXED + kept + max(pairs)


def time_us(priced: list[Priced], streams: tuple[bool, ...], shares: list[float]) -> float:
    rows = [p.streamed if s else p.resident for p, s in zip(priced, streams, strict=True)]
    return sum(
        share * sum(row[n].expected_us for row in rows if row is not None)
        for n, share in enumerate(shares)
    )


@pytest.mark.parametrize("seed", range(40))
def test_the_least_time_within_the_memory(seed: int) -> None:
    rng = np.random.default_rng(seed)
    priced = draw(rng, int(rng.integers(1, 8)), int(rng.integers(1, 3)))
    shares = [1.0] if len(priced[0].resident) == 1 else [0.25, 0.75]
    ways = [
        streams
        for streams in itertools.product((False, True), repeat=len(priced))
        if not any(s and p.streamed is None for s, p in zip(streams, priced, strict=True))
    ]
    sizes = [memory(priced, streams) for streams in ways]
    limit = int(rng.integers(min(sizes) - 500, max(sizes) + 1))
    within = [way for way, size in zip(ways, sizes, strict=True) if size <= limit]
    problem = pose_residency(priced, shares, FIXED, limit)
    solution = solve(problem, time_limit_s=10, gap=0.0)
    if not within:
        assert solution.status is Status.INFEASIBLE
        least = pose_residency(priced, shares, FIXED, None, (Objective.MEMORY,))
        totals = solve(least, time_limit_s=10, gap=0.0).totals
        assert totals is not None
        assert max(totals.stage_memory_size_bytes) == min(sizes)
        return
    chosen = set(solution.chosen)
    streams = tuple(f"{name}:{STREAMED}" in chosen for name in problem.ops)
    assert memory(priced, streams) <= limit
    best = min(time_us(priced, way, shares) for way in within)
    assert time_us(priced, streams, shares) == pytest.approx(best)
    assert solution.totals is not None
    assert max(solution.totals.stage_memory_size_bytes) == memory(priced, streams)


def ways_of(rng: np.random.Generator, count: int) -> list[tuple[Priced, ...]]:
    """Runs in one to three formats: smaller ones with errors, faster or slower."""
    found = []
    for plain in draw(rng, count, 1):
        run = [plain]
        for number in range(int(rng.integers(0, 3))):
            part = int(rng.integers(1, 5))
            chunk = Chunk(
                plain.chunk.ops, plain.chunk.weight_size_bytes // part,
                plain.chunk.fetched_size_bytes // part, plain.chunk.table_size_bytes // part,
            )  # fmt: skip
            us = float(rng.integers(1, 100))
            kept = (Latency(us, us, us),)
            more = us + float(rng.integers(0, 60))
            moved = (Latency(more, more, more),) if rng.random() < 0.9 else None
            error, scratch = int(rng.integers(0, 8)) / 1024, int(rng.integers(0, 3)) * 500
            run.append(Priced(chunk, kept, moved, f"f{number}", error, scratch))
        found.append(tuple(run))
    return found


Choice = tuple[tuple[Priced, bool], ...]


def choices(runs: list[tuple[Priced, ...]], limit: int, error: float) -> list[Choice]:
    """Every way to choose format and residency that keeps memory and error."""
    cells = [
        [(way, moves) for way in run for moves in (False, True) if way.streamed or not moves]
        for run in runs
    ]
    found = []
    for choice in itertools.product(*cells):
        ways, moves = [way for way, _ in choice], tuple(moved for _, moved in choice)
        scratch = max(way.workspace_size_bytes for way in ways)
        keeps = memory(ways, moves) + scratch <= limit
        if keeps and sum(way.error for way in ways) <= error:
            found.append(choice)
    return found


def total_us(choice: Choice) -> float:
    return time_us([way for way, _ in choice], tuple(moves for _, moves in choice), [1.0])


def chosen_of(runs: Sequence[tuple[Priced, ...]], problem: Problem, names: set[str]) -> Choice:
    return tuple(
        (way, moves)
        for name, run in zip(problem.ops, runs, strict=True)
        for way in run
        for moves in (False, True)
        if option_name(name, way.form, STREAMED if moves else RESIDENT) in names
    )


@pytest.mark.parametrize("seed", range(25))
def test_formats_and_residency_at_once(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    runs = ways_of(rng, int(rng.integers(1, 5)))
    limit = FIXED + int(rng.integers(0, 30_000))
    error = int(rng.integers(0, 16)) / 1024
    within = choices(runs, limit, error)
    problem = pose_residency(runs, [1.0], FIXED, limit, error=error)
    solution = solve(problem, time_limit_s=10, gap=0.0)
    if not within:
        assert solution.status is Status.INFEASIBLE
        return
    found = chosen_of(runs, problem, set(solution.chosen))
    assert found in within
    assert total_us(found) == pytest.approx(min(map(total_us, within)))


def test_one_choice_beats_formats_first_and_residency_then() -> None:
    """Two products; the small format is a little slower where weights stay. As if memory were no
    matter both keep their own, and then one must stream; at once, one takes the small format and
    both stay."""

    def us(value: float) -> tuple[Latency]:
        return (Latency(value, value, value),)

    def best(runs: Sequence[tuple[Priced, ...]], limit: int | None) -> Choice:
        problem = pose_residency(runs, [1.0], FIXED, limit, error=1 / 1024)
        solution = solve(problem, time_limit_s=10, gap=0.0)
        return chosen_of(runs, problem, set(solution.chosen))

    run = (
        Priced(Chunk(("p",), 8000, 8000), us(100.0), us(300.0)),
        Priced(Chunk(("p",), 2000, 2000), us(110.0), us(160.0), "int8", 1 / 1024),
    )
    limit = FIXED + 16_200
    formats = [(way,) for way, _ in best([run, run], None)]
    assert [way.form for (way,) in formats] == ["", ""]
    assert total_us(best(formats, limit)) == pytest.approx(400.0)
    assert total_us(best([run, run], limit)) == pytest.approx(210.0)


def random_graph(rng: np.random.Generator, count: int) -> tuple[Graph, dict[str, int]]:
    """A chain with side branches; some operators read weights, a few share one."""
    tensors = {"x": Tensor("x", "float32", (4,), 16, is_constant=False)}
    ops: list[Op] = []
    fetched: dict[str, int] = {}
    made = ["x"]
    for n in range(count):
        reads = [made[-1]]
        if len(made) > 2 and rng.random() < 0.3:
            reads.append(made[int(rng.integers(len(made) - 1))])
        if rng.random() < 0.5:
            name = f"w{int(rng.integers(n + 1))}"
            size = fetched.setdefault(name, int(rng.integers(1, 50)))
            tensors[name] = Tensor(name, "float32", (size,), size, is_constant=True)
            reads.append(name)
        size = int(rng.integers(1, 100))
        tensors[f"t{n}"] = Tensor(f"t{n}", "float32", (size,), size, is_constant=False)
        ops.append(Op(f"op{n}", "Any", "", tuple(reads), (f"t{n}",), ()))
        made.append(f"t{n}")
    return Graph(tuple(ops), tensors, ("x",), (made[-1],)), fetched


@pytest.mark.parametrize("seed", range(60))
def test_runs_hold_every_operator_once_and_no_more_than_asked(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph, fetched = random_graph(rng, int(rng.integers(1, 40)))
    most = int(rng.integers(1, 150))
    found = chunks(graph, fetched, most)
    assert [name for run in found for name in run.ops] == [op.name for op in graph.ops]
    by_name = {op.name: op for op in graph.ops}
    for run in found:
        read = {n for op in run.ops for n in by_name[op].inputs if n in fetched}
        assert run.fetched_size_bytes == sum(fetched[name] for name in read)
        assert run.fetched_size_bytes <= most or len(read) == 1
        assert run.kept_size_bytes == 0


def test_runs_are_cut_where_little_crosses() -> None:
    """Between two products: the narrow place is behind the second of three steps."""
    sizes = {"a": 100, "b": 50, "c": 2, "d": 70, "e": 60}
    tensors = {n: Tensor(n, "float32", (s,), s, is_constant=False) for n, s in sizes.items()}
    for name in ("u", "v"):
        tensors[name] = Tensor(name, "float32", (9,), 9, is_constant=True)
    ops = (
        Op("first", "Any", "", ("a", "u"), ("b",), ()),
        Op("narrow", "Any", "", ("b",), ("c",), ()),
        Op("wide", "Any", "", ("c",), ("d",), ()),
        Op("second", "Any", "", ("d", "v"), ("e",), ()),
    )
    found = chunks(Graph(ops, tensors, ("a",), ("e",)), {"u": 9, "v": 9}, 10)
    assert [run.ops for run in found] == [("first", "narrow"), ("wide", "second")]
