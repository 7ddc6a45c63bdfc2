"""Operators of a file as the sharding rules see them, and cuts of a plan as indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import ModelProto, TensorProto, helper, numpy_helper

from planner.emit.partition.adopt import adopted
from planner.emit.partition.local import can_localise
from planner.emit.partition.stages import Graphs, StageCut
from planner.errors import VerificationError
from planner.graph import proto
from planner.ir.graph import Graph, Op
from planner.ops.sharding import Call, Index, indices
from planner.spec.execution import Cut, StageExecution

_MOST_VALUES = 64
"""Elements of integer operands that rules may look at: no operator has more axes."""
_PACKED_ENDINGS = ("_Q4", "_Q8", "_Q4__int4_wo", "_Q8__int8_wo", "_quant")
"""What ONNX Runtime's tools add to the name of a product whose weights they pack, and building
several formats behind it."""


def options(model: ModelProto, graphs: Graphs) -> dict[str, tuple[Index, ...]]:
    """Operator -> every index that its ranks could share; empty where it stays whole.

    One file serves every shape of a workload: an index must be the same under all of them, so that
    what is cut are sizes that no shape changes.
    """
    first, *others = [_under(model, graph) for graph in graphs]
    if not others:
        return first
    return {
        op.name: tuple(
            index
            for index in first[op.name]
            if all(index in other[op.name] for other in others) and can_localise(op, index, graphs)
        )
        for op in graphs[0].ops
    }


def _under(model: ModelProto, graph: Graph) -> dict[str, tuple[Index, ...]]:
    """Under one shape."""
    nodes = {node.name: node for node in model.graph.node}
    values = _small_values(model)

    def call(op: Op) -> Call:
        return Call(
            op.kind,
            tuple(graph.tensors[name].shape if name else None for name in op.inputs),
            tuple(graph.tensors[name].shape if name else None for name in op.outputs),
            {a.name: helper.get_attribute_value(a) for a in nodes[op.name].attribute},
            tuple(values.get(name) for name in op.inputs),
        )

    return {op.name: (indices(call(op)) or ()) if _is_static(op, graph) else () for op in graph.ops}


def _is_static(op: Op, graph: Graph) -> bool:
    names = [name for name in (*op.inputs, *op.outputs) if name]
    return not op.captured and all(graph.tensors[name].shape is not None for name in names)


def _small_values(model: ModelProto) -> dict[str, tuple[int, ...]]:
    return {
        tensor.name: tuple(int(item) for item in numpy_helper.to_array(tensor).reshape(-1))
        for tensor in model.graph.initializer
        if tensor.data_location != TensorProto.EXTERNAL
        and proto.dtype_name(tensor.data_type) in ("int32", "int64")
        and len(tensor.dims) <= 1
        and sum(tensor.dims) <= _MOST_VALUES
    }


def cut_of(index: Index) -> Cut:
    """How a plan names an index."""
    return Cut(
        kind=index.kind.value,
        operands=tuple((axis.slot, axis.axis) for axis in index.inputs),
        results=tuple((axis.slot, axis.axis) for axis in index.outputs),
    )


def stage_cuts(
    model: ModelProto, graphs: Graphs, execution: Sequence[StageExecution]
) -> tuple[StageCut, ...]:
    """A plan's stages as `partition` takes them; operators that it does not name join theirs.

    Raises:
        VerificationError: an operator is to be cut as it cannot be.
    """
    known = options(model, graphs)
    ways = [_under(model, graph) for graph in (graphs if len(graphs) > 1 else ())]
    named = tuple(_stage_cut(stage, known, ways) for stage in execution)
    return adopted(graphs[0], named, known)


Known = Mapping[str, Sequence[Index]]


def _stage_cut(stage: StageExecution, known: Known, ways: Sequence[Known]) -> StageCut:
    bound = {op for op, cut in stage.cuts.items() if _is_bound(op, cut, known, ways)}
    cuts = {op: cut for op, cut in stage.cuts.items() if op not in bound}
    stage = stage.model_copy(update={"cuts": cuts})
    choices = _choices(stage, known)
    packed = ((op, _built(op, known)) for op in stage.cuts if op not in known)
    return StageCut(
        ranks=stage.ranks,
        ops=frozenset(_built(op, known) for op in stage.ops),
        choices=choices,
        device=stage.device,
        threads=stage.threads,
        is_streamed=stage.is_streamed,
        kept_whole=(
            *sorted(bound),
            *(op for op, name in packed if name in known and name not in choices),
        ),
    )


def _is_bound(op: str, cut: Cut, known: Known, ways: Sequence[Known]) -> bool:
    """Whether an operator can be cut so under some shape of the workload, and not under all."""
    if any(cut_of(index) == cut for index in known.get(op, ())):
        return False
    return any(cut_of(index) == cut for way in ways for index in way.get(op, ()))


def _choices(stage: StageExecution, known: Mapping[str, Sequence[Index]]) -> dict[str, Index]:
    found: dict[str, Index] = {}
    for op, cut in stage.cuts.items():
        if op in known:
            found[op] = _index(op, cut, known)
            continue
        name = _built(op, known)
        index = _alike(cut, known.get(name, ()), len(stage.ranks))
        if index is not None:
            found[name] = index
    return found


def _built(op: str, known: Mapping[str, Sequence[Index]]) -> str:
    """The operator that stands for a plan's: packing weights renames their product."""
    packed = (f"{op}{ending}" for ending in _PACKED_ENDINGS)
    return op if op in known else next((name for name in packed if name in known), op)


def _alike(cut: Cut, options: Sequence[Index], ranks: int) -> Index | None:
    """The index of a packed product that makes what the plain one's cut makes; None where its
    blocks cannot be shared."""
    found = (i for i in options if i.kind.value == cut.kind and i.extent % ranks == 0)
    return next((i for i in found if cut_of(i).results == cut.results), None)


def _index(op: str, cut: Cut, known: Mapping[str, Sequence[Index]]) -> Index:
    found = next((index for index in known.get(op, ()) if cut_of(index) == cut), None)
    if found is None:
        raise VerificationError(
            f"operator {op!r} cannot be cut along {cut.operands}", fix="plan again"
        )
    return found
