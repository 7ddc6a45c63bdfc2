"""Writes placement instances of our own, in the format of the public ones, larger and harder.

    python benchmarks/placement_models.py OUT [--seed TEXT] [--mixed]

OUT gets `max_load/*.json` and `latency/*.json` for `benchmarks/placement.py OUT`; with --mixed, a
dozen others of max-load alone. Structures, with made-up costs:

layer_*   a node a layer: branching convolutions, a recurrent encoder and decoder with attention
op_*      a node an operator, and its parameters as nodes of their own in its colour class
random_*  series-parallel graphs, and layers of operators that read several of the layer before
*_training  every operator's gradients behind: in its colour class where it has parameters or is a
          kernel of note, else on their own ("orphans"), as exporters of training graphs write them
mixed     named by structure, number of nodes asked for, `train` where gradients are behind, and
          number of accelerators
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

from placement_graphs import (
    Graph,
    branching,
    deep,
    layered,
    lines,
    reaching,
    recurrent,
    residual,
    series_parallel,
    training,
    transformer,
)

ACCELERATOR_SIZE_BYTES = 16.0 * 2**30
MAX_LOAD: dict[str, tuple[Callable[[random.Random], Graph], int]] = {
    "layer_branching_inference": (lambda rng: branching(rng, 11), 6),
    "layer_branching_training": (lambda rng: training(branching(rng, 11)), 6),
    "layer_recurrent_inference": (lambda rng: recurrent(rng, 8), 6),
    "layer_recurrent_training": (lambda rng: training(recurrent(rng, 8)), 6),
    "op_residual_training": (lambda rng: training(residual(rng, 24)), 6),
    "op_transformer_inference": (lambda rng: transformer(rng, 18), 3),
    "op_transformer_training": (lambda rng: training(transformer(rng, 24)), 3),
    "random_layered_inference": (lambda rng: layered(rng, 2000), 6),
    "random_series_inference": (lambda rng: series_parallel(rng, 2000), 6),
    "random_series_training": (lambda rng: training(series_parallel(rng, 1000)), 6),
}
"""Maker and number of accelerators."""
MIXED: dict[str, tuple[Callable[[random.Random], Graph], int]] = {
    "sp300_k2": (lambda rng: series_parallel(rng, 300), 2),
    "sp800_k4": (lambda rng: series_parallel(rng, 800), 4),
    "sp2000_k8": (lambda rng: series_parallel(rng, 2000), 8),
    "sp600train_k4": (lambda rng: training(series_parallel(rng, 280)), 4),
    "wide400_k3": (lambda rng: lines(rng, 400, 6), 3),
    "wide2000_k6": (lambda rng: lines(rng, 2000, 8), 6),
    "deep200_k8": (lambda rng: deep(rng, 200), 8),
    "deep2000_k8": (lambda rng: deep(rng, 2000), 8),
    "deep1000train_k5": (lambda rng: training(deep(rng, 480)), 5),
    "dag200_k2": (lambda rng: reaching(rng, 200, 6), 2),
    "dag1000_k4": (lambda rng: reaching(rng, 1000, 8), 4),
    "branch900train_k8": (lambda rng: training(branching(rng, 13)), 8),
}
"""Of differing width, depth and reach."""
LATENCY: dict[str, tuple[Callable[[random.Random], Graph], int]] = {
    "layer_branching_inference": (lambda rng: branching(rng, 11), 12),
    "layer_recurrent_inference": (lambda rng: recurrent(rng, 8), 8),
    "op_transformer_inference": (lambda rng: transformer(rng, 12), 10),
    "random_series_inference": (lambda rng: series_parallel(rng, 400), 8),
}


def main() -> int:
    """Writes them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", default="0", help="any text; default %(default)s")
    parser.add_argument("--mixed", action="store_true", help="the other dozen")
    arguments = parser.parse_args()
    usual = {"max_load": MAX_LOAD, "latency": LATENCY}
    wanted = {"max_load": MIXED} if arguments.mixed else usual
    for folder, makers in wanted.items():
        target = arguments.folder / folder
        target.mkdir(parents=True, exist_ok=True)
        for name, (make, accelerators) in makers.items():
            graph = make(random.Random(f"{arguments.seed} {name}"))
            memory = scarce(graph, accelerators) if folder == "latency" else ACCELERATOR_SIZE_BYTES
            text = json.dumps(graph.json(accelerators, memory))
            (target / f"{name}.json").write_text(text)
            sys.stdout.write(f"{folder} {name}: {len(graph.nodes)} nodes\n")
    return 0


def scarce(graph: Graph, accelerators: int) -> float:
    """Makes moves four times as dear; bytes of one that holds a fraction of the model."""
    graph.move.update({edge: 4 * cost for edge, cost in graph.move.items()})
    total = sum(node["size"] for node in graph.nodes)
    return 1.3 * total / accelerators or ACCELERATOR_SIZE_BYTES


if __name__ == "__main__":
    sys.exit(main())
