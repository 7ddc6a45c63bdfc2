"""What a group costs on its ranks: time with its parts, weights, caches, scratch memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from planner.cost.from_ops import kernels
from planner.cost.predictor import Predictor
from planner.cost.work import Convolution, Product, Recurrence, Work
from planner.ir.graph import Op, Tensor
from planner.ir.problem import Latency
from planner.place.formats import stored_bytes, suits
from planner.place.groups import Group
from planner.place.rank import RankWork
from planner.place.spending import Parts, Spending
from planner.place.strategy import Spread

Attributes = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Priced:
    """A group under one strategy and format."""

    latency: tuple[Latency, ...]
    """Per workload entry."""
    parts: tuple[Parts, ...]
    weight_size_bytes: int
    """Of each rank."""
    workspace_size_bytes: int
    flops: tuple[float, ...]


@dataclass(frozen=True)
class Listed:
    """Kernels of a strategy before formats: what can be priced in each."""

    spread: Spread
    kernels: tuple[tuple[tuple[Work, bool], ...], ...]
    """Per workload entry: work, and whether it multiplies with a weight that takes a format."""
    scratch_bytes: tuple[int, ...]
    formattable: float
    """Elements of weights that take a format, of one rank."""
    other: float
    """Elements of all other constants."""
    integers: int
    """Bytes of constants that are no floats."""


def list_kernels(
    group: Group, spread: Spread, attributes: Attributes, base: str, tensors: Mapping[str, Tensor]
) -> Listed:
    """The kernels that each rank runs."""
    heavy = set(group.weighted)
    listed = []
    for run in spread.work:
        found = kernels(run.ops, run.tensors, attributes, default=base)
        listed.append(tuple((work, not heavy.isdisjoint(names)) for names, work in found))
    taken = _formatted(group, tensors)
    sizes = {name: math.prod(shape) for name, shape in spread.weights.items()}
    floats = {name for name in sizes if "float" in tensors[name].dtype}
    return Listed(
        spread,
        tuple(listed),
        tuple(_scratch(run) for run in spread.work),
        float(sum(sizes[name] for name in taken & sizes.keys())),
        float(sum(sizes[name] for name in floats - taken)),
        sum(_bytes(tensors[name]) for name in sizes.keys() - floats),
    )


def _bytes(tensor: Tensor) -> int:
    return tensor.size_bytes


def _formatted(group: Group, tensors: Mapping[str, Tensor]) -> set[str]:
    heavy = set(group.weighted)
    found: set[str] = set()
    for op in group.ops:
        if op.name in heavy:
            names = [name for name in op.inputs[:3] if name and tensors[name].is_constant]
            found.update(name for name in names if len(tensors[name].shape or ()) > 1)
    return found


def _scratch(run: RankWork) -> int:
    """Peak of what lives inside the group, as a rank holds it: liveness in the order of operators.

    Attention cores keep no scores; everything else is counted as the graph makes it.
    """
    made: dict[str, int] = {}
    last: dict[str, int] = {}
    skipped = _scores(run)
    for step, op in enumerate(run.ops):
        made.update((name, step) for name in op.outputs if name)
        last.update((name, step) for name in op.inputs if name in made)
    change = [0] * (len(run.ops) + 2)
    for name, start in made.items():
        end = last.get(name, start)
        size = 0 if name in skipped else _half(run.tensors[name])
        change[start] += size
        change[end + 1] -= size
    peak = total = 0
    for step in change:
        total += step
        peak = max(peak, total)
    return peak


def _half(tensor: Tensor) -> int:
    """Bytes of an activation in 16 bits, where it is a wider float."""
    return tensor.size_bytes // 2 if tensor.dtype == "float32" else tensor.size_bytes


def _scores(run: RankWork) -> set[str]:
    """Tensors between the two products of an attention core, where they are larger than both."""
    producer = {name: op for op in run.ops for name in op.outputs}
    found: set[str] = set()
    for op in run.ops:
        if op.op_type != "Softmax":
            continue
        found.update(op.outputs)
        name = op.inputs[0]
        for _ in range(8):
            maker = producer.get(name)
            found.add(name)
            if maker is None or maker.op_type in ("MatMul", "Gemm"):
                break
            name = _largest(maker, run.tensors)
    return found


def _largest(op: Op, tensors: Mapping[str, Tensor]) -> str:
    return max((n for n in op.inputs if n), key=lambda n: tensors[n].size_bytes, default="")


class Pricer:
    """Prices strategies on one target; equal work is priced once."""

    def __init__(self, predictor: Predictor, base: str) -> None:
        self._predictor = predictor
        self.base = base
        self._collectives: dict[tuple[str, float, int], Latency] = {}
        self._spending = Spending(predictor)

    def price(self, listed: Listed, form: str) -> Priced | None:
        """A strategy with its weights in one format; None where no library has a kernel."""
        rows = []
        for shape, own in enumerate(listed.kernels):
            row = self._entry(own, listed.spread.work[shape], listed.spread.degree, form)
            if row is None:
                return None
            rows.append(row)
        size = stored_bytes(form, listed.formattable) + stored_bytes(self.base, listed.other)
        return Priced(
            tuple(row[0] for row in rows),
            tuple(row[1] for row in rows),
            math.ceil(size) + listed.integers,
            max(listed.scratch_bytes),
            tuple(sum(work.flops for work, _ in own) for own in listed.kernels),
        )

    def _entry(
        self, own: Sequence[tuple[Work, bool]], run: RankWork, degree: int, form: str
    ) -> tuple[Latency, Parts] | None:
        low = expected = high = 0.0
        parts = Parts()
        for work, takes in own:
            priced = _in_format(work, form if takes else self.base)
            if priced is None:
                return None
            cost = self._predictor.kernel(priced)
            low, expected = low + cost.low_us, expected + cost.expected_us
            high += cost.high_us
            parts += self._spending.parts(priced, cost.expected_us)
        for each in run.collectives:
            size = _moved(run.tensors.get(each.tensor), each.size_bytes, self.base)
            spent = self._collective(each.kind, size, degree)
            low, expected = low + spent.low_us, expected + spent.expected_us
            high += spent.high_us
            parts += Parts(communication_us=spent.expected_us)
        return Latency(low, expected, high), parts

    def collective(self, kind: str, tensor: Tensor, degree: int) -> Latency:
        """A conversion between groups."""
        return self._collective(kind, _moved(tensor, tensor.size_bytes, self.base), degree)

    def _collective(self, kind: str, size_bytes: float, degree: int) -> Latency:
        """Blocks repeat, and so do their collectives."""
        key = (kind, size_bytes, degree)
        if key not in self._collectives:
            cost = self._predictor.collective(kind, size_bytes, degree)  # type: ignore[arg-type]
            self._collectives[key] = Latency(cost.low_us, cost.expected_us, cost.high_us)
        return self._collectives[key]


def _moved(tensor: Tensor | None, size_bytes: float, base: str) -> float:
    """Bytes as they are sent: floats of the model in the activations' own width."""
    if tensor is not None and tensor.dtype == "float32" and base in ("fp16", "bf16"):
        return size_bytes / 2
    return size_bytes


def _in_format(work: Work, form: str) -> Work | None:
    if isinstance(work, Product | Convolution | Recurrence):
        kind = "MatMul" if isinstance(work, Product) else "Conv"
        return replace(work, format=form) if suits(form, kind) else None
    return work
