"""A model whose weights are absent, as a dry run tells it: read, counted, and nothing measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from planner.graph.analysis import peak_activation_bytes
from planner.graph.blocks import Repeat
from planner.graph.skeleton import Skeleton, Weight, load_skeleton
from planner.ir.graph import Graph, Op
from planner.ops.work import work_of
from planner.spec.constraints import Constraints
from planner.spec.formats import Format
from planner.spec.plan import WorkloadShape
from planner.spec.reading import Reading, RepeatedBlock, ShapeWork
from planner.spec.verdict import DryRun
from planner.steps.request import refuse_unknown_device, unmet_pins

_MATRIX_BITS = {
    Format.FP16: 16.0,
    Format.FP8: 8.0,
    Format.INT8: 8.0,
    Format.INT4_WO: 4.0,
    Format.SPARSE_2_4: 16.0 / 2 + 2 * 2 / 4,
}
"""Bits of one element of a matrix: 2:4 keeps two of four 16-bit values and two 2-bit positions
(Mishra et al. 2021, Accelerating Sparse Deep Neural Networks)."""
_HALF_BITS = 16.0
"""Of what is no matrix: biases and scales stay in half precision."""


def dry_skeleton(constraints: Constraints) -> DryRun:
    """Loads, checks and counts a model whose external data may be absent.

    Raises:
        ModelError: damaged, hostile or unbound model.
        UsageError: a device nobody knows.
    """
    refuse_unknown_device(constraints.target.device)
    workload = {entry.name: entry.shapes for entry in constraints.workload}
    skeleton = load_skeleton(constraints.model, workload)
    graph = skeleton.graph
    return DryRun(
        model=str(constraints.model),
        ops=len(graph.ops),
        parameters=skeleton.loaded.parameters,
        weights_size_bytes=graph.weights_size_bytes,
        workload=tuple(
            WorkloadShape(
                name=entry.name, shapes=_inputs(skeleton, entry.name), weight=entry.weight
            )
            for entry in constraints.workload
        ),
        warnings=(*skeleton.notes, *unmet_pins(constraints, [op.name for op in graph.ops])),
        reading=_reading(skeleton),
    )


def _inputs(skeleton: Skeleton, name: str) -> dict[str, tuple[int, ...]]:
    graph = skeleton.graphs[name]
    shapes = {feed: graph.tensors[feed].shape for feed in graph.inputs}
    return {feed: shape for feed, shape in shapes.items() if shape is not None}


def _reading(skeleton: Skeleton) -> Reading:
    graph = skeleton.graph
    counts = Counter(op.kind for op in graph.ops)
    by_name = {op.name: op for op in graph.ops}
    return Reading(
        op_counts=dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))),
        weights=len(skeleton.weights),
        shared_weights=sum(len(weight.readers) > 1 for weight in skeleton.weights),
        format_bytes=_format_bytes(skeleton.weights),
        work=tuple(_work(skeleton, name) for name in skeleton.graphs),
        blocks=tuple(_block(repeat, graph, by_name) for repeat in skeleton.repeats),
    )


def _format_bytes(weights: tuple[Weight, ...]) -> dict[str, int]:
    """Bytes of all weights: as they are stored, then with float matrices in each format."""
    found = {"as stored": sum(weight.size_bytes for weight in weights)}
    floats = [weight for weight in weights if "float" in weight.dtype]
    other = found["as stored"] - sum(weight.size_bytes for weight in floats)
    matrices = sum(math.prod(weight.shape) for weight in floats if len(weight.shape) > 1)
    vectors = sum(math.prod(weight.shape) for weight in floats if len(weight.shape) <= 1)
    for form, bits in _MATRIX_BITS.items():
        found[str(form)] = other + math.ceil((matrices * bits + vectors * _HALF_BITS) / 8)
    return found


def _work(skeleton: Skeleton, name: str) -> ShapeWork:
    graph = skeleton.graphs[name]
    works = [work_of(op, graph.tensors, skeleton.attributes[op.name]) for op in graph.ops]
    weight_bytes = sum(work.weight_size_bytes for work in works)
    return ShapeWork(
        name=name,
        flops=float(sum(work.flops for work in works)),
        activation_bytes=sum(work.size_bytes for work in works) - weight_bytes,
        weight_bytes=weight_bytes,
        peak_activation_bytes=peak_activation_bytes(graph),
        unknown_ops=sum(not work.is_known for work in works),
    )


def _block(repeat: Repeat, graph: Graph, by_name: Mapping[str, Op]) -> RepeatedBlock:
    first = repeat.instances[0]
    reads = {name for op in first for name in by_name[op].inputs if name}
    constants = (graph.tensors[name] for name in reads if graph.tensors[name].is_constant)
    return RepeatedBlock(
        instances=len(repeat.instances),
        ops=repeat.size,
        parameters=sum(math.prod(tensor.shape or ()) for tensor in constants),
        first=first[0],
    )
