"""Many small cuts out of one tensor become one split.

Gather(x, 0), Gather(x, 1), ... (one index each)      become      Split(x), and views
Slice(x, 0:16), Slice(x, 16:32), ...                  become      Split(x)
"""

from __future__ import annotations

from collections.abc import Iterable

from planner.graph.rewrite.net import Net, Node
from planner.graph.rewrite.sinking import cut_axis
from planner.graph.rewrite.views import add_view

_LEAST_CUTS = 2
_LEAST_SHARE = 0.5
"""Of the tensor that is cut out: a split copies all of it."""
_INPUT_OPSET = 13
"""From here on Split takes its sizes as an input."""
Cut = tuple[Node, int, int]
"""Operator, first place and the place behind the last."""


def split(net: Net, node: Node) -> bool:
    """Replaces the cuts along one axis of the tensor that this operator cuts."""
    if node.kind not in ("Gather", "Slice"):
        return False
    source, axis = node.inputs[0], _axis(net, node)
    if axis is None or source in net.constants:
        return False
    cuts = _cuts(net, source, axis)
    length = net.shapes[source][axis]
    taken = sum(end - start for _, start, end in cuts)
    if len(cuts) < _LEAST_CUTS or taken < _LEAST_SHARE * length or _overlap(cuts):
        return False
    _replace(net, source, axis, cuts)
    return True


def _cuts(net: Net, source: str, axis: int) -> list[Cut]:
    found = []
    for reader in net.readers(source):
        if reader.inputs[0] != source or _axis(net, reader) != axis:
            continue
        place = _place(net, reader, axis)
        if place is not None:
            found.append((reader, *place))
    return sorted(found, key=lambda cut: cut[1])


def _overlap(cuts: Iterable[Cut]) -> bool:
    behind = 0
    for _, start, end in cuts:
        if start < behind:
            return True
        behind = end
    return False


def _axis(net: Net, node: Node) -> int | None:
    """The only axis along which it cuts a fixed place out; None where it does something else."""
    if node.kind == "Gather":
        is_fixed = net.shape(node.inputs[1]) == () and net.integers(node.inputs[1]) is not None
        return cut_axis(net, node) if is_fixed else None
    return cut_axis(net, node) if node.kind == "Slice" else None


def _place(net: Net, node: Node, axis: int) -> tuple[int, int] | None:
    length = net.shapes[node.inputs[0]][axis]
    if node.kind == "Gather":
        index = net.integers(node.inputs[1])
        assert index is not None
        start = int(index[0]) % length
        return start, start + 1
    return _slice_place(net, node, axis, length)


def _slice_place(net: Net, node: Node, axis: int, length: int) -> tuple[int, int] | None:
    starts, ends, axes, steps = (
        net.integers(node.inputs[n]) if len(node.inputs) > n and node.inputs[n] else None
        for n in (1, 2, 3, 4)
    )
    if starts is None or ends is None or (len(node.inputs) > 3 and node.inputs[3] and axes is None):
        return None
    if len(node.inputs) > 4 and node.inputs[4] and (steps is None or set(steps.tolist()) != {1}):
        return None
    rank = len(net.shapes[node.inputs[0]])
    named = [int(a) % rank for a in axes] if axes is not None else list(range(len(starts)))
    if axis not in named:
        return None
    position = named.index(axis)
    start, end = (_clamped(int(ends_[position]), length) for ends_ in (starts, ends))
    return start, end


def _clamped(place: int, length: int) -> int:
    return min(max(place + length if place < 0 else place, 0), length)


def _replace(net: Net, source: str, axis: int, cuts: list[Cut]) -> None:
    shape, behind = net.shapes[source], 0
    sizes: list[int] = []
    wanted: list[Node | None] = []
    for cut, start, end in cuts:
        if start > behind:
            sizes.append(start - behind)
            wanted.append(None)
        sizes.append(end - start)
        wanted.append(cut)
        behind = end
    if behind < shape[axis]:
        sizes.append(shape[axis] - behind)
        wanted.append(None)
    names = [
        net.fresh(f"{source}__part", (*shape[:axis], length, *shape[axis + 1 :]))
        for length in sizes
    ]
    if net.opset >= _INPUT_OPSET:
        net.add("Split", [source, net.constant(sizes, "sizes")], names, axis=axis)
    else:
        net.add("Split", [source], names, axis=axis, split=sizes)
    for name, node in zip(names, wanted, strict=True):
        if node is not None:
            target = node.outputs[0]
            net.remove(node)
            add_view(net, name, target)
