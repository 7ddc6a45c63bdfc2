"""Writes placement instances that are unlike real graphs: what planners are seldom tried on.

    python benchmarks/placement_odd.py OUT [--seed TEXT]

OUT gets `max_load/*.json` and `latency/*.json` for `benchmarks/placement.py OUT`: random graphs of
50 to 3,000 nodes with lognormal times, sizes and moves, two to sixteen accelerators, no CPU or four
of them that run a third of the nodes as fast as an accelerator, memory for 8 % more than all
weights, loose nodes, chains, dense graphs, moves that cost twenty times a node.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from placement_cases import Case, Tightness, main
from placement_graphs import Graph, layered, recurrent, residual, training, transformer


@dataclass(frozen=True, slots=True)
class Shape:
    """A random graph."""

    nodes: int
    move: float
    """Median time to move a result; a node takes 1."""
    most_inputs: int = 2
    reach: int | None = None
    """Inputs are at most so many nodes back; None: anywhere."""

    def made(self, rng: random.Random) -> Graph:
        """The graph."""
        graph = Graph(rng)
        for node in range(self.nodes):
            first = 0 if self.reach is None else max(0, node - self.reach)
            inputs = [rng.randrange(first, node) for _ in range(self._drawn(rng))] if node else []
            time = 0.0 if rng.random() < 0.2 else rng.lognormvariate(0, 1)
            move, size = self.move * rng.lognormvariate(0, 1), rng.lognormvariate(15, 2)
            graph.node(time, inputs, move=move, size=size, speedup=rng.choice([1, 5, 20]))
        return graph

    def _drawn(self, rng: random.Random) -> int:
        """Number of inputs."""
        least = 0 if rng.random() < 0.1 else 1
        return min(self.most_inputs, rng.randint(least, max(1, self.most_inputs)))


CASES = {
    "dense60": Case(Shape(60, 0.2, 12).made, 4),
    "sparse120": Case(Shape(120, 1.0, 2, 10).made, 3),
    "nocpu500": Case(Shape(500, 0.3, 2, 15).made, 8, cpus=0),
    "cpus4_300": Case(Shape(300, 0.3, 3, 30).made, 4, cpus=4),
    "chain1000": Case(Shape(1000, 0.5, 1, 1).made, 16),
    "chain3000": Case(Shape(3000, 0.5, 1, 1).made, 16, is_tight=False),
    "wide1500": Case(Shape(1500, 0.05).made, 12),
    "span3000": Case(Shape(3000, 0.3, 2, 8).made, 8, is_tight=False),
    "heavycomm400": Case(Shape(400, 20.0, 2, 20).made, 6),
    "one50": Case(Shape(50, 0.5).made, 2),
    "indep400": Case(Shape(400, 0.0, 0).made, 7),
    "resid_tight": Case(lambda rng: residual(rng, 16), 5),
    "transf_tight16": Case(lambda rng: transformer(rng, 24), 16),
    "train_transf": Case(lambda rng: training(transformer(rng, 10)), 4),
    "train_rnd300": Case(lambda rng: training(Shape(300, 0.2, 2, 10).made(rng)), 6),
    "recurrent": Case(lambda rng: recurrent(rng, 10), 10),
    "layer2500": Case(lambda rng: layered(rng, 2500), 10, is_tight=False),
}


if __name__ == "__main__":
    main(__doc__ or "", CASES, Tightness(spare=1.08, of_largest=0.3), seed="a")
