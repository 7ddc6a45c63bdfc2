"""Writes sharding instances of our own in the contest's format, of other structures than its own.

    python benchmarks/sharding_models.py OUT

Random pair costs on every edge (the contest's edges mostly leave one end no choice), or edges that
care for the remainder by three alone; memory that leaves from
2 to 50 % of the way from the least use to the average one, or has no limit; 120 to 20,000 nodes.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Case:
    """One instance."""

    nodes: int
    strategies: int
    """At most, of a node."""
    edges: int
    """To earlier nodes, at most."""
    pairs: str
    room: float | None
    """Of memory, from the least use to the average; None: no limit."""
    lifetime: int = 50


CASES = {
    "dense2000": Case(2_000, 20, 3, "dense", 0.5),
    "tight500": Case(500, 12, 2, "dense", 0.02, 80),
    "mod20000": Case(20_000, 10, 2, "modulo", 0.3),
    "wide300": Case(300, 80, 4, "dense", 0.4),
    "nolimit1000": Case(1_000, 16, 3, "dense", None),
    "mid120": Case(120, 6, 2, "dense", 0.1, 20),
}


def problem(name: str, case: Case, rng: random.Random) -> dict[str, Any]:
    """The instance."""
    sizes = [rng.choice([1, rng.randint(2, case.strategies)]) for _ in range(case.nodes)]
    spans = [[n, min(case.nodes, n + rng.randint(0, case.lifetime))] for n in range(case.nodes)]
    costs = [[rng.randint(0, 10**6) for _ in range(size)] for size in sizes]
    usages = [[rng.randint(0, 10**9) // (k + 1) for k in range(size)] for size in sizes]
    ends, pairs = [], []
    for b in range(1, case.nodes):
        for _ in range(rng.randint(1, case.edges)):
            a = max(0, b - rng.randint(1, 40)) if rng.random() < 0.95 else rng.randrange(b)
            ends.append([a, b])
            every = [(x, y) for x in range(sizes[a]) for y in range(sizes[b])]
            pairs.append([_pair(case.pairs, x, y, rng) for x, y in every])
    made: dict[str, Any] = {
        "name": name,
        "nodes": {"intervals": spans, "costs": costs, "usages": usages},
        "edges": {"nodes": ends, "costs": pairs},
    }
    if case.room is not None:
        least, average = [0.0] * case.nodes, [0.0] * case.nodes
        for (start, end), usage in zip(spans, usages, strict=True):
            for t in range(start, end):
                least[t] += min(usage)
                average[t] += sum(usage) / len(usage)
        made["usage_limit"] = int(max(least) + case.room * (max(average) - max(least)))
    return made


def _pair(kind: str, x: int, y: int, rng: random.Random) -> int:
    if kind == "modulo":
        return 0 if x % 3 == y % 3 else rng.randint(1, 10**7)
    return rng.randint(0, 10**6)


def main() -> None:
    """Writes them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        made = problem(name, case, random.Random(name))
        (folder / f"{name}.json").write_text(json.dumps({"problem": made}))


if __name__ == "__main__":
    main()
