"""What a group keeps in memory besides weights: caches for good, activations for a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.graph.skeleton import Skeleton
from planner.ir.devices import Hold
from planner.ir.graph import Graph, Tensor
from planner.place.extents import Extents, local
from planner.place.forms import WHOLE
from planner.place.groups import Group
from planner.place.strategy import Ends


@dataclass(frozen=True, slots=True)
class Caches:
    """Tensors that live from one inference to the next: what is given, extended and handed out."""

    given: Mapping[str, str]
    """Input of the model -> the output that is it and more."""
    base: str
    """Format that activations are kept in."""

    @classmethod
    def find(cls, graph: Graph, base: str) -> Caches:
        """Inputs that only one Concat reads, whose result is an output of the model: a KV cache,
        extended in place, so that only the longer of the two is kept."""
        outputs, inputs = set(graph.outputs), set(graph.inputs)
        readers = graph.consumers()
        found = {}
        for op in graph.ops:
            if op.op_type != "Concat" or op.outputs[0] not in outputs:
                continue
            grown = [name for name in op.inputs if name in inputs]
            others = [
                reader
                for name in grown
                for reader in readers.get(name, ())
                if reader.name != op.name and reader.op_type not in ("Shape", "Size")
            ]
            if len(grown) == 1 and not others:
                found[grown[0]] = op.outputs[0]
        return cls(found, base)

    def kept_bytes(self, tensor: Tensor) -> int:
        """Bytes of an activation as it is kept."""
        if tensor.dtype == "float32" and self.base in ("fp16", "bf16"):
            return tensor.size_bytes // 2
        return tensor.size_bytes

    def bytes_of(self, group: Group, ends: Ends, skeleton: Skeleton, extents: Extents) -> int:
        """Caches of a group on each rank, under the workload entry that needs most."""
        made = [self.given[name] for name in group.inputs if name in self.given]
        totals = [
            sum(
                self.kept_bytes(
                    local(
                        graph.tensors[name],
                        ends.makes.get(name, (WHOLE,))[0],
                        shape,
                        extents,
                        ends.degree,
                    )
                )
                for name in made
            )
            for shape, graph in enumerate(skeleton.graphs.values())
        ]
        return max(totals, default=0)


def holds(
    ends: Ends,
    skeleton: Skeleton,
    extents: Extents,
    number: int,
    after: Mapping[str, int],
    caches: Caches,
    groups: int,
) -> tuple[Hold, ...]:
    """What others read stays from the group that makes it until the last that reads it.

    Time points: one range of groups per workload entry. Results of the model stay to the end.
    """
    kept = set(caches.given.values())
    results = set(skeleton.graph.outputs) - kept
    count = groups + 1
    found: list[Hold] = []
    for shape, graph in enumerate(skeleton.graphs.values()):
        by_end: dict[int, int] = {}
        for name, forms in ends.makes.items():
            if name in kept or graph.tensors[name].is_constant:
                continue
            end = count if name in results else after.get(name, number) + 1
            part = local(graph.tensors[name], forms[0], shape, extents, ends.degree)
            by_end[end] = by_end.get(end, 0) + caches.kept_bytes(part)
        start = shape * (count + 1)
        found += [Hold(start + number, start + end, size) for end, size in by_end.items() if size]
    return tuple(found)


def slot_holds(number: int, groups: int, shapes: int, size_bytes: int) -> tuple[Hold, ...]:
    """A streamed weight occupies its bytes from the group before it until its group is done."""
    first = max(number - 1, 0)
    starts = (shape * (groups + 2) for shape in range(shapes))
    return tuple(Hold(start + first, start + number + 1, size_bytes) for start in starts)


def inputs_bytes(graphs: Sequence[Graph], caches: Caches) -> int:
    """What the model is given, caches apart, under the workload entry that needs most."""
    return max(
        sum(caches.kept_bytes(g.tensors[name]) for name in g.inputs if name not in caches.given)
        for g in graphs
    )
