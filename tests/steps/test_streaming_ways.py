"""The same runs in every format: what is mixed run by run computes what the whole does."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from planner.compress.apply import apply
from planner.compress.base import Format
from planner.emit.partition import partition, read, stage_cuts, streamable
from planner.graph.analysis import reads
from planner.ir.graph import Graph
from planner.place.chunks import Chunk, described
from planner.runtime.ort import make_session
from planner.runtime.streaming.mapped import Mapped
from planner.spec.execution import StageExecution
from planner.steps.streaming.ways import runs_in
from tests.runtime.build import SETTINGS
from tests.runtime.test_streaming import stack

FORMATS = (None, Format.INT8_DYNAMIC, Format.INT8_WO, Format.INT4_WO)


def cut_at_random(graph: Graph, rng: np.random.Generator) -> list[Chunk]:
    ends = sorted({len(graph.ops), *map(int, rng.integers(1, len(graph.ops), 4))})
    return [described(graph, graph.ops[a:b], {}, ()) for a, b in pairwise([0, *ends])]


def mixed(folder: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    """The model as it was, and with products in formats drawn at random."""
    base, made = folder / "base.onnx", folder / "mixed.onnx"
    model = stack(5, 256, 700)
    onnx.save(model, base)
    products = [node.name for node in model.graph.node if node.op_type == "MatMul"]
    drawn = {op: FORMATS[int(rng.integers(len(FORMATS)))] for op in products}
    apply(base, {op: form for op, form in drawn.items() if form is not None}, {}, made)
    return base, made


def ran(parts: Any, feeds: dict[str, Any]) -> dict[str, Any]:
    alive = dict(feeds)
    for part in parts:
        given = {name: alive[name] for name in part.inputs}
        if part.outside is not None:
            given |= Mapped(part.outside.path, part.outside.tensors).arrays
        session = make_session(part.onnx_path, part.settings)
        alive |= dict(zip(part.outputs, session.run(list(part.outputs), given), strict=True))
    return alive


@pytest.mark.parametrize("seed", range(6))
def test_any_mix_run_by_run_answers_as_the_whole(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    base, made = mixed(tmp_path, rng)
    _, (graph,) = read(base)
    proto, (other,) = read(made)
    runs = cut_at_random(graph, rng)
    owned = runs_in(other, graph, runs)
    number_of = {op: number for number, ops in enumerate(owned) for op in ops}
    assert sorted(number_of) == sorted(op.name for op in other.ops)
    makers = other.producer()
    for op in other.ops:
        early = [makers[name].name for name in reads(op) if name in makers]
        assert all(number_of[name] <= number_of[op.name] for name in early)
    for number, run in enumerate(runs):
        wanted = {name for op in graph.ops if op.name in run.ops for name in op.outputs}
        kept = wanted & makers.keys()
        assert {number_of[makers[name].name] for name in kept} <= {number}
    assert streamable(proto)[0]
    stages = [StageExecution(ops=ops, is_streamed=bool(rng.random() < 0.5)) for ops in owned if ops]
    cuts = stage_cuts(proto, (other,), stages)
    parts = partition(proto, (other,), cuts, tmp_path / "parts", SETTINGS, tmp_path)
    ids = {"ids": np.arange(6, dtype=np.int64)}
    whole = make_session(made, SETTINGS).run(["x5"], ids)[0]
    # Integer kernels round activations by the way that ONNX Runtime fuses them.
    error = np.square(ran(parts, ids)["x5"] - whole).sum() / np.square(whole).sum()
    assert error < 1e-4
