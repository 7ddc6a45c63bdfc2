"""How a group of operators is spread over ranks: each operator cut along a class of axes, or whole.

A strategy is an order of preference among classes. Each operator takes the first class along which
it can be cut; what operands lack is converted (all-reduce, all-gather, reduce-scatter, all-to-all;
a slice of what is whole costs nothing). So one group may be column- then row-parallel inside, and
hand over whole tensors, parts or summands at its ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from planner.graph.skeleton import Skeleton
from planner.ir.graph import Graph, Op, Tensor
from planner.ops.sharding import Kind
from planner.place.axes import Axes, Cut
from planner.place.groups import Group

WHOLE = "r"
"""Form of a tensor that every rank has whole."""
SUMMAND = "p"
"""Form of a tensor that is the sum of what the ranks have."""


def cut_form(group: int, axis: int) -> str:
    """Form of a tensor that is cut along one axis of a class."""
    return f"s{group}.{axis}"


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


@dataclass(frozen=True, slots=True)
class Ends:
    """What others see of a group under one strategy."""

    classes: tuple[int, ...]
    degree: int
    needs: Mapping[str, str]
    """Tensor from outside -> the form that it is needed in."""
    makes: Mapping[str, tuple[str, ...]]
    """Tensor for others -> the forms that it is left in."""
    stored: Mapping[str, tuple[str, tuple[int, ...]]]
    """Constant -> form and shape of a rank's part."""

    def renamed(self, tensors: Mapping[str, str], classes: Mapping[int, int]) -> Ends:
        """The same of a group that looks alike."""

        def form(old: str) -> str:
            if old in (WHOLE, SUMMAND):
                return old
            number, _, axis = old[1:].partition(".")
            return cut_form(classes[int(number)], int(axis))

        return Ends(
            tuple(classes[number] for number in self.classes),
            self.degree,
            {tensors[name]: form(old) for name, old in self.needs.items()},
            {tensors[name]: tuple(map(form, olds)) for name, olds in self.makes.items()},
            {tensors[name]: (form(old), shape) for name, (old, shape) in self.stored.items()},
        )


@dataclass(frozen=True)
class Spread:
    """A group under one strategy."""

    classes: tuple[int, ...]
    degree: int
    choices: Mapping[str, Cut]
    """Operator -> how it is cut; those that stay whole are not in it."""
    needs: Mapping[str, str]
    """Tensor from outside -> the form that it is needed in."""
    makes: Mapping[str, tuple[str, ...]]
    """Tensor for others -> the forms that it is left in."""
    work: tuple[RankWork, ...]
    """Per workload entry."""
    weights: Mapping[str, tuple[int, ...]]
    """Constant -> shape of a rank's part."""
    stored: Mapping[str, str]
    """Constant -> the form of that part."""

    @property
    def ends(self) -> Ends:
        """What others see of it."""
        stored = {name: (self.stored[name], shape) for name, shape in self.weights.items()}
        return Ends(self.classes, self.degree, self.needs, self.makes, stored)


@dataclass(frozen=True)
class Extents:
    """Into how many parts each class can be cut, per workload entry."""

    of: tuple[Mapping[int, int], ...]

    @classmethod
    def find(cls, axes: Axes, shapes: int) -> Extents:
        """The coarsest granularity that any operator asks for."""
        found: tuple[dict[int, int], ...] = tuple({} for _ in range(shapes))
        for cuts in axes.cuts.values():
            for known, own in zip(found, cuts, strict=True):
                for cut in own:
                    known[cut.group] = min(known.get(cut.group, cut.index.extent), cut.index.extent)
        return cls(found)

    def part(self, shape: int, group: int, size: int, degree: int) -> int:
        """Elements of an axis on the rank that has most."""
        extent = self.of[shape].get(group, size)
        if extent <= 0 or size % extent:
            return math.ceil(size / degree)
        return math.ceil(extent / degree) * (size // extent)

    def is_enough(self, shape: int, group: int, degree: int) -> bool:
        """Whether every rank gets something."""
        return self.of[shape].get(group, 1) >= degree


def spread(
    group: Group,
    skeleton: Skeleton,
    axes: Axes,
    extents: Extents,
    classes: Sequence[int],
    degree: int,
) -> Spread:
    """A group under one order of preference among classes."""
    choices = _choices(group, skeleton, axes, extents, classes, degree)
    needs = _needs(group, choices, frozenset(skeleton.graph.tensors))
    runs = tuple(
        _Run(group, graph, number, extents, choices, needs, degree).done()
        for number, graph in enumerate(skeleton.graphs.values())
    )
    return Spread(
        tuple(classes),
        degree,
        choices,
        needs,
        runs[0].makes,
        tuple(run.work for run in runs),
        runs[0].weights,
        runs[0].stored,
    )


def _choices(
    group: Group,
    skeleton: Skeleton,
    axes: Axes,
    extents: Extents,
    classes: Sequence[int],
    degree: int,
) -> dict[str, Cut]:
    """One cut for each operator, the same for all workload entries."""
    if degree == 1:
        return {}
    found: dict[str, Cut] = {}
    tensors = skeleton.graph.tensors
    for op in group.ops:
        by_shape = axes.cuts[op.name]
        options = [cut for wanted in classes for cut in _of_class(by_shape, wanted)]
        for cut in options:
            shares = [extents.is_enough(n, cut.group, degree) for n in range(len(by_shape))]
            there = [
                ok and any(_is_same(cut, own) for own in cuts)
                for ok, cuts in zip(shares, by_shape, strict=True)
            ]
            fixed = [tensors[op.inputs[a.slot]].is_constant for a in cut.index.inputs]
            if all(there) or (any(there) and not any(fixed)):
                found[op.name] = cut
                break
    return found


def _of_class(by_shape: Sequence[Sequence[Cut]], wanted: int) -> list[Cut]:
    """Cuts of a class: parallel ones first, each once."""
    found: list[Cut] = []
    for cuts in by_shape:
        for cut in cuts:
            if cut.group == wanted and not any(_is_same(cut, known) for known in found):
                found.append(cut)
    return sorted(found, key=lambda cut: cut.index.kind is not Kind.PARALLEL)


def _is_same(one: Cut, other: Cut) -> bool:
    """The same axes of the same operands, whatever their lengths."""
    a, b = one.index, other.index
    return (
        one.group == other.group
        and a.kind is b.kind
        and [(x.slot, x.axis) for x in a.outputs] == [(x.slot, x.axis) for x in b.outputs]
    )


def _wanted(op: Op, cut: Cut | None) -> list[str]:
    """The form in which each operand is needed."""
    forms = [WHOLE] * len(op.inputs)
    for axis in cut.index.inputs if cut is not None else ():
        assert cut is not None
        forms[axis.slot] = cut_form(cut.group, axis.axis)
    return forms


def _needs(group: Group, choices: Mapping[str, Cut], known: frozenset[str]) -> dict[str, str]:
    """What is needed of tensors from outside; several wishes are cut from the whole."""
    outside = set(group.inputs)
    wishes: dict[str, set[str]] = {}
    for op in group.ops:
        for name, form in zip(op.inputs, _wanted(op, choices.get(op.name)), strict=True):
            if name in outside:
                wishes.setdefault(name, set()).add(form)
        for name in op.captured:
            if name in outside:
                wishes.setdefault(name, set()).add(WHOLE)
    return {name: next(iter(forms)) if len(forms) == 1 else WHOLE for name, forms in wishes.items()}


@dataclass
class _Run:
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

    def done(self) -> _Run:
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
            for name, form in zip(op.inputs, _wanted(op, cut), strict=True)
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


def conversion(have: Sequence[str], form: str) -> str | None:
    """The collective that brings a tensor into a form; None: nothing needs to be sent."""
    if WHOLE in have or form in have:
        return None
    if SUMMAND in have:
        return "all_reduce" if form == WHOLE else "reduce_scatter"
    return "all_gather" if form == WHOLE else "all_to_all"


def local(tensor: Tensor, form: str, shape: int, extents: Extents, degree: int) -> Tensor:
    """The part of a tensor that one rank has."""
    if form in (WHOLE, SUMMAND) or not tensor.shape or degree == 1:
        return tensor
    number, _, axis = form[1:].partition(".")
    if not extents.is_enough(shape, int(number), degree):
        return tensor
    dims = list(tensor.shape)
    whole = dims[int(axis)]
    dims[int(axis)] = extents.part(shape, int(number), whole, degree)
    size_bytes = tensor.size_bytes * dims[int(axis)] // max(whole, 1)
    return Tensor(tensor.name, tensor.dtype, tuple(dims), size_bytes, tensor.is_constant)
