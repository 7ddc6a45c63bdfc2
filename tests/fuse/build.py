"""Models, their graphs, and what ONNX Runtime makes of them, cut into regions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import onnx
import onnxruntime as ort
import pytest

from planner.compress.apply import apply
from planner.compress.base import BuildSettings, Format
from planner.fuse.forms import Forms, resolve
from planner.fuse.regions import Partition, partition
from planner.graph.build import read_graph
from planner.ir.graph import Graph
from planner.ir.problem import State
from planner.profiling import analyse as analysing
from planner.profiling.analyse import analyse, quiet_options
from planner.profiling.kernel import Kernel
from tests.profiling.build import Array

PLAIN = "plain"


@pytest.fixture
def own_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared thread pool exists in a measuring process only."""

    def options(level: str) -> ort.SessionOptions:
        made = quiet_options(level)
        made.use_per_session_threads = True
        made.intra_op_num_threads = 1
        return made

    monkeypatch.setattr(analysing, "quiet_options", options)


@dataclass(frozen=True)
class Cut:
    """A model, a variant of it as ONNX Runtime optimised it, and the regions found."""

    graph: Graph
    kernels: Sequence[Kernel]
    forms: Forms
    found: Partition

    @property
    def types(self) -> list[str]:
        """Types of the kernels, in order."""
        return [kernel.op_type for kernel in self.kernels]

    @property
    def groups(self) -> set[frozenset[str]]:
        """Operators of each region."""
        return {frozenset(region.ops) for region in self.found.regions}

    def region_of(self, op: str) -> frozenset[str]:
        """The operators that share a region with this one."""
        return next(group for group in self.groups if op in group)


def cut(
    folder: Path,
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    level: str = "all",
    assignment: Mapping[str, Format] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Cut:
    """Writes, compresses, optimises and cuts a model."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    graph = read_graph(path, {})
    variant, nodes = path, graph.ops
    if assignment:
        variant = folder / "variant.onnx"
        apply(path, dict(assignment), dict(ranges or {}), variant, BuildSettings())
        nodes = read_graph(variant, {}).ops
    found = analyse(variant, level, feeds, folder)
    forms = resolve(graph, nodes, found.kernels)
    captured = [kernel.captured for kernel in found.kernels]
    constants = frozenset(found.constants)
    regions = partition(graph, found.kernels, forms, captured, constants)
    return Cut(graph, found.kernels, forms, regions)


def check(made: Cut) -> None:
    """What holds of every cut."""
    _every_operator_once(made)
    _every_kernel_once(made)
    _no_cycle(made)
    _every_need_is_met(made)


def _every_operator_once(made: Cut) -> None:
    ops = [op for region in made.found.regions for op in region.ops]
    assert sorted(ops) == sorted(op.name for op in made.graph.ops)
    position = {op.name: index for index, op in enumerate(made.graph.ops)}
    for region in made.found.regions:
        assert list(region.ops) == sorted(region.ops, key=position.__getitem__)


def _every_kernel_once(made: Cut) -> None:
    used = [index for region in made.found.regions for index in region.kernels]
    used += [change.kernel for change in made.found.changes]
    assert sorted(used) == list(range(len(made.kernels)))


def _no_cycle(made: Cut) -> None:
    home = {op: n for n, region in enumerate(made.found.regions) for op in region.ops}
    producer = made.graph.producer()
    quotient: nx.DiGraph[int] = nx.DiGraph()
    for op in made.graph.ops:
        for name in (*op.inputs, *op.captured):
            if name in producer and home[producer[name].name] != home[op.name]:
                quotient.add_edge(home[producer[name].name], home[op.name])
    assert all(len(found) == 1 for found in nx.strongly_connected_components(quotient))


def _every_need_is_met(made: Cut) -> None:
    """In some order, each region and change finds all it needs, and the outputs come out."""
    have = {State(name, PLAIN) for name in made.graph.inputs}
    steps: list[tuple[Iterable[State], Iterable[State]]] = [
        (region.needs, region.makes) for region in made.found.regions
    ]
    steps += [((change.source,), (change.target,)) for change in made.found.changes]
    while ready := [step for step in steps if set(step[0]) <= have]:
        steps = [step for step in steps if step not in ready]
        have.update(state for _, made_states in ready for state in made_states)
    assert not steps, f"never met: {[set(needs) - have for needs, _ in steps]}"
    produced = made.graph.producer()
    assert {State(name, PLAIN) for name in made.graph.outputs if name in produced} <= have
