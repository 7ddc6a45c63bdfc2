"""Placement instances with their devices, as files for `benchmarks/placement.py`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from placement_graphs import Graph

ROOMY_BYTES = 1e18


@dataclass(frozen=True, slots=True)
class Case:
    """A graph and its devices."""

    make: Callable[[random.Random], Graph]
    accelerators: int
    cpus: int = 1
    is_tight: bool = True
    """Whether accelerators have little more memory than the weights need."""


def write(
    folder: Path, cases: Mapping[str, Case], seed: str, spare: float, of_largest: float
) -> None:
    """Writes `max_load/*.json` and, but for training, `latency/*.json`.

    Args:
        seed: a name after it is what a graph is drawn from.
        spare: memory of tight accelerators together, relative to all weights.
        of_largest: share of the largest node that each has besides.
    """
    for name, case in cases.items():
        graph = case.make(random.Random(seed + name))
        sizes = [node["size"] for node in graph.nodes]
        tight = spare * sum(sizes) / case.accelerators + of_largest * max(sizes)
        made = graph.json(case.accelerators, tight if case.is_tight else ROOMY_BYTES, case.cpus)
        is_training = any(node["isBackwardNode"] for node in graph.nodes)
        for kind in ["max_load"] if is_training else ["max_load", "latency"]:
            (folder / kind).mkdir(parents=True, exist_ok=True)
            (folder / kind / f"{name}.json").write_text(json.dumps(made))
