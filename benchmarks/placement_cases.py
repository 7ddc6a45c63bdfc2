"""Placement instances with their devices, as files for `benchmarks/placement.py`."""

from __future__ import annotations

import argparse
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


@dataclass(frozen=True, slots=True)
class Tightness:
    """Memory of tight accelerators."""

    spare: float
    """Of all together, relative to all weights."""
    of_largest: float
    """Share of the largest node that each has besides."""


def main(about: str, cases: Mapping[str, Case], tightness: Tightness, seed: str) -> None:
    """Writes them all where the command line says.

    Args:
        about: the first line of the help.
        seed: what graphs are drawn from, before their names, where the user gives none.
    """
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", default=seed, help="any text; default %(default)r")
    arguments = parser.parse_args()
    write(arguments.folder, cases, tightness, arguments.seed)


def write(folder: Path, cases: Mapping[str, Case], tightness: Tightness, seed: str) -> None:
    """Writes `max_load/*.json` and, but for training, `latency/*.json`."""
    for name, case in cases.items():
        graph = case.make(random.Random(seed + name))
        sizes = [node["size"] for node in graph.nodes]
        tight = tightness.spare * sum(sizes) / case.accelerators
        tight += tightness.of_largest * max(sizes)
        made = graph.json(case.accelerators, tight if case.is_tight else ROOMY_BYTES, case.cpus)
        is_training = any(node["isBackwardNode"] for node in graph.nodes)
        for kind in ["max_load"] if is_training else ["max_load", "latency"]:
            (folder / kind).mkdir(parents=True, exist_ok=True)
            (folder / kind / f"{name}.json").write_text(json.dumps(made))
