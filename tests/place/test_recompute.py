"""Copies of tensors that are read late: the same model, less memory, the best of all choices."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from planner.emit.partition import read, with_copies
from planner.graph.analysis import peak_activation_bytes
from planner.ir.devices import Hold
from planner.ir.graph import Graph
from planner.ir.problem import Latency, Objective
from planner.ir.solution import Status
from planner.place.alive import activation_holds
from planner.place.chunks import Chunk
from planner.place.order import compact, sparing
from planner.place.recompute import Again, candidates, copied, fits
from planner.place.residency import AGAIN, STREAMED, Copy, Priced, option_name, pose_residency
from planner.runtime.ort import make_session
from planner.solve.solve import solve
from planner.spec.session import GraphLevel, SessionSettings
from tests.place.test_residency import draw

UNARY = ("Tanh", "Sigmoid", "Neg", "Abs", "Relu")


def random_model(rng: np.random.Generator, count: int = 14) -> onnx.ModelProto:
    """Elementwise operators on one shape; any earlier value may be read once more."""
    nodes, made = [], ["x"]
    for n in range(count):
        if rng.random() < 0.5:
            kind, reads = str(rng.choice(UNARY)), [made[-1]]
        else:
            kind, reads = "Add", [made[-1], made[int(rng.integers(len(made)))]]
        if rng.random() < 0.3:
            kind, reads = "Mul", [made[int(rng.integers(len(made)))], "scale"]
        nodes.append(helper.make_node(kind, reads, [f"t{n}"], f"op{n}"))
        made.append(f"t{n}")
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8])],
        [helper.make_tensor_value_info(made[-1], TensorProto.FLOAT, [8])],
        [numpy_helper.from_array(np.array([1.5], np.float32), "scale")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def sizes_of(graph: Graph) -> dict[str, int]:
    return {name: tensor.size_bytes for name, tensor in graph.tensors.items()}


@pytest.mark.parametrize("seed", range(12))
def test_a_copy_computes_the_same_bits(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("m") / "m.onnx"
    onnx.save(random_model(rng), path)
    proto, (graph,) = read(path)
    found = candidates(graph, sizes_of(graph), least=1)
    chosen = [each.recorded for each in found if rng.random() < 0.7]
    assert all(fits(graph, each) for each in chosen)
    model, other = with_copies(proto, chosen), copied(graph, chosen)
    onnx.checker.check_model(model)
    assert {op.name: (op.inputs, op.outputs) for op in other.ops} == {
        node.name: (tuple(node.input), tuple(node.output)) for node in model.graph.node
    }
    feeds = {"x": rng.standard_normal(8).astype(np.float32)}
    plain = SessionSettings(graph_level=GraphLevel.DISABLED)
    one = make_session(path, plain).run(None, feeds)[0]
    two = make_session(model.SerializeToString(), plain).run(None, feeds)[0]
    assert one.tobytes() == two.tobytes()
    if chosen:
        assert len(other.ops) > len(graph.ops)


@pytest.mark.parametrize("seed", range(12))
def test_sparing_is_an_order_and_keeps_no_more_alive(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("m") / "m.onnx"
    onnx.save(random_model(rng), path)
    _, (graph,) = read(path)
    names = sparing(graph)
    assert sorted(names) == sorted(op.name for op in graph.ops)
    assert len(names) == len(set(names))
    least = min(peak_activation_bytes(graph), peak_activation_bytes(graph, names))
    assert peak_activation_bytes(compact(graph, graph)) == least


def simulated(
    graph: Graph, runs: Sequence[Sequence[str]], sizes: Mapping[str, int], again: Sequence[Again]
) -> int:
    """Most bytes over the numbers of runs, tensor by tensor, with these made again."""
    number_of = {op: n for n, run in enumerate(runs) for op in run}
    places = [number_of[op.name] for op in graph.ops]
    uses: dict[str, list[int]] = {}
    for place, op in enumerate(graph.ops):
        for name in op.inputs:
            uses.setdefault(name, []).append(places[place])
    cut = {each.recorded.tensor: each for each in again}
    total = [sum(sizes[name] for name in graph.inputs)] * len(runs)
    for place, op in enumerate(graph.ops):
        for name in op.outputs:
            first = places[place]
            end = max([first, *uses.get(name, [])])
            end = len(runs) - 1 if name in graph.outputs else end
            spans = [(first, end)]
            if name in cut:
                each = cut[name]
                spans = [(first, places[each.after]), (places[each.before], places[each.last])]
                total[places[each.before]] += each.scratch_size_bytes
            for a, b in spans:
                for n in range(a, b + 1):
                    total[n] += sizes[name]
    return max(total)


@pytest.mark.parametrize("seed", range(25))
def test_keeping_or_making_again_is_the_best_of_all_choices(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every operator a run of its own, so that sums over runs are exact."""
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("m") / "m.onnx"
    onnx.save(random_model(rng, 10), path)
    _, (graph,) = read(path)
    sizes = {name: int(rng.integers(1, 9)) * 1000 for name in sizes_of(graph)}
    again = candidates(graph, sizes, least=1)[:4]
    runs = [(op.name,) for op in graph.ops]
    until = {each.recorded.tensor: each.after for each in again}
    holds = activation_holds(graph, runs, sizes, until)
    times = [float(rng.integers(1, 50)) for _ in again]
    copies = [
        Copy(f"keep{n}", e.after, e.before, e.last, e.size_bytes, e.scratch_size_bytes,
             (Latency(us, us, us),))
        for n, (e, us) in enumerate(zip(again, times, strict=True))
    ]  # fmt: skip
    nothing = (Latency(1.0, 1.0, 1.0),)
    priced = [Priced(Chunk(run, 0, 0), nothing, None) for run in runs]
    ways = list(itertools.product((False, True), repeat=len(again)))
    peaks = {
        way: simulated(graph, runs, sizes, list(itertools.compress(again, way))) for way in ways
    }
    limit = int(rng.integers(min(peaks.values()) - 1000, max(peaks.values()) + 1000))
    problem = pose_residency(priced, [1.0], 0, limit, (Objective.LATENCY,), None, holds, copies)
    solution = solve(problem, time_limit_s=10, gap=0.0)
    within = [way for way, peak in peaks.items() if peak <= limit]
    if not within:
        assert solution.status is Status.INFEASIBLE
        return
    names = set(solution.chosen)
    way = tuple(option_name(copy.name, "", AGAIN) in names for copy in copies)
    assert peaks[way] <= limit
    assert solution.totals is not None
    assert max(solution.totals.stage_memory_size_bytes) == peaks[way]
    least = min(sum(itertools.compress(times, one)) for one in within)
    assert sum(itertools.compress(times, way)) == pytest.approx(least)


@pytest.mark.parametrize("seed", range(15))
def test_with_weights_that_stream(seed: int) -> None:
    """Copies and residency at once, against every choice."""
    rng = np.random.default_rng(seed)
    priced = draw(rng, int(rng.integers(2, 6)), 1)
    count = len(priced)
    after = int(rng.integers(0, count - 1))
    before = int(rng.integers(after + 1, count))
    us, size = float(rng.integers(1, 80)), int(rng.integers(1, 12)) * 1000
    copy = Copy("keep", after, before, count - 1, size, 500, (Latency(us, us, us),))
    alive = [(Hold(n, min(n + 2, count), int(rng.integers(1, 5)) * 500),) for n in range(count)]
    rows = []
    for streams in itertools.product((False, True), repeat=count):
        if any(s and p.streamed is None for s, p in zip(streams, priced, strict=True)):
            continue
        kept = sum(p.weight_size_bytes(is_streamed=s) for p, s in zip(priced, streams, strict=True))
        fetched = [p.chunk.fetched_size_bytes * s for p, s in zip(priced, streams, strict=True)]
        for anew in (False, True):
            total = [fetched[n] + fetched[(n + 1) % count] for n in range(count)]
            for hold in itertools.chain(*alive):
                for n in range(hold.start, hold.end):
                    total[n] += hold.size_bytes
            for n in range(before if anew else after + 1, count):
                total[n] += size
            total[before] += 500 * anew
            spent = us * anew + sum(
                (p.streamed if s and p.streamed else p.resident)[0].expected_us
                for p, s in zip(priced, streams, strict=True)
            )
            rows.append((kept + max(total), spent, streams, anew))
    limit = int(rng.integers(min(rows)[0], max(row[0] for row in rows) + 1))
    problem = pose_residency(priced, [1.0], 0, limit, (Objective.LATENCY,), None, alive, [copy])
    solution = solve(problem, time_limit_s=10, gap=0.0)
    names = set(solution.chosen)
    runs = [name for name in problem.ops if name != "keep"]
    streams = tuple(f"{name}:{STREAMED}" in names for name in runs)
    anew = option_name("keep", "", AGAIN) in names
    found = next(row for row in rows if row[2:] == (streams, anew))
    assert solution.totals is not None
    assert max(solution.totals.stage_memory_size_bytes) == found[0] <= limit
    assert found[1] == pytest.approx(min(row[1] for row in rows if row[0] <= limit))


def test_what_is_drawn_or_needs_large_weights_is_kept(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Two tensors with the same long pause: one is drawn at random, one a product with a matrix."""
    width = 256
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["drawn"], "draw"),
        helper.make_node("MatMul", ["x", "w"], ["product"], "multiply"),
        helper.make_node("Tanh", ["x"], ["cheap"], "tanh"),
        *(helper.make_node("ReduceMean", [n], [f"mean_{n}"], f"mean_{n}", keepdims=0)
          for n in ("drawn", "product", "cheap")),
        *(helper.make_node("Mul", [n, f"mean_{n}"], [f"late_{n}"], f"late_{n}")
          for n in ("drawn", "product", "cheap")),
        helper.make_node("Sum", [f"late_{n}" for n in ("drawn", "product", "cheap")], ["y"], "sum"),
    ]  # fmt: skip
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [width, width])],
        [value("y", TensorProto.FLOAT, [width, width])],
        [numpy_helper.from_array(np.zeros((width, width), np.float32), "w")],
    )  # fmt: skip
    path = tmp_path_factory.mktemp("m") / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    _, (found,) = read(path)
    chosen = [each.recorded for each in candidates(found, sizes_of(found), least=1000)]
    assert [each.tensor for each in chosen] == ["cheap"]
    assert chosen[0].ops == ("tanh",)
    assert chosen[0].readers == ("late_cheap",)
    assert peak_activation_bytes(copied(found, chosen)) <= peak_activation_bytes(found)
