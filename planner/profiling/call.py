"""What a call costs besides its kernels: inputs are checked and bound, outputs allocated and handed
over.

A model with the same inputs and outputs shows it, but something has to make its outputs, and that
is no overhead: the kernels that make them in the real model are timed by themselves. So what copies
cost that nobody fetches is subtracted. Left in, a language model that hands out the keys and values
of its layers looked 1 to 3 us too slow, a detector with a dozen large outputs 20 us and more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnxruntime as ort
from onnx import NodeProto, OperatorSetIdProto, TensorProto, helper, numpy_helper

from planner.profiling.kernel import Array
from planner.profiling.micro import value_info
from planner.profiling.timing import Interval, Sample, fast_interval
from planner.runtime.engine import as_engine

_IR_VERSION = 8
_LEAST = 0.8
"""No call takes less than this share of one that hands out a single number, part of which is what
makes that number."""
_NUMPYS_OWN = 1
"""`dtype.isbuiltin` of types that other packages have not added."""
_NOTHING = "__nothing"
"""A small output of those that hand out nothing else: a model needs one."""


class Call:
    """Models without work of the same inputs, which are timed in the same rounds: one hands out the
    same outputs, one makes them and hands out nothing, one makes nothing."""

    def __init__(
        self,
        load: Callable[[bytes | str], ort.InferenceSession],
        feeds: Mapping[str, Array],
        outputs: Mapping[str, Array],
        opsets: Sequence[OperatorSetIdProto],
    ) -> None:
        def sample(name: str, nodes: Sequence[NodeProto], handed: Mapping[str, Array]) -> Sample:
            call = as_engine(load(_model(nodes, feeds, handed, outputs, opsets)))
            return Sample(name, lambda: call(feeds), warm_up=1)

        nothing = {_NOTHING: np.zeros(1, np.float32)}
        end = _copies(nothing)
        self._whole = sample("hands out", _copies(outputs), outputs)
        self._made = sample("makes", [*_chain(outputs), *end], nothing)
        self._bare = sample("does nothing", end, nothing)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """To be run in every round."""
        return self._whole, self._made, self._bare

    def latency(self) -> Interval:
        """Microseconds a call."""
        made_us, bare_us = (
            fast_interval(sample.times_us).median for sample in (self._made, self._bare)
        )
        whole = fast_interval(self._whole.times_us)
        copies_us = max(made_us - bare_us, 0.0)
        ends = (whole.median, whole.low, whole.high)
        return Interval(*(max(us - copies_us, _LEAST * min(us, bare_us)) for us in ends))


def _copies(outputs: Mapping[str, Array]) -> list[NodeProto]:
    """What makes them. Equal ones are copied from one constant: in the real model none is read from
    afar. A `Concat` of one copies; an `Identity` that nobody fetches does not."""
    return [_copy(_constant(value), name, value) for name, value in outputs.items()]


def _chain(outputs: Mapping[str, Array]) -> list[NodeProto]:
    """The same copies, each read by the next of its kind, so that buffers are free again at once:
    as kernels are timed, and not in memory that is touched for the first time."""
    nodes: list[NodeProto] = []
    last: dict[str, str] = {}
    for name, value in outputs.items():
        constant = _constant(value)
        nodes.append(_copy(last.get(constant, constant), name, value))
        last[constant] = name
    return nodes


def _copy(read: str, made: str, value: Array) -> NodeProto:
    """Scalars and what numpy has no type of its own for (floats of 8 bits) cannot be joined."""
    if value.ndim == 0 or value.dtype.isbuiltin != _NUMPYS_OWN:
        return helper.make_node("Identity", [read], [made])
    return helper.make_node("Concat", [read], [made], axis=0)


def _constant(value: Array) -> str:
    return f"__{value.dtype}_{'x'.join(map(str, value.shape))}"


def _model(
    nodes: Sequence[NodeProto],
    feeds: Mapping[str, Array],
    handed: Mapping[str, Array],
    outputs: Mapping[str, Array],
    opsets: Sequence[OperatorSetIdProto],
) -> bytes:
    known = {_constant(value): value for value in (*handed.values(), *outputs.values())}
    read = known.keys() & {node.input[0] for node in nodes}
    constants: list[TensorProto] = [
        numpy_helper.from_array(np.asarray(known[name]), name) for name in sorted(read)
    ]
    graph = helper.make_graph(
        list(nodes),
        "call",
        [value_info(name, value) for name, value in feeds.items()],
        [value_info(name, value) for name, value in handed.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=list(opsets), ir_version=_IR_VERSION)
    return bytes(model.SerializeToString())
