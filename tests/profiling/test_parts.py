"""Parts of ranks are timed on real values, and what passes between processes is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from planner.emit.partition import StageCut, partition, read
from planner.profiling.parts import time_parts
from planner.runtime.ranks.bench import Links
from tests.emit.test_partition import MODELS, feeds_of, options, whole
from tests.runtime.build import SETTINGS


@pytest.mark.parametrize(("stages", "polls"), [(1, False), (2, True)])
def test_parts_are_timed_on_what_they_would_get(tmp_path: Path, stages: int, polls: bool) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(MODELS["block"], path)
    model, (graph,) = read(path)
    names = [op.name for op in graph.ops]
    known = options(model, graph)
    if stages == 1:
        cuts = [StageCut((0, 1), frozenset(names), {n: known[n][0] for n in names if known[n]})]
    else:
        cuts = [StageCut((0,), frozenset(names[:9])), StageCut((1,), frozenset(names[9:]))]
    parts = partition(model, (graph,), cuts, tmp_path / "parts", SETTINGS, tmp_path)
    feeds = feeds_of(MODELS["block"], 3)
    found = time_parts(parts, feeds, 2, polls)
    for name, value in whole(path, feeds).items():
        np.testing.assert_allclose(found.outputs[name], value, rtol=2e-4, atol=2e-4)
    assert all(0 < low <= middle <= high for low, middle, high in found.parts_us)
    assert bool(found.talks) == (stages == 1)
    assert bool(found.crossings) == (stages == 2)
    readers = {
        rank for part in parts if "ids" in getattr(part, "inputs", ()) for rank in part.ranks
    }
    assert found.fed_bytes == len(readers) * feeds["ids"].nbytes


def test_driving_costs_what_was_measured_at_the_nearest_sizes() -> None:
    """Half of what is handed over goes each way."""
    links = Links("mpi", 2, {}, {1000: (1.0, 2.0, 3.0), 3000: (3.0, 4.0, 5.0)})
    assert links.driven_us(2000.0) == (1.0, 2.0, 3.0)
    assert links.driven_us(4000.0) == (2.0, 3.0, 4.0)
    assert links.driven_us(12000.0) == (6.0, 8.0, 10.0)
