"""From operators to the kernels a good library runs for them, described as `Work`.

    kernels(ops, tensors, attributes, formats) -> (operators, Work) pairs in order

What good libraries fuse is fused, by structure alone: an attention core (product, elementwise,
softmax, product) becomes one `Attention`; elementwise operators with small operands join the kernel
that makes their input, and normalisations join the addition before them; views cost nothing,
transpositions beside batched products are strides, and what is appended to a tensor (a KV cache) is
written in place. Shapes are those of `tensors`, so that a rank's own may be given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from planner.cost.work import (
    OUTPUT_BYTES,
    Attention,
    Convolution,
    Flow,
    Product,
    Recurrence,
    Traffic,
    Work,
)
from planner.ir.graph import Op, Tensor
from planner.ops.elementwise import FAMILY as ELEMENTWISE
from planner.ops.work import VIEWS, work_of

Attributes = Mapping[str, Any]
FLOAT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}
_PRODUCTS = frozenset(("MatMul", "Gemm", "com.microsoft::FusedMatMul"))
_FLOWS = {
    **dict.fromkeys(("RMSNormalization", "SimplifiedLayerNormalization"), Flow.RMS_NORMALISATION),
    **dict.fromkeys(("LayerNormalization", "GroupNormalization"), Flow.NORMALISATION),
    **dict.fromkeys(("InstanceNormalization", "BatchNormalization"), Flow.NORMALISATION),
    **dict.fromkeys(("Softmax", "LogSoftmax"), Flow.SOFTMAX),
    **dict.fromkeys(("Gather", "GatherND", "GatherElements"), Flow.GATHER),
}
_NORMALISATIONS = frozenset((Flow.NORMALISATION, Flow.RMS_NORMALISATION))
_REDUCTIONS = ("Reduce", "ArgM", "TopK", "CumSum", "Global")
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TINY_BYTES = 1024
"""Integers up to this size are shape arithmetic: done by the host before the kernels are queued."""


@dataclass(slots=True)
class _Kernel:
    """A kernel in the making."""

    ops: list[str]
    work: Work
    tail: str = ""
    """What its last operator makes: who reads that alone may join."""
    may_grow: bool = False


@dataclass(slots=True)
class _Maker:
    ops: Sequence[Op]
    tensors: Mapping[str, Tensor]
    attributes: Mapping[str, Attributes]
    formats: Mapping[str, str]
    default: str
    readers: dict[str, int] = field(default_factory=dict)
    made: list[_Kernel] = field(default_factory=list)
    by_tail: dict[str, _Kernel] = field(default_factory=dict)
    producer: dict[str, Op] = field(default_factory=dict)
    consumers: dict[str, list[Op]] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)

    def run(self) -> list[tuple[tuple[str, ...], Work]]:
        """All kernels."""
        for op in self.ops:
            self.producer.update((name, op) for name in op.outputs if name)
            for name in dict.fromkeys((*op.inputs, *op.captured)):
                if name:
                    self.consumers.setdefault(name, []).append(op)
        for op in self.ops:
            if op.name not in self.skipped:
                self._add(op)
        return [(tuple(kernel.ops), kernel.work) for kernel in self.made]

    def _add(self, op: Op) -> None:
        if self._is_free(op):
            self._pass_on(op)
            return
        if op.kind in ELEMENTWISE and self._join(op):
            return
        flow = _FLOWS.get(op.op_type)
        if flow in _NORMALISATIONS and self._normalise(op, flow):
            return
        if op.kind in _PRODUCTS and self._attention(op):
            return
        work = self._work(op)
        kernel = _Kernel([op.name], work, op.outputs[0], not isinstance(work, Attention))
        self.made.append(kernel)
        self.by_tail[op.outputs[0]] = kernel

    def _is_view(self, op: Op) -> bool:
        """Names memory that is there: also a transposition of axes of length 1, or beside a batched
        product, which takes strides."""
        if op.op_type in VIEWS:
            return True
        if op.op_type != "Transpose":
            return False
        shape = self.tensors[op.inputs[0]].shape or ()
        order = self.attributes.get(op.name, {}).get("perm") or range(len(shape))[::-1]
        long = [axis for axis in order if shape[axis] > 1]
        if long == sorted(long):
            return True
        beside = self.consumers.get(op.outputs[0], ())
        before = self.producer.get(op.inputs[0])
        return (bool(beside) and all(map(self._takes_strides, beside))) or (
            before is not None and self._takes_strides(before)
        )

    def _takes_strides(self, op: Op) -> bool:
        """A product of activations, or what appends to one's operand."""
        if op.kind in _PRODUCTS or op.op_type == "Attention":
            return not any(self.tensors[name].is_constant for name in op.inputs[:2])
        return op.op_type in ("Concat", "Transpose") and any(
            self._takes_strides(reader) for reader in self.consumers.get(op.outputs[0], ())
        )

    def _is_free(self, op: Op) -> bool:
        """Views, and arithmetic on shapes."""
        if not op.outputs or self._is_view(op):
            return True
        made = [self.tensors[name] for name in op.outputs if name]
        is_small = all(t.size_bytes <= TINY_BYTES and "int" in t.dtype for t in made)
        return all(_count(t) == 0 and t.shape is not None for t in made) or (
            is_small and op.kind not in _PRODUCTS
        )

    def _pass_on(self, op: Op) -> None:
        """What joins the kernel before a view may join it behind the view."""
        kernel = self.by_tail.get(op.inputs[0]) if op.inputs else None
        if kernel is not None and self._is_view(op) and op.outputs:
            kernel.ops.append(op.name)
            self.by_tail[op.outputs[0]] = kernel

    def _join(self, op: Op) -> bool:
        """An elementwise operator is computed where one of its operands is made."""
        for name in op.inputs:
            kernel = self.by_tail.get(name)
            if kernel is None or len(self.consumers.get(name, ())) > 1:
                continue
            others = [other for other in dict.fromkeys(op.inputs) if other and other != name]
            moved = [other for other in others if not self.tensors[other].is_constant]
            extra = sum(map(self._bytes, others))
            work = kernel.work
            if isinstance(work, Traffic):
                flops = work.flops + _count(self.tensors[op.outputs[0]])
                written = self._bytes(op.outputs[0])
                kernel.work = Traffic(work.read_size_bytes + extra, written, work.flow, flops)
            elif sum(map(self._bytes, moved)) > self._bytes(op.outputs[0]) / 4:
                continue  # a second operand as large as the result: its own kernel
            kernel.ops.append(op.name)
            self.by_tail[op.outputs[0]] = kernel
            return True
        return False

    def _normalise(self, op: Op, flow: Flow) -> bool:
        """A normalisation joins the elementwise kernel that makes its input; both results stay."""
        kernel = self.by_tail.get(op.inputs[0])
        if kernel is None or not isinstance(kernel.work, Traffic):
            return False
        if kernel.work.flow is not Flow.ELEMENTWISE:
            return False
        work = kernel.work
        written = self._bytes(op.outputs[0])
        if len(self.consumers.get(op.inputs[0], ())) > 1:
            written += work.write_size_bytes
        flops = work.flops + work_of(op, self.tensors, self.attributes.get(op.name)).flops
        kernel.work = Traffic(work.read_size_bytes, written, flow, flops)
        kernel.ops.append(op.name)
        del self.by_tail[op.inputs[0]]
        return True

    def _bytes(self, name: str) -> float:
        """As the runtime keeps it: floats of the model in the activations' own width."""
        if not name:
            return 0.0
        tensor = self.tensors[name]
        if "float" in tensor.dtype:
            return _count(tensor) * OUTPUT_BYTES.get(self.default, 2.0)
        return float(tensor.size_bytes)

    def _work(self, op: Op) -> Work:
        form = self.formats.get(op.name, self.default)
        shapes = [self.tensors[n].shape if n else None for n in op.inputs]
        if op.kind in _PRODUCTS and len(shapes) > 1 and shapes[0] and shapes[1]:
            return self._product(op, shapes[0], shapes[1], form)
        if op.op_type == "Conv" and shapes[0] and shapes[1]:
            return self._convolution(op, shapes[1], form)
        if op.op_type in _GATES and shapes[0] and shapes[1]:
            steps, batch, inputs = shapes[0]
            gates = _GATES[op.op_type]
            hidden = shapes[1][1] // gates
            return Recurrence(steps, batch, inputs, hidden, gates, shapes[1][0], form)
        if op.op_type == "Attention" and shapes[0] and shapes[1]:
            return self._attention_op(op, shapes[0], shapes[1], form)
        return self._traffic(op)

    def _product(self, op: Op, left: tuple[int, ...], right: tuple[int, ...], form: str) -> Work:
        attributes = self.attributes.get(op.name, {})
        result = self.tensors[op.outputs[0]].shape or (1,)
        inner = left[-2] if attributes.get("transA") and len(left) > 1 else left[-1]
        columns = 1
        if len(right) > 1:
            columns = right[-2] if attributes.get("transB") else right[-1]
        total = math.prod(result)
        batch = math.prod(right[:-2])
        rows = total // max(columns * batch, 1)
        return Product(max(rows, 1), columns, inner, max(batch, 1), form)

    def _convolution(self, op: Op, weight: tuple[int, ...], form: str) -> Work:
        attributes = self.attributes.get(op.name, {})
        made = self.tensors[op.outputs[0]].shape or (1, 1)
        groups = int(attributes.get("group", 1))
        space = (*made[2:], 1, 1)[: max(len(made) - 2, 2)]
        height, width = (1, space[0]) if len(made) == 3 else (math.prod(space[:-1]), space[-1])
        window = (1, weight[2]) if len(weight) == 3 else (math.prod(weight[2:-1]), weight[-1])
        stride = int((attributes.get("strides") or (1,))[0])
        channels_in = weight[1] * groups
        return Convolution(
            made[0], channels_in, made[1], height, width, window, stride, groups, form
        )

    def _attention_op(
        self, op: Op, query: tuple[int, ...], key: tuple[int, ...], form: str
    ) -> Work:
        attributes = self.attributes.get(op.name, {})
        is_merged = len(query) == 3
        heads = int(attributes.get("q_num_heads", 1)) if is_merged else query[1]
        shared = int(attributes.get("kv_num_heads", heads)) if is_merged else key[1]
        width = query[-1] // heads if is_merged else query[-1]
        past = self.tensors[op.inputs[4]].shape if len(op.inputs) > 4 and op.inputs[4] else None
        keys = key[-2] + (past[2] if past else 0)
        causal = bool(attributes.get("is_causal", 0))
        return Attention(query[0], heads, shared, width, query[-2], keys, causal, _core(form))

    def _traffic(self, op: Op) -> Work:
        if op.op_type == "Concat":
            sizes = sorted(self._bytes(name) for name in op.inputs if name)
            appended = sum(sizes[:-1]) if self._is_cache(op) else sum(sizes)
            return Traffic(appended, appended, Flow.COPY)
        work = work_of(op, self.tensors, self.attributes.get(op.name))
        floats = [name for name in dict.fromkeys(op.inputs) if name]
        read = float(work.read_size_bytes)
        if all(self.tensors[name].shape is not None for name in floats):
            scale = self._scale()
            moved = sum(
                self.tensors[name].size_bytes
                for name in floats
                if "float" in self.tensors[name].dtype
            )
            read -= min(moved, read) * (1 - scale)
        written = sum(self._bytes(name) for name in op.outputs if name)
        flow = _FLOWS.get(op.op_type, Flow.COPY)
        if op.kind in ELEMENTWISE:
            flow = Flow.ELEMENTWISE
        elif op.op_type.startswith(_REDUCTIONS):
            flow = Flow.REDUCTION
        return Traffic(read, written, flow, float(work.flops))

    def _is_cache(self, op: Op) -> bool:
        """Whether something is appended to what the model was given: done in place."""
        largest = max(op.inputs, key=self._bytes)
        return largest not in self.producer and not self.tensors[largest].is_constant

    def _scale(self) -> float:
        """Bytes of an activation as it is kept, relative to the model's own type."""
        declared = next(
            (FLOAT_BYTES[t.dtype] for t in self.tensors.values() if t.dtype in FLOAT_BYTES), 4
        )
        return min(1.0, OUTPUT_BYTES.get(self.default, 2.0) / declared)

    def _attention(self, op: Op) -> bool:
        """product -> elementwise -> softmax -> product, each read by the next alone."""
        chain, name = [op], op.outputs[0]
        softmax = None
        for _ in range(8):
            readers = self.consumers.get(name, ())
            if len(readers) != 1:
                return False
            following = readers[0]
            chain.append(following)
            if following.kind in _PRODUCTS:
                break
            if following.op_type == "Softmax":
                softmax = following
            elif following.kind not in ELEMENTWISE and following.op_type not in VIEWS:
                return False
            name = following.outputs[0]
        last = chain[-1]
        if softmax is None or last.kind not in _PRODUCTS or last.inputs[0] != name:
            return False
        scores, query = self.tensors[op.outputs[0]].shape, self.tensors[op.inputs[0]].shape
        mixed = self.tensors[last.outputs[0]].shape
        values = self.tensors[last.inputs[1]].shape
        if not scores or not query or not mixed or not values or len(scores) < 3:
            return False
        if any(self.tensors[n].is_constant for n in (op.inputs[1], last.inputs[1])):
            return False
        heads = scores[-3]
        width = max(query[-1], mixed[-1])
        shared = values[-3] if len(values) >= 3 else 1
        batch = math.prod(scores[:-3])
        work = Attention(
            batch, heads, shared, width, scores[-2], scores[-1], False, _core(self.default)
        )
        names = [one.name for one in chain]
        self.made.append(_Kernel(names, work))
        self.skipped.update(names)
        return True


def _core(form: str) -> str:
    """Attention cores multiply activations: in 16 bits, or in the model's own 32."""
    return form if form in ("fp32", "tf32", "fp16", "bf16") else "fp16"


def _count(tensor: Tensor) -> int:
    return math.prod(tensor.shape) if tensor.shape is not None else 0


def kernels(
    ops: Sequence[Op],
    tensors: Mapping[str, Tensor],
    attributes: Mapping[str, Attributes],
    formats: Mapping[str, str] | None = None,
    *,
    default: str = "fp16",
) -> list[tuple[tuple[str, ...], Work]]:
    """Kernels of operators in topological order.

    Args:
        tensors: with the shapes that count: the whole tensors' or one rank's.
        formats: operator -> format of its product, where it is not `default`.
        default: format of everything else; activations are kept in its width.
    """
    return _Maker(ops, tensors, attributes, formats or {}, default).run()
