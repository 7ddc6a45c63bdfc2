"""Writes placement instances with the shapes of published networks that the other makers lack.

    python benchmarks/placement_nets.py OUT [--seed TEXT]

OUT gets `max_load/*.json` and `latency/*.json` for `benchmarks/placement.py OUT`. Shapes: skips
from one end to the other (U-Net, Ronneberger et al., MICCAI 2015), layers that read all before them
(DenseNet, CVPR 2017), experts behind a router (Switch Transformer, JMLR 2022), embedding tables
that are all memory (DLRM, 2019), two towers, an encoder that every decoder layer reads, a recurrent
network unrolled over time, branches of grouped convolutions (ResNeXt, CVPR 2017). Costs are made
up: cheap or dear moves, memory to spare or hardly any, one to four CPUs, nodes that run on no
accelerator.
"""

from __future__ import annotations

import random

from placement_cases import Case, Tightness, main
from placement_graphs import Graph, training, transformer


def unet(rng: random.Random, depth: int, *, move: float = 1.0) -> Graph:
    """Blocks of convolutions down and up again; each level up reads the same level down."""
    graph = Graph(rng)
    value = graph.kernel(0.5, [], move=2 * move, weights=1e5)
    skips = []
    for level in range(depth):
        value = _convolutions(graph, [value], level, move)
        skips.append(value)
        value = graph.kernel(0.1, [value], move=move * 2.0**-level)
    value = _convolutions(graph, [value], depth, move)
    for level in reversed(range(depth)):
        value = graph.kernel(0.3, [value], move=move * 2.0**-level, weights=4e6)
        value = _convolutions(graph, [value, skips[level]], level, move)
    graph.kernel(0.2, [value], move=0.0, weights=1e4)
    return graph


def _convolutions(graph: Graph, inputs: list[int], level: int, move: float) -> int:
    value = graph.kernel(0.1, inputs, move=2 * move * 2.0**-level)
    for _ in range(2):
        time = graph.rng.uniform(1.0, 2.0)
        line = graph.kernel(time, [value], move=move * 2.0**-level, weights=2e5 * 4**level)
        line = graph.kernel(0.15, [line], move=move * 2.0**-level, weights=4e3)
        line = graph.kernel(0.1, [line], move=move * 2.0**-level)
        value = graph.kernel(0.1, [line, value], move=move * 2.0**-level)
    return value


def dense(rng: random.Random, blocks: int, layers: int, *, move: float = 0.2) -> Graph:
    """Every layer of a block reads the results of all before it."""
    graph = Graph(rng)
    value = graph.kernel(2.0, [], move=move * 4, weights=4e4)
    for _ in range(blocks):
        made = [value]
        for _ in range(layers):
            joined = graph.kernel(0.05, made, move=move * len(made) / 2)
            narrow = graph.kernel(rng.uniform(0.3, 0.6), [joined], move=move, weights=1e6)
            made.append(graph.kernel(rng.uniform(0.4, 0.9), [narrow], move=move, weights=2e6))
        value = graph.kernel(0.4, [graph.kernel(0.05, made, move=move * 4)], move=move * 4)
    graph.kernel(0.2, [value], move=0.0, weights=8e6)
    return graph


def experts(rng: random.Random, layers: int, count: int, *, move: float = 0.2) -> Graph:
    """Attention, a router, experts of uneven work, a sum."""
    graph = Graph(rng)
    value = graph.kernel(0.2, [], move=move, weights=6e7)
    for _ in range(layers):
        heads = [graph.kernel(0.6, [value], move=move, weights=4e6) for _ in range(3)]
        score = graph.kernel(0.5, heads[:2], move=2 * move)
        mixed = graph.kernel(0.4, [score, heads[2]], move=move)
        value = graph.kernel(0.6, [mixed, value], move=move, weights=4e6)
        route = graph.kernel(0.05, [value], move=0.01, weights=1e5)
        ends = []
        for _ in range(count):
            time = rng.lognormvariate(-0.5, 0.7)
            taken = graph.kernel(0.03, [value, route], move=move / 2)
            wide = graph.kernel(time, [taken], move=move, weights=3e7)
            ends.append(graph.kernel(time, [wide], move=move / 2, weights=3e7))
        value = graph.kernel(0.1, [*ends, value], move=move)
    graph.kernel(2.0, [value], move=0.0, weights=6e7)
    return graph


def towers(rng: random.Random, layers: int, count: int) -> Graph:
    """Towers that meet at the end."""
    graph = Graph(rng)
    ends = []
    for _ in range(count):
        value = graph.kernel(0.1, [], move=0.3, weights=2e8)
        for _ in range(layers):
            line = graph.kernel(rng.uniform(0.4, 1.5), [value], move=0.3, weights=4e6)
            line = graph.kernel(rng.uniform(0.05, 0.2), [line], move=0.3)
            value = graph.kernel(0.05, [line, value], move=0.3)
        ends.append(value)
    graph.kernel(0.3, ends, move=0.0)
    return graph


def recommender(rng: random.Random, tables: int) -> Graph:
    """Embedding tables of uneven size, all memory, and dense layers on what they say together."""
    graph = Graph(rng)
    value = graph.node(0.2, [], move=0.05, size=1e6)
    for _ in range(3):
        value = graph.node(rng.uniform(0.3, 0.8), [value], move=0.05, size=4e6)
    found = []
    for _ in range(tables):
        time, size = rng.uniform(0.05, 0.4), rng.lognormvariate(17, 1.5)
        found.append(graph.node(time, [], move=0.05, size=size, speedup=rng.choice((1, 2, 5))))
    pairs = [graph.node(0.1, rng.sample(found, 4), move=0.02) for _ in range(tables)]
    value = graph.node(0.3, [value, *pairs], move=0.1)
    for _ in range(4):
        value = graph.node(rng.uniform(0.3, 1.0), [value], move=0.05, size=8e6)
    return graph


def translator(rng: random.Random, layers: int, *, move: float = 0.25) -> Graph:
    """An encoder whose result every decoder layer reads."""
    graph = Graph(rng)

    def block(value: int, context: int | None) -> int:
        for other in [value] if context is None else [value, context]:
            heads = [graph.kernel(0.5, [x], move=move, weights=1e6) for x in (value, other, other)]
            score = graph.kernel(0.4, heads[:2], move=2 * move)
            mixed = graph.kernel(0.3, [score, heads[2]], move=move)
            value = graph.kernel(0.5, [mixed, value], move=move, weights=1e6)
        wide = graph.kernel(2.0, [value], move=4 * move, weights=4e6)
        return graph.kernel(2.0, [wide, value], move=move, weights=4e6)

    encoded = graph.kernel(0.1, [], move=move, weights=3e7)
    for _ in range(layers):
        encoded = block(encoded, None)
    value = graph.kernel(0.1, [], move=move, weights=3e7)
    for _ in range(layers):
        value = block(value, encoded)
    graph.kernel(4.0, [value], move=0.0, weights=3e7)
    return graph


def unrolled(rng: random.Random, layers: int, steps: int, *, move: float = 0.05) -> Graph:
    """Cells of a recurrent network, layer by layer and step by step; a layer's cells share weights
    and therefore a colour class, every fourth layer's do not."""
    graph = Graph(rng)
    below: list[int] = [graph.node(0.02, [], move=move) for _ in range(steps)]
    for layer in range(layers):
        cells: list[int] = []
        colour = None if layer % 4 == 3 else 10**6 + layer
        for step in range(steps):
            inputs = [below[step], *cells[-1:]]
            time = rng.uniform(0.2, 0.4)
            cells.append(graph.node(time, inputs, move=move, size=1e6 / steps, colour=colour))
        below = cells
    graph.node(0.2, below, move=0.0)
    return graph


def grouped(rng: random.Random, blocks: int, width: int, *, move: float) -> Graph:
    """Blocks of many narrow branches that are summed up."""
    graph = Graph(rng)
    value = graph.node(1.0, [], move=move, size=1e6)
    for _ in range(blocks):
        ends = []
        for _ in range(width):
            line = value
            for _ in range(3):
                line = graph.node(rng.lognormvariate(-1.5, 0.5), [line], move=move / 4, size=2e5)
            ends.append(line)
        value = graph.node(0.1, [*ends, value], move=move)
    return graph


def partly(graph: Graph, share: float) -> Graph:
    """A share of the nodes runs on no accelerator, but fast on a CPU."""
    for node in graph.nodes:
        if graph.rng.random() < share:
            node["supportedOnFpga"], node["cpuLatency"] = False, node["fpgaLatency"]
    return graph


NETS = {
    "unet5": Case(lambda rng: unet(rng, 5), 4, is_tight=False),
    "unet6_train": Case(lambda rng: training(unet(rng, 6)), 6, is_tight=False),
    "unet6_dear": Case(lambda rng: unet(rng, 6, move=4.0), 3),
    "dense4x12": Case(lambda rng: dense(rng, 4, 12), 6, is_tight=False),
    "dense3x20_train": Case(lambda rng: training(dense(rng, 3, 20)), 4, is_tight=False),
    "experts6x16": Case(lambda rng: experts(rng, 6, 16), 8),
    "experts12x32": Case(lambda rng: experts(rng, 12, 32), 16, cpus=2),
    "experts4x8_train": Case(lambda rng: training(experts(rng, 4, 8, move=0.5)), 3, is_tight=False),
    "towers2x24": Case(lambda rng: towers(rng, 24, 2), 2, is_tight=False),
    "towers5x40_tight": Case(lambda rng: towers(rng, 40, 5), 6),
    "recommender60": Case(lambda rng: recommender(rng, 60), 4, cpus=2),
    "translator8": Case(lambda rng: translator(rng, 8), 5, is_tight=False),
    "translator6_train": Case(
        lambda rng: training(translator(rng, 6, move=1.0)), 4, is_tight=False
    ),
    "unrolled8x40": Case(lambda rng: unrolled(rng, 8, 40), 4, is_tight=False),
    "grouped12x32": Case(lambda rng: grouped(rng, 12, 32, move=0.4), 5, is_tight=False),
    "grouped6x16_dear": Case(lambda rng: grouped(rng, 6, 16, move=3.0), 4),
    "partly20x24": Case(
        lambda rng: partly(grouped(rng, 20, 24, move=0.2), 0.3), 6, cpus=4, is_tight=False
    ),
    "layers60_k16": Case(lambda rng: transformer(rng, 60), 16, is_tight=False),
}


if __name__ == "__main__":
    main(__doc__ or "", NETS, Tightness(spare=1.15, of_largest=1.0), seed="n ")
