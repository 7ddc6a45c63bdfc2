"""Error at the model's outputs if exactly one operator takes a format, for many (operator, format).

Nothing is built per choice. One *switchboard* session holds the model once, with an addition behind
every candidate operator,

    t  ->  t_clean + delta_t        (delta_t: a model input, 0 unless its operator is asked)

and each candidate operator alone, without weights, is a tiny session of its own. For a choice the
method rounds the operator's recorded inputs and weights in NumPy, the tiny session computes its
output from them, and the switchboard run with that output's difference gives the error at the end.

Memory: the model once, plus recorded activations of a group of operators within a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from planner.compress import surgery
from planner.compress.base import NATIVE, Array, Format, Method, OpCall, Range
from planner.compress.methods import method_of
from planner.compress.pooled import PooledError, named
from planner.compress.probe import groups_within, quiet_settings, session_of, size_of
from planner.compress.samples import Samples
from planner.errors import UsageError
from planner.ir.graph import Graph, Op
from planner.progress import Reporter, Silent
from planner.runtime.ort import make_session
from planner.spec.session import SessionSettings

Choice = tuple[str, Format]
_CALL_MULTIPLICATIONS = 4e5
"""What calling one operator costs, in multiplications: 10 us at 4e10 per second."""
_ZERO = np.zeros((), np.float32)


@dataclass(frozen=True, slots=True)
class SensitivitySettings:
    """What sensitivities depend on besides model, samples and ranges."""

    max_runs: int = 64
    """Runs of the samples used at most, spread evenly; fewer where the model is costly."""
    max_multiplications: float = 3e11
    """Limit on the work of all choices together (about 10 s on two cores): bounds the runs used.
    Counted, not timed, so that the same request always measures the same."""
    memory_size_bytes: int = 256 << 20
    """Recorded activations held at once."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Where values measured before are found and new ones are kept; keys are (operator, format)."""

    lookup: Callable[[Choice], float | None] = lambda choice: None
    store: Callable[[Choice, float], None] = lambda choice, value: None


def sensitivities(
    model_path: Path,
    graph: Graph,
    choices: Sequence[Choice],
    samples: Samples,
    ranges: Mapping[str, Range],
    session: SessionSettings,
    settings: SensitivitySettings = SensitivitySettings(),
    memory: Memory = Memory(),
    reporter: Reporter = Silent(),  # noqa: B008 (stateless)
) -> dict[Choice, float]:
    """Output NMSE (the worst output's) of each choice alone, everything else native.

    Raises:
        UsageError: an operator or format that does not exist.
    """
    found: dict[Choice, float] = {c: 0.0 for c in choices if c[1] == NATIVE}
    for choice in choices:
        known = memory.lookup(choice) if choice not in found else None
        if known is not None:
            found[choice] = known
    missing = [choice for choice in choices if choice not in found]
    if missing:
        used = samples.whole_runs().first(affordable_runs(graph, len(missing), settings))
        for choice, value in _measure(model_path, graph, missing, used, ranges, session, settings):
            found[choice] = value
            memory.store(choice, value)
            reporter.progress(len(found), len(choices), choice[0])
    return {choice: found[choice] for choice in choices}


def affordable_runs(graph: Graph, choices: int, settings: SensitivitySettings) -> int:
    """Runs of samples that the work limit allows, at least 1."""
    per_run = multiplications(graph) + _CALL_MULTIPLICATIONS * len(graph.ops)
    allowed = int(settings.max_multiplications / max(per_run * choices, 1.0))
    return max(1, min(settings.max_runs, allowed))


def multiplications(graph: Graph) -> float:
    """Multiplications of one run: output elements times the weights behind each."""
    return sum(_op_multiplications(op, graph) for op in graph.ops)


def _op_multiplications(op: Op, graph: Graph) -> float:
    output = graph.tensors.get(op.outputs[0]) if op.outputs else None
    elements = output.size_bytes / 4 if output else 0.0
    weight = graph.tensors.get(op.inputs[1]) if len(op.inputs) > 1 else None
    if weight is None or weight.shape is None or not weight.shape:
        return elements
    if op.kind == "Conv":
        return elements * float(np.prod(weight.shape[1:]))
    if op.kind in ("MatMul", "Gemm"):
        first = graph.tensors.get(op.inputs[0])
        return elements * float(first.shape[-1] if first and first.shape else 1)
    if op.kind in ("LSTM", "GRU", "RNN"):
        return elements * 4 * float(weight.shape[-1])
    return elements


def _measure(
    model_path: Path,
    graph: Graph,
    choices: Sequence[Choice],
    samples: Samples,
    ranges: Mapping[str, Range],
    session: SessionSettings,
    settings: SensitivitySettings,
) -> Iterator[tuple[Choice, float]]:
    formats: dict[str, list[Format]] = {}
    for op_name, form in choices:
        formats.setdefault(op_name, []).append(form)
    onnx_model = onnx.load(model_path)
    units = _units(onnx_model, graph, formats)
    weights = {
        name: surgery.to_array(tensor)
        for name, tensor in surgery.initialisers(onnx_model).items()
        if any(name in unit.op.inputs for unit in units)
    }
    injected = _add_switches(onnx_model, units)
    per_run = size_of(graph.tensors)

    def recorded(name: str) -> int:
        unit = by_name[name]
        return samples.runs * sum(per_run(tensor) for tensor in unit.recorded)

    by_name = {unit.op.name: unit for unit in units}
    zeros = dict.fromkeys(injected.values(), _ZERO)
    with session_of(onnx_model, quiet_settings(session)) as board:
        outputs = [value.name for value in board.get_outputs()][: len(graph.outputs)]
        for group in groups_within(list(by_name), recorded, settings.memory_size_bytes):
            members = [by_name[name] for name in group]
            record = _Record.of(board, outputs, members, samples, zeros)
            for unit in members:
                kernel = unit.kernel(session)
                for form in unit.formats:
                    error = PooledError()
                    for run, feeds in enumerate(samples):
                        deltas = _deltas(
                            unit, method_of(form), kernel, record.values[run], weights, ranges
                        )
                        changed = {injected[name]: value for name, value in deltas.items()}
                        values = board.run(outputs, {**zeros, **feeds, **changed})
                        error.add(record.outputs[run], named(outputs, values))
                    yield (unit.op.name, form), error.worst


@dataclass(frozen=True, slots=True)
class _Unit:
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
        alone = quiet_settings(session).model_copy(update={"intra_op_threads": 1})
        return make_session(model.SerializeToString(), alone)


@dataclass(frozen=True, slots=True)
class _Record:
    """What a reference run left behind: per run, outputs and recorded activations by name."""

    outputs: list[dict[str, Any]]
    values: list[dict[str, Array]]

    @staticmethod
    def of(
        board: Any,
        outputs: Sequence[str],
        units: Sequence[_Unit],
        samples: Samples,
        zeros: Mapping[str, Array],
    ) -> _Record:
        names = sorted({name for unit in units for name in unit.recorded})
        fetched = [name for name in names if name not in samples.arrays]
        record = _Record([], [])
        for feeds in samples:
            values = board.run([*outputs, *fetched], {**zeros, **feeds})
            record.outputs.append(named(outputs, values[: len(outputs)]))
            kept = named(fetched, values[len(outputs) :])
            kept.update({name: feeds[name] for name in names if name in feeds})
            record.values.append(kept)
        return record


def _units(
    onnx_model: ModelProto, graph: Graph, formats: Mapping[str, Sequence[Format]]
) -> list[_Unit]:
    nodes = {node.name: node for node in onnx_model.graph.node}
    for name in formats:
        if name not in nodes:
            raise UsageError(f"the model has no operator {name!r}")
    numbers = {t.name: t.data_type for t in onnx_model.graph.initializer}
    units = []
    for op in graph.ops:
        if op.name not in formats:
            continue
        made = tuple(n for n in op.outputs if n and _is_float(graph, n))
        reads = tuple(n for n in op.inputs if n and n not in numbers)
        types = tuple(
            numbers[n] if n in numbers else _number(graph, n) if n else 0 for n in op.inputs
        )
        units.append(
            _Unit(
                op,
                _copy(nodes[op.name]),
                list(onnx_model.opset_import),
                onnx_model.ir_version,
                types,
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


def _is_float(graph: Graph, name: str) -> bool:
    return name in graph.tensors and graph.tensors[name].dtype == "float32"


def _number(graph: Graph, name: str) -> int:
    dtype = graph.tensors[name].dtype
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _add_switches(onnx_model: ModelProto, units: Sequence[_Unit]) -> dict[str, str]:
    """Put the additions behind the candidates and expose what is recorded; tensor -> its switch."""
    injected = {name: f"{name}__delta" for unit in units for name in unit.made}
    graph = onnx_model.graph
    additions = []
    for node in graph.node:
        for i, name in enumerate(node.output):
            if name in injected:
                node.output[i] = f"{name}__clean"
                additions.append(
                    helper.make_node("Add", [f"{name}__clean", injected[name]], [name])
                )
    graph.node.extend(additions)
    graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in injected.values()
    )
    present = {value.name for value in (*graph.output, *graph.input)}
    exposed = dict.fromkeys(name for unit in units for name in unit.recorded)
    graph.output.extend(
        helper.make_empty_tensor_value_info(name) for name in exposed if name not in present
    )
    graph.ClearField("value_info")
    surgery.name_nodes(graph)
    surgery.sort_nodes(graph)
    return injected


def _deltas(
    unit: _Unit,
    method: Method,
    kernel: Any,
    values: Mapping[str, Array],
    weights: Mapping[str, Array],
    ranges: Mapping[str, Range],
) -> dict[str, Array]:
    """Output differences of one operator in one format on one run's inputs."""
    names = unit.op.inputs
    call = OpCall(
        unit.op,
        surgery.attributes_of(unit.node),
        tuple((weights[n] if n in weights else values[n]) if n else None for n in names),
        tuple(n in weights for n in names),
    )
    rounded = method.simulate(call, ranges)
    feeds = {f"in{i}": value for i, value in enumerate(rounded.inputs) if value is not None}
    made = kernel.run(list(unit.made), feeds)
    return {
        name: method.simulate_output(unit.op, name, value, ranges) - values[name]
        for name, value in zip(unit.made, made, strict=True)
    }
