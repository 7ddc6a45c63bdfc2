"""What a kernel takes longer behind another kind of kernel than behind a copy of itself.

Kernels are timed among copies of themselves, whose code, predicted branches and bookkeeping are
still in the nearest caches; in a model other kernels stand between. How much that costs is the
machine's own: 0.09 us a kernel on an EPYC with 1 MiB of private cache whose reference probe takes
37 us, 0.6 us on a Xeon whose probe takes 56 us (the 69 small kernels of dtln_2 took 57 us among
copies, 96 in a row). Left out, plans that convert between formats more often than any uniform
variant look too fast; taken from another machine, models of small kernels are a fifth too slow. So
it is measured: a chain in which every kernel is behind one of another kind, against copies.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from planner.profiling import micro
from planner.profiling.kernel import Array
from planner.profiling.timing import Interval, Sample, fast_interval, runner

_ROWS, _WIDTH = 4, 64
"""Of what all of them read and write: 1 KiB, so that their own work is short."""
_KINDS = {
    "MatMul": ("square",),
    "Add": ("row",),
    "Sigmoid": (),
    "Mul": ("row",),
    "Tanh": (),
    "Softmax": (),
    "Sub": ("row",),
    "Abs": (),
    "Erf": (),
    "Pow": ("two",),
    "LayerNormalization": ("row", "row"),
    "HardSigmoid": (),
    "LeakyRelu": (),
    "Slice": ("start", "end", "axis"),
}
"""Operator -> what it reads besides what flows; they keep shapes. More kinds, 28, cost as much."""
_CYCLES = 4
_COPIES = 16
_OPSET = helper.make_opsetid("", 17)
_IR_VERSION = 8
_FEED = "x"


class Change:
    """The chain, and each of its kernels among copies, which are timed in the same rounds."""

    def __init__(self, load: Callable[[bytes | str], ort.InferenceSession]) -> None:
        feeds = {_FEED: np.full((_ROWS, _WIDTH), 0.5, np.float32)}

        def sample(name: str, model: bytes) -> Sample:
            return Sample(name, runner(load(model), feeds), warm_up=1)

        self._chain = sample("chain", _chain())
        self._copies = tuple(sample(op_type, _among_copies(op_type)) for op_type in _KINDS)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """To be run in every round."""
        return self._chain, *self._copies

    def latency(self, call_us: float, reader_us: float) -> Interval:
        """Microseconds a kernel.

        Args:
            call_us: of a call without kernels, in these rounds;
            reader_us: of a `Shape` reader of a kernel's output (`Blank.overheads_us`).
        """
        medians = (fast_interval(sample.times_us).median for sample in self._copies)
        alone_us = sum((us - call_us) / _COPIES - reader_us for us in medians)
        chain = fast_interval(self._chain.times_us)
        rest_us = call_us + reader_us + _CYCLES * alone_us
        kernels = _CYCLES * len(_KINDS)
        ends = (chain.median, chain.low, chain.high)
        return Interval(*(max((us - rest_us) / kernels, 0.0) for us in ends))


def _constants() -> dict[str, onnx.TensorProto]:
    values: dict[str, Array] = {
        "square": np.eye(_WIDTH, dtype=np.float32),
        "row": np.full(_WIDTH, 0.5, np.float32),
        "two": np.array(2.0, np.float32),
        "start": np.array([0], np.int64),
        "end": np.array([_WIDTH], np.int64),
        "axis": np.array([1], np.int64),
    }
    return {name: numpy_helper.from_array(value, name) for name, value in values.items()}


def _node(op_type: str, read: str, made: str) -> onnx.NodeProto:
    return helper.make_node(op_type, [read, *_KINDS[op_type]], [made])


def _chain() -> bytes:
    nodes, read = [], _FEED
    for number, op_type in enumerate(list(_KINDS) * _CYCLES):
        nodes.append(_node(op_type, read, made := f"y{number}"))
        read = made
    nodes.append(helper.make_node("Shape", [read], ["shape"]))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info(_FEED, onnx.TensorProto.FLOAT, [_ROWS, _WIDTH])],
        [onnx.ValueInfoProto(name="shape")],
        list(_constants().values()),
    )
    model = helper.make_model(graph, opset_imports=[_OPSET], ir_version=_IR_VERSION)
    return bytes(model.SerializeToString())


def _among_copies(op_type: str) -> bytes:
    known = _constants()
    built = micro.build(
        _node(op_type, _FEED, "y"),
        {name: known[name] for name in _KINDS[op_type]},
        {_FEED: np.zeros((_ROWS, _WIDTH), np.float32)},
        opsets=[_OPSET],
        ir_version=_IR_VERSION,
        copies=_COPIES,
    )
    return b"".join(built.parts())
