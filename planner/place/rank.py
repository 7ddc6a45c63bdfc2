"""What one rank does of a group under one strategy: its operators, tensors and collectives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from planner.ir.graph import Graph, Op, Tensor
from planner.ops.sharding import Kind
from planner.place.axes import Cut
from planner.place.extents import Extents, local
from planner.place.forms import SUMMAND, WHOLE, conversion, cut_form
from planner.place.groups import Group


@dataclass(frozen=True, slots=True)
class Collective:
    """A conversion that ranks do together."""

    kind: str
    """As the cost model names it."""
    tensor: str
    size_bytes: float
    """Of the whole tensor."""


@dataclass(frozen=True, slots=True)
class RankWork:
    """What one rank does for one workload entry."""

    ops: tuple[Op, ...]
    """Operands that are not in the form in which they were made have names of their own."""
    tensors: Mapping[str, Tensor]
    """With the rank's own shapes."""
    collectives: tuple[Collective, ...]


@dataclass
class RankRun:
    """One workload entry of one strategy."""

    group: Group
    graph: Graph
    shape: int
    extents: Extents
    choices: Mapping[str, Cut]
    needs: Mapping[str, str]
    degree: int
    forms: dict[str, list[str]] = field(default_factory=dict)
    """Tensor -> forms that are there: as made first."""
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)
    stored: dict[str, str] = field(default_factory=dict)
    _ops: list[Op] = field(default_factory=list)
    _tensors: dict[str, Tensor] = field(default_factory=dict)
    _collectives: list[Collective] = field(default_factory=list)

    def done(self) -> RankRun:
        """Runs through the operators."""
        for name, form in self.needs.items():
            self.forms[name] = [form]
            self._tensors[name] = self._local(name, form)
        for op in self.group.ops:
            self._add(op)
        return self

    @property
    def work(self) -> RankWork:
        """What was found."""
        return RankWork(tuple(self._ops), self._tensors, tuple(self._collectives))

    @property
    def makes(self) -> dict[str, tuple[str, ...]]:
        """Forms of what others read."""
        return {name: tuple(dict.fromkeys(self.forms[name])) for name in self.group.outputs}

    def _add(self, op: Op) -> None:
        cut = self.choices.get(op.name)
        inputs = [
            self._operand(name, form) if name else ""
            for name, form in zip(op.inputs, wanted_forms(op, cut), strict=True)
        ]
        for name in op.captured:
            self._operand(name, WHOLE)
        made = self._made(op, cut)
        for name, form in made.items():
            self.forms[name] = [form]
            self._tensors[name] = self._local(name, form)
        self._ops.append(Op(op.name, op.op_type, op.domain, tuple(inputs), op.outputs, op.captured))

    def _made(self, op: Op, cut: Cut | None) -> dict[str, str]:
        names = {slot: name for slot, name in enumerate(op.outputs) if name}
        if cut is None:
            return dict.fromkeys(names.values(), WHOLE)
        if cut.index.kind is not Kind.PARALLEL:
            return dict.fromkeys(names.values(), SUMMAND)
        axes = {axis.slot: axis.axis for axis in cut.index.outputs}
        return {
            name: cut_form(cut.group, axes[slot]) if slot in axes else WHOLE
            for slot, name in names.items()
        }

    def _operand(self, name: str, form: str) -> str:
        """The name under which a rank has a tensor in a form; converts it if need be."""
        tensor = self.graph.tensors[name]
        if tensor.is_constant:
            local = self._local(name, form)
            known = self.weights.get(name)
            if known is None or math.prod(known) < math.prod(local.shape or ()):
                self.weights[name] = local.shape or ()
                self.stored[name] = form
            self._tensors[f"{name}@{form}"] = local
            return f"{name}@{form}"
        have = self.forms.setdefault(name, [WHOLE])
        if name not in self._tensors:
            self._tensors[name] = self._local(name, WHOLE)
        if form == have[0]:
            return name
        if form not in have:
            self._convert(name, have, form)
            have.append(form)
        self._tensors[f"{name}@{form}"] = self._local(name, form)
        return f"{name}@{form}"

    def _convert(self, name: str, have: Sequence[str], form: str) -> None:
        kind = conversion(have, form)
        if kind is None or not self._is_real(have[0]):
            return
        if form not in (WHOLE, SUMMAND) and not self._is_real(form):
            kind = conversion(have, WHOLE)
        if kind is not None:
            self._collectives.append(Collective(kind, name, self.graph.tensors[name].size_bytes))

    def _is_real(self, form: str) -> bool:
        """Whether a cut form is one under this workload entry: one position cannot be cut."""
        if form in (WHOLE, SUMMAND):
            return True
        number = int(form[1:].partition(".")[0])
        return self.extents.is_enough(self.shape, number, self.degree)

    def _local(self, name: str, form: str) -> Tensor:
        return local(self.graph.tensors[name], form, self.shape, self.extents, self.degree)


def wanted_forms(op: Op, cut: Cut | None) -> list[str]:
    """The form in which each operand is needed."""
    forms = [WHOLE] * len(op.inputs)
    for axis in cut.index.inputs if cut is not None else ():
        assert cut is not None
        forms[axis.slot] = cut_form(cut.group, axis.axis)
    return forms
