"""Which wires go, and who takes their place."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from planner.graph.rewrite.channels.wires import Wiring

Family = tuple[str, ...]


def replaced(wiring: Wiring, block: int) -> dict[int, int]:
    """Wire -> its twin, for wires that nothing needs.

    Twins are in the same tensors, and hold the same in all that products sum. As many stay as fill
    the blocks of channels that convolutions compute together.
    """
    families: dict[Family, list[int]] = defaultdict(list)
    kinds: dict[int, tuple[int, ...]] = {}
    for wire, (tensors, labels) in _members(wiring).items():
        families[tensors].append(wire)
        kinds[wire] = labels
    found: dict[int, int] = {}
    for wires in families.values():
        found.update(_chosen(wires, kinds, block))
    return found


def _members(wiring: Wiring) -> dict[int, tuple[Family, tuple[int, ...]]]:
    """Of each wire that may go: its tensors, and its labels where products read it."""
    stays = wiring.frozen()
    tensors: dict[int, list[str]] = defaultdict(list)
    labels: dict[int, list[int]] = defaultdict(list)
    for name, lanes in wiring.lanes.items():
        roots = wiring.roots(name)
        stays.update(root for root, times in Counter(roots).items() if times > 1)
        for root, label in zip(roots, lanes.labels.tolist(), strict=True):
            tensors[root].append(name)
            if name in wiring.summed:
                labels[root].append(label)
    return {
        wire: (tuple(names), tuple(labels[wire]))
        for wire, names in tensors.items()
        if wire not in stays
    }


def _chosen(wires: Sequence[int], kinds: dict[int, tuple[int, ...]], block: int) -> dict[int, int]:
    first: dict[tuple[int, ...], int] = {}
    for wire in wires:
        first.setdefault(kinds[wire], wire)
    spare = [wire for wire in wires if first[kinds[wire]] != wire]
    wanted = len(first)
    if 2 * wanted > block:
        wanted = -(-wanted // block) * block
    kept = wanted - len(first)
    return {wire: first[kinds[wire]] for wire in spare[kept:]}
