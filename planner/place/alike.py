"""Which groups look alike, so that they are listed and priced once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from planner.graph.skeleton import Skeleton
from planner.place.axes import Axes
from planner.place.groups import Group


@dataclass
class Numbering:
    """Classes and tensors by first use: what alike groups share."""

    classes: list[int] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)
    _known: dict[int, int] = field(default_factory=dict)

    def of(self, number: int) -> int:
        """Its place among the classes seen, in the order of their first use."""
        if number not in self._known:
            self._known[number] = len(self.classes)
            self.classes.append(number)
        return self._known[number]


def signature(
    group: Group,
    skeleton: Skeleton,
    axes: Axes,
    span: Mapping[int, int],
    numbering: Numbering,
) -> Hashable:
    """Equal for groups that cost the same under corresponding strategies."""
    numbers: dict[str, int] = {"": -1}
    outside, made = set(group.inputs), set(group.outputs)
    weighted = set(group.weighted)
    looks = []
    for op in group.ops:
        names = (*op.inputs, *op.captured, *op.outputs)
        wiring = tuple(numbers.setdefault(name, len(numbers)) for name in names)
        shapes = tuple(
            tuple(graph.tensors[name].shape for name in names if name)
            for graph in skeleton.graphs.values()
        )
        kinds = tuple(
            (skeleton.graph.tensors[n].dtype, skeleton.graph.tensors[n].is_constant)
            for n in names
            if n
        )
        ends = tuple((name in outside, name in made) for name in names)
        cuts = tuple(
            tuple((numbering.of(cut.group), cut.index) for cut in own) for own in axes.cuts[op.name]
        )
        own = (op.kind, id(skeleton.attributes.get(op.name)), op.name in weighted)
        looks.append((*own, wiring, shapes, kinds, ends, cuts))
    numbering.tensors += numbers
    wide = tuple(min(span[number], 8) for number in numbering.classes)
    return tuple(looks), wide
