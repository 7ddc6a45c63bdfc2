"""A model whose operators' outputs can be disturbed one at a time, without building it again.

Behind every candidate operator stands an addition,

    t  ->  t_clean + delta_t        (delta_t: a model input, 0 unless its operator is asked)

and the model is cut into consecutive segments, a session each: a disturbance only runs the segment
it falls in and those behind; what crosses into it is remembered from the undisturbed run. That
halves the work. The weights are in memory once, whichever segment they belong to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from planner.compress import surgery
from planner.compress.base import Array
from planner.compress.probe import Probe, quiet_settings, run_session, session_of, size_of
from planner.compress.samples import Samples
from planner.ir.graph import Graph
from planner.runtime import dtypes
from planner.spec.session import SessionSettings

MAX_SEGMENTS = 8
"""More save little: the mean work falls as (n + 1) / 2n, and each boundary is kept in memory."""
_OPS_PER_SEGMENT = 8
_ZERO = np.zeros((), np.float32)


@dataclass(frozen=True, slots=True)
class _Segment:
    """Consecutive nodes with the names they exchange with the rest."""

    nodes: tuple[NodeProto, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    """What later segments or the caller read."""


@dataclass(slots=True)
class Switchboard:
    """Sessions of the segments, and what the undisturbed runs left at their borders."""

    segments: Sequence[_Segment]
    sessions: Sequence[Probe]
    segment_of: Mapping[str, int]
    """Operator name -> segment."""
    switches: Mapping[str, str]
    """Tensor -> the input that disturbs it."""
    outputs: tuple[str, ...]
    """The model's outputs that are computed at all."""
    states: list[dict[str, Array]]
    """Per run: inputs and border tensors, undisturbed."""

    def recorded(self, segment: int, run: int, names: Sequence[str]) -> dict[str, Array]:
        """Undisturbed values of tensors that the segment reads or makes."""
        state = self.states[run]
        made = [name for name in names if name not in state]
        values = self._run(segment, state, {}, made) if made else {}
        return {name: values[name] if name in values else state[name] for name in names}

    def disturbed(self, segment: int, run: int, deltas: Mapping[str, Array]) -> dict[str, Any]:
        """The model's outputs if these tensors, made in `segment`, differ by `deltas`."""
        state = dict(self.states[run])
        for i in range(segment, len(self.segments)):
            changes = deltas if i == segment else {}
            state.update(self._run(i, state, changes, self.segments[i].outputs))
        return {name: state[name] for name in self.outputs}

    def reference(self, run: int) -> dict[str, Any]:
        """The model's outputs, undisturbed."""
        return {name: self.states[run][name] for name in self.outputs}

    def _run(
        self,
        segment: int,
        state: Mapping[str, Array],
        deltas: Mapping[str, Array],
        names: Sequence[str],
    ) -> dict[str, Any]:
        switched = {self.switches[name]: value for name, value in deltas.items()}
        feeds = {
            name: state[name] if name in state else switched.get(name, _ZERO)
            for name in self.segments[segment].inputs
        }
        return run_session(self.sessions[segment], names, feeds) if names else {}


@contextlib.contextmanager
def switchboard(
    onnx_model: ModelProto,
    graph: Graph,
    candidates: Mapping[str, Sequence[str]],
    recorded: Mapping[str, Sequence[str]],
    samples: Samples,
    session: SessionSettings,
    cost: Callable[[str], float],
    memory_size_bytes: int,
    source: Path,
) -> Iterator[Switchboard]:
    """Build it and run it undisturbed on every sample; takes the weights out of `onnx_model`, but
    for those that it only refers to, in the folder `source`.

    `candidates`: operator -> outputs that may be disturbed; `recorded`: operator -> tensors that
    will be asked for; `cost`: operator -> its share of the work, for cuts of equal work.
    """
    switches = {name: f"{name}__delta" for made in candidates.values() for name in made}
    wanted = {value.name for value in onnx_model.graph.output}
    wanted |= {name for names in recorded.values() for name in names}
    most_bytes = memory_size_bytes // max(samples.runs, 1)
    segments = _fitting(onnx_model, graph, switches, cost, most_bytes)
    with contextlib.ExitStack() as stack:
        sessions = [
            stack.enter_context(
                session_of(
                    _model_of(onnx_model, graph, part, wanted, switches),
                    quiet_settings(session),
                    source,
                )
            )
            for part in segments
        ]
        onnx_model.graph.ClearField("initializer")
        segment_of = {n.name: i for i, part in enumerate(segments) for n in part.nodes}
        made = {name for part in segments for node in part.nodes for name in node.output}
        outputs = tuple(name for name in graph.outputs if name in made)
        board = Switchboard(segments, sessions, segment_of, switches, outputs, list(samples))
        for run in range(samples.runs):
            for i, part in enumerate(segments):
                board.states[run].update(board._run(i, board.states[run], {}, part.outputs))
        yield board


def _fitting(
    onnx_model: ModelProto,
    graph: Graph,
    switches: Mapping[str, str],
    cost: Callable[[str], float],
    most_bytes: int,
) -> list[_Segment]:
    """As many segments as are worth it and whose borders can be kept, in so many bytes a run."""
    nodes = _with_switches(onnx_model, switches)
    per_run = size_of(graph.tensors)
    count = max(1, min(MAX_SEGMENTS, len(graph.ops) // _OPS_PER_SEGMENT))
    while True:
        segments = _segments(onnx_model, _cut(nodes, cost, count))
        borders = _borders(segments, switches, graph)
        held_bytes = sum(map(per_run, borders))
        if count == 1 or (_are_tensors(borders, graph) and held_bytes <= most_bytes):
            return segments
        count //= 2


def _with_switches(onnx_model: ModelProto, switches: Mapping[str, str]) -> list[NodeProto]:
    nodes: list[NodeProto] = []
    for node in onnx_model.graph.node:
        nodes.append(node)
        for i, name in enumerate(node.output):
            if name in switches:
                node.output[i] = f"{name}__clean"
                pair = [node.output[i], switches[name]]
                nodes.append(helper.make_node("Add", pair, [name], f"{name}__switch"))
    return nodes


def _cut(
    nodes: Sequence[NodeProto], cost: Callable[[str], float], count: int
) -> list[list[NodeProto]]:
    """Consecutive parts of about equal cost; an addition stays with its operator."""
    costs = [cost(node.name) for node in nodes]
    share = sum(costs) / count or 1.0
    parts: list[list[NodeProto]] = [[] for _ in range(count)]
    spent, place = 0.0, 0
    for node, own in zip(nodes, costs, strict=True):
        if not node.name.endswith("__switch"):
            place = min(int(spent / share), count - 1)
        parts[place].append(node)
        spent += own
    return [part for part in parts if part]


def _segments(onnx_model: ModelProto, parts: Sequence[Sequence[NodeProto]]) -> list[_Segment]:
    results = {value.name for value in onnx_model.graph.output}
    constants = set(surgery.initialisers(onnx_model))
    reads = [{name for node in part for name in surgery.reads_of(node)} for part in parts]
    segments = []
    for i, part in enumerate(parts):
        made = {name for node in part for name in node.output if name}
        later = set().union(*reads[i + 1 :]) if i + 1 < len(parts) else set()
        segments.append(
            _Segment(
                tuple(part),
                tuple(sorted(reads[i] - made - constants)),
                tuple(sorted(made & (later | results))),
            )
        )
    return segments


def _borders(segments: Sequence[_Segment], switches: Mapping[str, str], graph: Graph) -> set[str]:
    """Tensors between segments."""
    outside = {*switches.values(), *graph.inputs}
    return {name for part in segments for name in part.inputs if name not in outside}


def _are_tensors(names: set[str], graph: Graph) -> bool:
    """Whether each has a type that can be handed from one session to the next."""
    return all(
        name in graph.tensors and dtypes.is_tensor(graph.tensors[name].dtype) for name in names
    )


def _model_of(
    onnx_model: ModelProto,
    graph: Graph,
    part: _Segment,
    wanted: set[str],
    switches: Mapping[str, str],
) -> ModelProto:
    declared = {value.name: value for value in onnx_model.graph.input}
    switched = set(switches.values())
    inputs = [_input(name, declared, switched, graph) for name in part.inputs]
    made = [name for node in part.nodes for name in node.output if name]
    exposed = [name for name in made if name in wanted or name in part.outputs]
    used = {name for node in part.nodes for name in surgery.reads_of(node)}
    weights = [tensor for tensor in onnx_model.graph.initializer if tensor.name in used]
    outputs = [helper.make_empty_tensor_value_info(name) for name in exposed]
    return helper.make_model(
        helper.make_graph(list(part.nodes), "segment", inputs, outputs, weights),
        opset_imports=list(onnx_model.opset_import),
        ir_version=onnx_model.ir_version,
        functions=list(onnx_model.functions),
    )


def _input(
    name: str, declared: Mapping[str, ValueInfoProto], switched: set[str], graph: Graph
) -> ValueInfoProto:
    if name in declared:
        return declared[name]
    if name in switched:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    kind = dtypes.numpy_dtype(graph.tensors[name].dtype)
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(kind), None)
