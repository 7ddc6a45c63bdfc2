"""How a group of operators is spread over ranks: each operator cut along a class of axes, or whole.

A strategy is an order of preference among classes. Each operator takes the first class along which
it can be cut; what operands lack is converted (all-reduce, all-gather, reduce-scatter, all-to-all;
a slice of what is whole costs nothing). So one group may be column- then row-parallel inside, and
hand over whole tensors, parts or summands at its ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.graph.skeleton import Skeleton
from planner.ops.sharding import Kind
from planner.place.axes import Axes, Cut
from planner.place.extents import Extents
from planner.place.forms import SUMMAND, WHOLE, cut_form
from planner.place.groups import Group
from planner.place.rank import RankRun, RankWork, wanted_forms


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
    needs = _needs(group, choices)
    runs = tuple(
        RankRun(group, graph, number, extents, choices, needs, degree).done()
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


def _needs(group: Group, choices: Mapping[str, Cut]) -> dict[str, str]:
    """What is needed of tensors from outside; several wishes are cut from the whole."""
    outside = set(group.inputs)
    wishes: dict[str, set[str]] = {}
    for op in group.ops:
        wanted = [
            *zip(op.inputs, wanted_forms(op, choices.get(op.name)), strict=True),
            *((name, WHOLE) for name in op.captured),
        ]
        for name, form in ((name, form) for name, form in wanted if name in outside):
            wishes.setdefault(name, set()).add(form)
    return {name: next(iter(forms)) if len(forms) == 1 else WHOLE for name, forms in wishes.items()}
