"""Stages in order, each cut into levels, each level written as one ONNX file a rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from onnx import ModelProto

from planner.emit.blueprint import Part, Talk
from planner.emit.partition.layout import WHOLE
from planner.emit.partition.outsource import outsourced
from planner.emit.partition.schedule import Converted, Level, Placed, schedule
from planner.emit.partition.write import EXTERNAL_FROM_BYTES, Weights, Writer
from planner.errors import ModelError
from planner.graph import container, infer
from planner.graph.build import read_graph
from planner.ir.graph import Graph, Op
from planner.ops.sharding import Index
from planner.spec.manifest import CollectiveSegment
from planner.spec.session import SessionSettings

Graphs = tuple[Graph, ...]
"""One model under every shape of its workload: the same operators, tensors of other sizes."""
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class StageCut:
    """What one stage runs, and how its ranks share it."""

    ranks: tuple[int, ...]
    ops: frozenset[str]
    """Names of its operators."""
    choices: Mapping[str, Index] = field(default_factory=dict)
    """Operator -> the index it is cut along; what is not in it, every rank does whole."""
    device: str = "cpu"
    threads: int = 0
    """Of each rank inside one operator; 0: as the settings say."""
    kept_whole: tuple[str, ...] = ()
    """Operators that the plan cuts and every rank does whole: blocks of their weights cannot be
    shared, or not under every shape. The answers are the same; memory and time are more than the
    plan says."""
    is_streamed: bool = False
    """Whether its weights lie beside its file and come with every run; of one rank only."""


def partition(
    model: ModelProto,
    graphs: Graphs,
    cuts: Sequence[StageCut],
    folder: Path,
    settings: SessionSettings,
    base: Path,
    *,
    maps_weights: bool = False,
) -> tuple[Part | Talk, ...]:
    """Parts and collectives in the order of execution; their files lie below `folder`.

    Args:
        model: as read from its file, external weights left where they are (below `base`).
        graphs: the same model with the shapes of all tensors, once for each workload entry.
        maps_weights: whether weights lie beside the parts' files, of whatever size: loading copies
            what a file holds, which takes memory for a moment.

    Raises:
        ModelError: an operator is in no stage, in two, or before what it reads; or an index that
            the ranks cannot share equally.
    """
    graph = graphs[0]
    _check(graph, cuts)
    weights = Weights(model, base)
    is_short = maps_weights or any(cut.is_streamed for cut in cuts)
    external = 0 if is_short else EXTERNAL_FROM_BYTES
    found: list[Part | Talk] = []
    for number, cut in enumerate(cuts):
        ops = [op for op in graph.ops if op.name in cut.ops]
        wanted = _wanted(graph, ops, cut)
        levels = schedule(ops, graph, cut.choices, wanted)
        own = settings.model_copy(
            update={
                "intra_op_threads": cut.threads or settings.intra_op_threads,
                "provider": cut.device,
            }
        )
        writer = Writer(model, graphs, weights, folder, own, external)
        found += _stage(writer, cut, number, levels, wanted)
    return tuple(found)


def read(path: Path, shapes: Sequence[Shapes] = ({},)) -> tuple[ModelProto, Graphs]:
    """A model file as `partition` takes it: types declared, weights outside left where they are.

    Args:
        shapes: of its inputs, for each workload entry; an entry without any: as the file says.

    Raises:
        ModelError: the file is damaged.
    """
    model = container.parse(path)
    infer.annotate(model)
    return model, tuple(read_graph(path, {}, given) for given in shapes)


def _check(graph: Graph, cuts: Sequence[StageCut]) -> None:
    stage_of: dict[str, int] = {}
    for number, cut in enumerate(cuts):
        for name in cut.ops:
            if name in stage_of:
                raise ModelError(f"operator {name!r} is in two stages")
            stage_of[name] = number
        _check_sharing(cut)
    made = graph.producer()
    for op in graph.ops:
        if op.name not in stage_of:
            raise ModelError(f"operator {op.name!r} is in no stage")
        for tensor in (*op.inputs, *op.captured):
            if tensor in made and stage_of[made[tensor].name] > stage_of[op.name]:
                raise ModelError(f"operator {op.name!r} stands before what makes {tensor!r}")


def _check_sharing(cut: StageCut) -> None:
    if cut.is_streamed and len(cut.ranks) > 1:
        raise ModelError(f"{len(cut.ranks)} ranks cannot stream the weights of one stage")
    for name, index in cut.choices.items():
        if index.extent % len(cut.ranks):
            raise ModelError(
                f"operator {name!r}: {index.extent} cannot be shared by {len(cut.ranks)} ranks"
            )


def _wanted(graph: Graph, ops: Sequence[Op], cut: StageCut) -> list[str]:
    """What others read of a stage."""
    readers = graph.consumers()
    return [
        name
        for op in ops
        for name in op.outputs
        if name in graph.outputs
        or any(reader.name not in cut.ops for reader in readers.get(name, ()))
    ]


def _stage(
    writer: Writer, cut: StageCut, number: int, levels: Sequence[Level], wanted: Sequence[str]
) -> Iterator[Part | Talk]:
    later = _needed_later(levels, wanted)
    for place, level in enumerate(levels):
        if level.ops:
            part = writer.part(cut.ranks, cut.device, f"{number}-{place}", level, later[place])
            yield outsourced(part) if cut.is_streamed else part
        for one in level.after:
            yield Talk(_segment(one), cut.device, cut.ranks)


def _segment(one: Converted) -> CollectiveSegment:
    return CollectiveSegment(
        operation=one.step.operation,
        tensor=one.step.source.name(one.tensor),
        result=one.step.target.name(one.tensor),
        axis=one.step.axis,
    )


def _needed_later(levels: Sequence[Level], wanted: Sequence[str]) -> list[set[str]]:
    """For each level, the names that its collectives, later levels and others read."""
    needed = {WHOLE.name(name) for name in wanted}
    found: list[set[str]] = []
    for level in reversed(levels):
        needed |= {one.step.source.name(one.tensor) for one in level.after}
        found.append(set(needed))
        for entry in level.ops:
            needed |= set(_reads(entry))
    return found[::-1]


def _reads(entry: Placed | Converted) -> Iterator[str]:
    if isinstance(entry, Converted):
        yield entry.step.source.name(entry.tensor)
        return
    for name, layout in zip(entry.op.inputs, entry.inputs, strict=True):
        if name:
            yield layout.name(name)
    yield from entry.op.captured
