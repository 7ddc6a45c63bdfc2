"""How far ranks may be from one process where products round their activations to 8 bits.

Ranks add up in another order, so that some roundings flip, and from layer to layer more do: at most
all of them. Both answers are then as far from those that round no activation, which one process
gives from the same packed weights:

    e = NMSE(unrounded, one process)        NMSE(one process, ranks) <= 4 e    (triangle inequality)

Integer products have no such twin. There the unchanged model stands in for it, whose distance holds
the rounding of weights as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from planner.graph import container, proto
from planner.ops.sharding.contraction import PACKED
from planner.runtime.compare import max_nmse

MOST_NMSE = 1e-3
"""Whatever roundings cost: beyond it, an engine is broken. In a GPT of 4 layers, 24 products, they
cost 1.3e-4: a limit of 5e-4. Its ranks differ by 1.0e-4 and 4e-5 (`benchmarks/ranks.py --formats
int8_wo,int4_wo --max-error 3e-3`, 2026-11-27), so that a cap of 1e-4 would refuse what is well."""
_BOTH_SIDES = 4.0
_LEVEL, _EXACT = "accuracy_level", 1
"""Of a packed product: its activations stay in float32."""


def unrounded(part: Path) -> Path:
    """The same file with activations as they come, written beside it: outside weights are shared.

    Raises:
        ModelError: the file is damaged.
    """
    model = container.parse(part)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == _LEVEL and proto.kind(node) == PACKED:
                attribute.i = _EXACT
    path = part.with_name(f"unrounded-{part.name}")
    path.write_bytes(model.SerializeToString())
    return path


def flip_limit(exact: Mapping[str, Any], outputs: Mapping[str, Any]) -> float:
    """NMSE that flips explain, at most `MOST_NMSE`.

    Args:
        exact: answers of the unrounded file.
        outputs: the same of one process.
    """
    return min(_BOTH_SIDES * max_nmse(exact, outputs), MOST_NMSE)
