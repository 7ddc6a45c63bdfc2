"""One candidate operator alone: run without the rest of the model, its weights fed like inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import ModelProto, NodeProto, helper

from planner.compress import surgery
from planner.compress.base import Array, Calibration, Format, Method, OpCall
from planner.compress.pooled import PooledError
from planner.compress.probe import quiet_settings
from planner.compress.switchboard import Switchboard
from planner.errors import UsageError
from planner.ir.graph import Graph, Op
from planner.runtime import dtypes
from planner.runtime.ort import make_session
from planner.spec.session import SessionSettings


@dataclass(frozen=True, slots=True)
class Unit:
    """One candidate operator."""

    op: Op
    node: NodeProto
    opsets: Sequence[Any]
    ir_version: int
    input_types: tuple[int, ...]
    """ONNX element type by input position (0 for an omitted input)."""
    made: tuple[str, ...]
    """Its float outputs."""
    recorded: tuple[str, ...]
    """Activations it reads and makes."""
    formats: tuple[Format, ...]

    def kernel(self, session: SessionSettings) -> Any:
        """The operator alone; all its inputs, weights included, are fed."""
        node = _copy(self.node)
        inputs = []
        for i, name in enumerate(node.input):
            if name:
                node.input[i] = f"in{i}"
                inputs.append(helper.make_tensor_value_info(f"in{i}", self.input_types[i], None))
        outputs = [helper.make_empty_tensor_value_info(name) for name in self.made]
        model = helper.make_model(
            helper.make_graph([node], "op", inputs, outputs),
            opset_imports=self.opsets,
            ir_version=self.ir_version,
        )
        return make_session(model.SerializeToString(), quiet_settings(session))


class UnitBench:
    """One candidate operator between its recorded inputs and the switchboard."""

    def __init__(
        self,
        unit: Unit,
        board: Switchboard,
        records: Sequence[Mapping[str, Array]],
        weights: Mapping[str, Array],
        calibration: Calibration,
        session: SessionSettings,
    ) -> None:
        self.unit, self.board, self.records = unit, board, records
        self.weights, self.ranges = weights, calibration.ranges
        self.shifts = calibration.smoothing.get(unit.op.name, "")
        self.kernel = unit.kernel(session)

    def error_of(self, method: Method, runs: int) -> float:
        """Output NMSE of the operator in the method's format."""
        error = PooledError()
        segment = self.board.segment_of[self.unit.op.name]
        constants: dict[int, Array] = {}
        for run in range(runs):
            deltas = self._deltas(method, self.records[run], constants)
            error.add(self.board.reference(run), self.board.disturbed(segment, run, deltas))
        return error.worst

    def _deltas(
        self, method: Method, values: Mapping[str, Array], constants: dict[int, Array]
    ) -> dict[str, Array]:
        """Output differences on one run's values; `constants` keeps the rounded weights between
        the runs of one format (rounding them costs more than the operator)."""
        unit, weights = self.unit, self.weights
        known = {} if constants else weights
        inputs = tuple(known.get(n, values.get(n)) if n else None for n in unit.op.inputs)
        constant = tuple(n in weights for n in unit.op.inputs)
        call = OpCall(unit.op, surgery.attributes_of(unit.node), inputs, constant, self.shifts)
        rounded = method.simulate(call, self.ranges)
        fed = {i: value for i, value in enumerate(rounded.inputs) if value is not None}
        constants.update({i: value for i, value in fed.items() if constant[i]})
        feeds = {f"in{i}": value for i, value in {**fed, **constants}.items()}
        made = self.kernel.run(list(unit.made), feeds)
        return {
            name: method.simulate_output(unit.op, name, value, self.ranges) - values[name]
            for name, value in zip(unit.made, made, strict=True)
        }


def units_of(
    onnx_model: ModelProto, graph: Graph, formats: Mapping[str, Sequence[Format]]
) -> list[Unit]:
    nodes = {node.name: node for node in onnx_model.graph.node}
    for name in formats:
        if name not in nodes:
            raise UsageError(f"the model has no operator {name!r}")
    numbers = {t.name: t.data_type for t in onnx_model.graph.initializer}
    units = []
    for op in (op for op in graph.ops if op.name in formats):
        made = tuple(n for n in op.outputs if n and graph.tensors[n].dtype == "float32")
        reads = tuple(n for n in op.inputs if n and n not in numbers)
        units.append(
            Unit(
                op,
                _copy(nodes[op.name]),
                list(onnx_model.opset_import),
                onnx_model.ir_version,
                tuple(_number(n, numbers, graph) for n in op.inputs),
                made,
                tuple(dict.fromkeys((*reads, *made))),
                tuple(formats[op.name]),
            )
        )
    return units


def _copy(node: NodeProto) -> NodeProto:
    copied = NodeProto()
    copied.CopyFrom(node)
    return copied


def _number(name: str, numbers: Mapping[str, int], graph: Graph) -> int:
    if not name:
        return 0
    if name in numbers:
        return numbers[name]
    return int(helper.np_dtype_to_tensor_dtype(dtypes.numpy_dtype(graph.tensors[name].dtype)))
