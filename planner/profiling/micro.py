"""Micro-models: one kernel of an optimised graph, alone, several times in one session.

    optimised graph:  ... -> [Gemm] -> ...
    micro-model:      x -> [Gemm w_0], x -> [Gemm w_1], ..., x -> [Gemm w_k]

Copies own their constants: together they have the footprint of the whole model, so that weights
which come from memory, or from a shared cache, in the whole model come from there here too. Each
copy's output is read by a `Shape`, which costs next to nothing and lets the next copy reuse the
buffer: as in the whole model, results are written to memory that is still in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from planner.profiling.kernel import Array
from planner.runtime.caches import last_level_size_bytes, memory_size_bytes

_MIB = 2**20
_SMALL_CONSTANT_BYTES = 4096
"""Constants up to this size are shared between copies: they are scales, axes and shapes."""
_MOST_COPIES, _MOST_FAR_COPIES = 64, 512
"""64 of weights that matter outgrow a private cache; the last one takes more small weights."""
_COPIES_WITHOUT_WEIGHTS = 16
_SMALL_OUTPUT_BYTES = 64 * 1024
"""Kernels that write more than this run so long that few copies resolve them."""
_FEWEST_COPIES = 2
_NEAR_MIB = (1, 2, 4, 8, 16)
"""Footprint classes from a core's private cache to a shared one, each for the sizes nearest to it.
A `Gemm` of 512 KB took 38, 47, 54, 64 and 69 us in them, a `Conv` of as much 49, 57, 72, 85 and 84
(one thread of a Xeon with 1 MiB of private cache, beside busy neighbours; timed in turns)."""
_NEAREST = math.sqrt(2)
"""Sizes up to so many times a class belong to it rather than to the next."""
_FAR_MIB, _FARTHEST_MIB = 40, 512
"""The class beyond the last cache: at least and at most this. It is as small as it may be, because
a session takes several times its weights while it is made;"""
_BEYOND = 1.5
"""so many times the last cache, whose lines are all replaced from round to round then."""
_MEMORY_SHARE = 64
"""It takes several times this share of the machine's memory at the most."""
_ENOUGH = 0.8
"""A single copy of this share of it does not fit the last cache either."""


def _far_mib() -> int:
    beyond = math.ceil(_BEYOND * last_level_size_bytes() / _MIB)
    room = memory_size_bytes() // _MEMORY_SHARE // _MIB
    return min(max(beyond, _FAR_MIB), max(room, _FAR_MIB), _FARTHEST_MIB)


_PACKED_TYPES = frozenset(
    {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.INT8,
        onnx.TensorProto.UINT8,
    }
)
"""Types of weights: the first byte of an element is its lowest bits."""
_NEXT_BYTE = 8
"""The first one of another element, whatever the type."""


@dataclass(frozen=True, slots=True)
class MicroModel:
    """One session's worth of the same kernel, `copies` times."""

    skeleton: onnx.ModelProto
    """Everything but the constants that each copy has for itself."""
    own: Mapping[str, onnx.TensorProto]
    """Those, by name; copy 7 reads its `w` as `w#7`."""
    copies: int
    feeds: Mapping[str, Array]

    def parts(self) -> Iterator[bytes]:
        """The model file, piece by piece: never whole in memory, for it may be all of 100 MB.

        Messages that follow each other are merged, by the rules of protobuf's encoding: repeated
        fields of `graph` are joined. So each constant is a model that has nothing else.
        """
        yield self.skeleton.SerializeToString()
        for copy in range(self.copies):
            for name in sorted(self.own):
                part = onnx.ModelProto()
                part.graph.initializer.append(_told_apart(self.own[name], copy))
                part.graph.initializer[0].name = f"{name}#{copy}"
                yield part.SerializeToString()


def footprint_class(read_size_bytes: int, model_read_size_bytes: int) -> int:
    """Footprint in MiB that the kernel's copies must have; 0 where constants hardly matter.

    Part of the measurement's key: a model with another footprint needs another measurement. Few are
    told apart, since times change slowly where a level of the memory hierarchy overflows.
    """
    if read_size_bytes <= _SMALL_CONSTANT_BYTES:
        return 0
    footprint = max(model_read_size_bytes, read_size_bytes)
    fitting = (mib for mib in _NEAR_MIB if footprint <= _NEAREST * mib * _MIB)
    return next(fitting, _far_mib())


def copies_for(constant_size_bytes: int, output_size_bytes: int, footprint: int) -> int:
    """How many copies have, together, the footprint of the class `footprint`."""
    if footprint == 0:
        small = output_size_bytes <= _SMALL_OUTPUT_BYTES
        return _COPIES_WITHOUT_WEIGHTS if small else _FEWEST_COPIES
    is_far = footprint not in _NEAR_MIB
    if constant_size_bytes > (_ENOUGH if is_far else 1) * footprint * _MIB:
        return 1
    wanted = round(footprint * _MIB / constant_size_bytes)
    return int(min(max(wanted, _FEWEST_COPIES), _MOST_FAR_COPIES if is_far else _MOST_COPIES))


def build(
    node: onnx.NodeProto,
    constants: Mapping[str, onnx.TensorProto],
    activations: Mapping[str, Array],
    *,
    opsets: Sequence[onnx.OperatorSetIdProto],
    ir_version: int,
    copies: int,
) -> MicroModel:
    """The micro-model of `node`; every input is in `constants` or in `activations`."""
    own = {name: constants[name] for name in node.input if name in constants}
    own = {name: tensor for name, tensor in own.items() if _is_large(tensor)}
    nodes: list[onnx.NodeProto] = []
    for copy in range(copies):
        clone = _renamed(node, own, copy)
        made = next(name for name in clone.output if name)
        nodes += [clone, helper.make_node("Shape", [made], [f"shape#{copy}"])]
    graph = helper.make_graph(
        nodes,
        "micro",
        [value_info(name, value) for name, value in activations.items()],
        [onnx.ValueInfoProto(name=f"shape#{copies - 1}")],
        [tensor for name, tensor in constants.items() if name not in own],
    )
    imports = list(opsets)
    if not any(entry.domain == "" for entry in imports):
        imports.append(helper.make_opsetid("", 17))
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir_version)
    return MicroModel(model, own, copies, dict(activations))


def shapes_model(count: int) -> bytes:
    """What the `Shape` readers of `count` copies cost by themselves, the call included."""
    nodes = [helper.make_node("Shape", ["x"], [f"shape#{i}"]) for i in range(count)]
    graph = helper.make_graph(
        nodes,
        "shapes",
        [value_info("x", np.zeros(1, np.float32))],
        [onnx.ValueInfoProto(name=f"shape#{count - 1}")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _is_large(tensor: onnx.TensorProto) -> bool:
    return int(np.prod(tensor.dims, dtype=np.int64)) > _SMALL_CONSTANT_BYTES // 4


def _told_apart(tensor: onnx.TensorProto, copy: int) -> onnx.TensorProto:
    """The tensor with a few of its lowest bits changed, in another way for each copy.

    ONNX Runtime keeps packed weights of the same content once, so equal copies would all read one
    buffer, which stays in the private cache: a `Gemm` of 512 KB took 9 us where the same one in a
    model of 2.4 MB takes 41. Indices stay as they are: another value may lie outside.
    """
    if copy == 0 or tensor.data_type not in _PACKED_TYPES:
        return tensor  # a single copy of a large one is not doubled in memory
    content = bytearray(tensor.raw_data or numpy_helper.to_array(tensor).tobytes())
    content[0] ^= copy & 0xFF
    content[_NEXT_BYTE] ^= copy >> 8
    return onnx.TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=bytes(content))


def _renamed(node: onnx.NodeProto, own: Container[str], copy: int) -> onnx.NodeProto:
    clone = onnx.NodeProto()
    clone.CopyFrom(node)
    clone.name = f"copy_{copy}"
    for position, name in enumerate(node.input):
        clone.input[position] = f"{name}#{copy}" if name in own else name
    for position, name in enumerate(node.output):
        clone.output[position] = f"{name}#{copy}" if name else ""
    return clone


def value_info(name: str, value: Array) -> onnx.ValueInfoProto:
    """Of a graph's input or output like this value."""
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    if value.dtype == object:
        kind = onnx.TensorProto.STRING
    return helper.make_tensor_value_info(name, kind, list(value.shape))
