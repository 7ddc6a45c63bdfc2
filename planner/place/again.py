"""Activations that a group makes again instead of having them kept for it since long before.

A tensor that early groups read and, much later, another one (a skip connection) is two tensors
here: the second, its late form, is what late groups read. Its maker has options that leave the
late form behind and hold the memory all the while, and options that do not. A late group has
options that need the late form, and options that begin with the operators that make the tensor,
from what is there anyway. So one Problem decides which activations are worth their memory, beside
formats, shardings, stages and what streams. Weights on the way back are stored once more with the
late group: they may lie on other devices, and are small beside the tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from planner.graph.skeleton import Skeleton
from planner.ir.graph import Graph, Op
from planner.ir.problem import Option
from planner.place.axes import Axes
from planner.place.groups import Group
from planner.place.late import Late, late_tensors
from planner.place.recompute import copy_name
from planner.place.strategy import Ends

AGAIN, DROPPED = "+again", "+dropped"
"""In names of options: that make activations again, and that leave none for late groups."""


def is_remade(option: Option) -> bool:
    """Whether an option makes something again, or counts on others to do so."""
    return AGAIN in option.name or DROPPED in option.name


@dataclass(frozen=True)
class Again:
    """Groups as they are with late forms, and what stands in for them."""

    skeleton: Skeleton
    """With late forms and copies among its tensors."""
    axes: Axes
    """With copies of operators, cut as these."""
    groups: tuple[Group, ...]
    """Late groups read late forms."""
    remade: Mapping[int, Group]
    """Late groups that make what they read late."""
    late: tuple[Late, ...]

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(group, late group that makes something again from what it makes)."""
        home = {name: n for n, group in enumerate(self.groups) for name in group.outputs}
        return tuple(
            (home[name], n)
            for n, group in self.remade.items()
            for name in group.inputs
            if name in home
        )

    def kept_by(self, number: int) -> tuple[Late, ...]:
        """What a group may leave behind for late ones."""
        return tuple(each for each in self.late if each.home == number)

    def made_in(self, number: int) -> tuple[str, ...]:
        """Tensors that a late group makes again."""
        return tuple(each.tensor for each in self.late if number in each.readers)


@dataclass(frozen=True, slots=True)
class Way:
    """A group under one strategy, with or without its late forms."""

    mark: str
    """In names of its options."""
    ends: Ends
    held: Ends
    """What it holds memory for: a tensor and its late form are one."""
    after: Mapping[str, int]
    """Tensor -> number of the last group that it is held for."""
    again: tuple[str, ...] = ()
    """Tensors that it makes again."""


def ways(
    again: Again | None, number: int, ends: Ends, after: Mapping[str, int], *, is_again: bool
) -> list[Way]:
    """How a group may treat what is read late: made again or not, left behind or not."""
    made = again.made_in(number) if again is not None and is_again else ()
    mark = AGAIN if is_again else ""
    kept = again.kept_by(number) if again is not None else ()
    if not kept:
        return [Way(mark, ends, ends, after, made)]
    makes = {**ends.makes, **{each.name: ends.makes[each.tensor] for each in kept}}
    longer = {**after, **{each.tensor: each.readers[-1] for each in kept}}
    return [
        Way(mark, replace(ends, makes=makes), ends, longer, made),
        Way(f"{mark}{DROPPED}", ends, ends, after, made),
    ]


def find(
    skeleton: Skeleton, axes: Axes, groups: Sequence[Group], least_bytes: float, narrow: bool
) -> Again | None:
    """What may be made again; None where nothing may.

    Args:
        narrow: floats of 32 bits are kept in 16.
    """
    late = late_tensors(skeleton, groups, least_bytes, narrow)
    return _applied(skeleton, axes, groups, late) if late else None


def _applied(
    skeleton: Skeleton, axes: Axes, groups: Sequence[Group], late: tuple[Late, ...]
) -> Again:
    copies = {each.tensor: _copies(each) for each in late}
    alias = {each.name: each.tensor for each in late}
    for each in late:
        for op, copy in zip(each.chain, copies[each.tensor], strict=True):
            alias.update(zip(copy.outputs, op.outputs, strict=True))
    graphs = {entry: _with(graph, alias) for entry, graph in skeleton.graphs.items()}
    attributes, cuts = dict(skeleton.attributes), dict(axes.cuts)
    for each in late:
        for op, copy in zip(each.chain, copies[each.tensor], strict=True):
            cuts[copy.name] = cuts[op.name]
            if op.name in attributes:
                attributes[copy.name] = attributes[op.name]
    plain, remade = list(groups), {}
    for number in sorted({n for each in late for n in each.readers}):
        mine = [each for each in late if number in each.readers]
        names = {each.tensor: each.name for each in mine}
        plain[number] = _reading(groups[number], names)
        extra = [copy for each in mine for copy in copies[each.tensor]]
        again = {each.tensor: copy_name(each.tensor, each.tensor) for each in mine}
        remade[number] = _making(groups[number], again, extra, skeleton.graph)
    return Again(
        replace(skeleton, graphs=graphs, attributes=attributes),
        replace(axes, cuts=cuts),
        tuple(plain),
        remade,
        late,
    )


def _copies(late: Late) -> list[Op]:
    """The way back under names of its own."""
    made = {name for op in late.chain for name in op.outputs if name}
    names = {name: copy_name(name, late.tensor) for name in made}
    return [
        replace(
            op,
            name=copy_name(op.name, late.tensor),
            inputs=tuple(names.get(name, name) for name in op.inputs),
            outputs=tuple(names.get(name, name) for name in op.outputs),
        )
        for op in late.chain
    ]


def _with(graph: Graph, alias: Mapping[str, str]) -> Graph:
    tensors = dict(graph.tensors)
    tensors.update(
        {new: replace(tensors[old], name=new) for new, old in alias.items() if old in tensors}
    )
    return replace(graph, tensors=tensors)


def _reading(group: Group, names: Mapping[str, str]) -> Group:
    """The same, reading other tensors."""
    ops = tuple(
        replace(op, inputs=tuple(names.get(name, name) for name in op.inputs)) for op in group.ops
    )
    return replace(group, ops=ops, inputs=tuple(names.get(name, name) for name in group.inputs))


def _making(group: Group, names: Mapping[str, str], extra: Sequence[Op], graph: Graph) -> Group:
    """The same with operators in front that make what it reads."""
    reading = _reading(group, names)
    made = {name for op in (*extra, *group.ops) for name in op.outputs if name}
    wanted = dict.fromkeys(
        name
        for op in (*extra, *reading.ops)
        for name in (*op.inputs, *op.captured)
        if name and name not in made
    )
    inputs = tuple(name for name in wanted if not graph.tensors[name].is_constant)
    return replace(reading, ops=(*extra, *reading.ops), inputs=inputs)
