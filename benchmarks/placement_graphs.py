"""Graphs with made-up costs that placement instances are written from: structures of real models,
and random ones of differing width, depth and reach."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

BYTES_PER_TIME = 2**31
"""Of a result that takes one unit of time to move."""


@dataclass(slots=True)
class Graph:
    """Nodes and edges as they are made."""

    rng: random.Random
    nodes: list[dict[str, Any]] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)
    move: dict[int, float] = field(default_factory=dict)
    """Time to move each node's result."""

    def node(
        self,
        time: float,
        inputs: list[int],
        *,
        move: float,
        size: float = 0.0,
        colour: int | None = None,
        backward: bool = False,
        speedup: float = 10.0,
    ) -> int:
        """A new node behind its inputs."""
        number = len(self.nodes)
        jitter = self.rng.uniform(0.9, 1.1)
        entry: dict[str, Any] = {
            "id": number,
            "name": f"node {number}",
            "supportedOnFpga": True,
            "fpgaLatency": time * jitter,
            "cpuLatency": time * jitter * speedup,
            "isBackwardNode": backward,
            "size": size,
        }
        if colour is not None:
            entry["colorClass"] = colour
        self.nodes.append(entry)
        self.move[number] = move
        self.edges.extend((source, number) for source in dict.fromkeys(inputs))
        return number

    def kernel(self, time: float, inputs: list[int], *, move: float, weights: float = 0.0) -> int:
        """An operator, its parameters a node of no time in its colour class."""
        colour = len(self.nodes)
        if not weights:
            speedup = self.rng.choice((8.0, 20.0, 60.0))
            return self.node(time, inputs, move=move, colour=colour, speedup=speedup)
        held = self.node(
            0.0, [], move=weights / BYTES_PER_TIME, size=weights, colour=colour, speedup=1.0
        )
        return self.node(time, [held, *inputs], move=move, colour=colour, speedup=20.0)

    def json(self, accelerators: int, memory: float, cpus: int = 1) -> dict[str, Any]:
        """The instance."""
        edges = [
            {"sourceId": a, "destId": b, "cost": self.move[a]} for a, b in dict.fromkeys(self.edges)
        ]
        return {
            "maxSizePerFPGA": memory,
            "maxFPGAs": accelerators,
            "maxCPUs": cpus,
            "nodes": self.nodes,
            "edges": edges,
        }


def transformer(rng: random.Random, layers: int) -> Graph:
    """Operators of an encoder: projections, heads, softmax, norms, feed-forward parts."""
    graph = Graph(rng)
    mask = graph.node(0.0, [], move=0.001, colour=0)
    mask = graph.kernel(0.01, [mask], move=0.02)
    words = graph.kernel(0.1, [], move=0.25, weights=60e6)
    place = graph.kernel(0.05, [], move=0.25, weights=1e6)
    value = graph.kernel(0.1, [words, place], move=0.25)
    value = graph.kernel(0.2, [value], move=0.25, weights=8e3)
    for _ in range(layers):
        value = _encoder_layer(graph, value, mask)
    pooled = graph.kernel(0.05, [value], move=0.01, weights=4e6)
    graph.kernel(0.01, [pooled], move=0.0, weights=8e3)
    scores = graph.kernel(1.0, [value], move=2.0, weights=4e6)
    graph.kernel(8.0, [scores, words], move=0.0)
    return graph


def _encoder_layer(graph: Graph, value: int, mask: int) -> int:
    heads = []
    for _ in range(3):
        line = graph.kernel(0.9, [value], move=0.25, weights=4e6)
        line = graph.kernel(0.05, [line], move=0.25, weights=4e3)
        line = graph.kernel(0.01, [line], move=0.25)
        heads.append(graph.kernel(0.1, [line], move=0.25))
    score = graph.kernel(0.3, heads[:2], move=0.5)
    score = graph.kernel(0.05, [score], move=0.5)
    score = graph.kernel(0.05, [score, mask], move=0.5)
    score = graph.kernel(0.2, [score], move=0.5)
    mixed = graph.kernel(0.3, [score, heads[2]], move=0.25)
    mixed = graph.kernel(0.1, [mixed], move=0.25)
    mixed = graph.kernel(0.9, [mixed], move=0.25, weights=4e6)
    value = _norm(graph, graph.kernel(0.05, [mixed, value], move=0.25))
    wide = graph.kernel(3.4, [value], move=1.0, weights=16e6)
    parts = [graph.kernel(0.1, [wide], move=1.0), graph.kernel(0.2, [wide], move=1.0)]
    wide = graph.kernel(0.1, parts, move=1.0)
    narrow = graph.kernel(3.4, [wide], move=0.25, weights=16e6)
    return _norm(graph, graph.kernel(0.05, [narrow, value], move=0.25))


def _norm(graph: Graph, value: int) -> int:
    mean = graph.kernel(0.05, [value], move=0.001)
    centred = graph.kernel(0.05, [value, mean], move=0.25)
    square = graph.kernel(0.05, [centred], move=0.25)
    spread = graph.kernel(0.05, [square], move=0.001)
    return graph.kernel(0.05, [centred, spread], move=0.25, weights=8e3)


def residual(rng: random.Random, blocks: int) -> Graph:
    """Operators of a convolutional network with residual connections."""
    graph = Graph(rng)
    value = graph.kernel(3.0, [], move=3.0, weights=40e3)
    for block in range(blocks):
        scale = 2.0 ** (-(block * 4 // blocks))
        line = value
        for part in range(3):
            time = rng.uniform(0.8, 2.0)
            weights = 2e5 * (1 + block) * (1 + part % 2)
            line = graph.kernel(time, [line], move=2 * scale, weights=weights)
            line = graph.kernel(0.3 * scale, [line], move=2 * scale, weights=8e3)
            if part < 2:
                line = graph.kernel(0.2 * scale, [line], move=2 * scale)
        if block % 4 == 0:
            value = graph.kernel(1.0, [value], move=2 * scale, weights=5e5)
            value = graph.kernel(0.3 * scale, [value], move=2 * scale, weights=8e3)
        value = graph.kernel(0.2 * scale, [line, value], move=2 * scale)
        value = graph.kernel(0.2 * scale, [value], move=2 * scale)
    graph.kernel(0.2, [graph.kernel(0.1, [value], move=0.01)], move=0.0, weights=8e6)
    return graph


def branching(rng: random.Random, blocks: int) -> Graph:
    """Layers of blocks with four branches of several lengths: many ideals."""
    graph = Graph(rng)
    value = -1

    def layer(inputs: list[int], time: float) -> int:
        size = rng.uniform(2e7, 2e8)
        inputs = [i for i in inputs if i >= 0]
        return graph.node(time, inputs, move=rng.uniform(0.005, 0.03), size=size)

    for _ in range(15):
        value = layer([value], rng.uniform(0.1, 2.0))
    for block in range(blocks):
        lengths = (3, 6, 9, 4) if block % 3 else (3, 9, 9, 4)
        ends = []
        for length in lengths:
            end = value
            for _ in range(length):
                end = layer([end], rng.choice((0.05, 0.2, rng.uniform(0.5, 1.5))))
            ends.append(end)
        value = layer(ends, 0.1)
    layer([layer([value], 0.1)], 0.2)
    return graph


def recurrent(rng: random.Random, layers: int) -> Graph:
    """Encoder and decoder layers; every decoder layer reads the attention's context."""
    graph = Graph(rng)

    def layer(time: float, inputs: list[int], move: float = 0.04) -> int:
        return graph.node(time, inputs, move=move, size=rng.uniform(1e7, 4e8))

    source = layer(0.2, [])
    value = layer(0.5, [source])
    for number in range(layers):
        time = rng.uniform(4.0, 5.0)
        parts = [layer(time, [value]), layer(time, [value])] if not number else []
        line = layer(0.1, parts) if parts else layer(time, [value])
        line = layer(0.05, [line])
        value = layer(0.02, [line, value]) if number > 1 else line
    target = layer(0.5, [layer(0.2, [])])
    first = layer(5.0, [target])
    score = layer(2.0, [layer(0.3, [first]), layer(0.5, [value])])
    context = layer(0.5, [layer(0.1, [score]), value])
    line = layer(0.1, [first, context])
    for number in range(layers - 1):
        grown = layer(0.02, [layer(0.02, [line, context])])
        after = layer(0.05, [layer(rng.uniform(4.0, 5.0), [grown])])
        line = layer(0.02, [after, line]) if number else after
    layer(0.1, [layer(12.0, [line], move=0.5)])
    return graph


def series_parallel(rng: random.Random, count: int) -> Graph:
    """Recursive splits into series and parallel parts."""
    graph = Graph(rng)

    def part(size: int, value: list[int]) -> list[int]:
        if size <= 1:
            time = rng.lognormvariate(-1.0, 1.2)
            return [graph.kernel(time, value, move=rng.lognormvariate(-2.0, 1.0))]
        if rng.random() < 0.75:
            first = rng.randint(1, size - 1)
            return part(size - first, part(first, value))
        width = min(rng.randint(2, 4), size)
        ends = [end for _ in range(width) for end in part(max(1, size // width), value)]
        return [graph.kernel(0.05, ends, move=rng.lognormvariate(-2.0, 1.0))]

    while len(graph.nodes) < count:
        start = [len(graph.nodes) - 1] if graph.nodes else []
        part(min(60, count - len(graph.nodes)), start)
    return graph


def layered(rng: random.Random, count: int) -> Graph:
    """Layers of eight, each operator reading one to three of the layer before."""
    graph = Graph(rng)
    before: list[int] = []
    while len(graph.nodes) < count:
        here = []
        for _ in range(8):
            inputs = rng.sample(before, min(len(before), rng.randint(1, 3)))
            time = rng.lognormvariate(-1.0, 1.0)
            move = rng.lognormvariate(-2.5, 1.0)
            here.append(graph.node(time, inputs, move=move, size=1e7))
        before = here
    return graph


def lines(rng: random.Random, count: int, width: int) -> Graph:
    """Parallel lines that read each other now and then and meet in joins."""
    graph = Graph(rng)
    ends = [graph.node(0.3, [], move=0.1, size=1e7)] * width
    while len(graph.nodes) < count:
        for number in range(width):
            inputs = [ends[number]]
            if rng.random() < 0.05:
                inputs.append(rng.choice(ends))
            time, move = rng.lognormvariate(-1, 1), rng.lognormvariate(-2.5, 1)
            ends[number] = graph.node(time, inputs, move=move, size=1e7)
        if rng.random() < 0.2:
            ends = [graph.node(0.1, list(dict.fromkeys(ends)), move=0.2, size=1e6)] * width
    graph.node(0.1, list(dict.fromkeys(ends)), move=0.0)
    return graph


def deep(rng: random.Random, count: int) -> Graph:
    """One line of kernels with weights, some of which read one of the dozen before."""
    graph = Graph(rng)
    made = [graph.kernel(0.3, [], move=0.1)]
    while len(graph.nodes) < count:
        inputs = [made[-1]]
        if rng.random() < 0.15:
            inputs.append(rng.choice(made[-12:]))
        time, move = rng.lognormvariate(-1, 1), rng.lognormvariate(-2, 1)
        weights = rng.choice((0, 1e6, 1e7))
        made.append(graph.kernel(time, inputs, move=move, weights=weights))
    return graph


def reaching(rng: random.Random, count: int, reach: int) -> Graph:
    """Operators that read one to three of the `reach` before them."""
    graph = Graph(rng)
    for number in range(count):
        wanted = rng.choice((1, 1, 1, 2, 2, 3))
        first = max(0, number - reach)
        inputs = [rng.randrange(first, number) for _ in range(wanted)] if number else []
        time, move = rng.lognormvariate(-1, 1), rng.lognormvariate(-2.5, 1)
        graph.node(time, list(dict.fromkeys(inputs)), move=move, size=1e7)
    return graph


def training(graph: Graph, orphans: float = 0.15) -> Graph:
    """The graph with its gradients behind: one node an operator, two where it has parameters.

    Args:
        orphans: the part of operators without parameters whose gradients have no colour class.
    """
    rng = graph.rng
    count = len(graph.nodes)
    after: list[list[int]] = [[] for _ in range(count)]
    before: list[list[int]] = [[] for _ in range(count)]
    for a, b in graph.edges:
        after[a].append(b)
        before[b].append(a)
    for number, node in enumerate(graph.nodes):
        node.setdefault("colorClass", number)
    gradient: dict[int, int] = {}
    for number in reversed(range(count)):
        node = graph.nodes[number]
        if not before[number] and not node["fpgaLatency"]:
            continue
        arriving = [gradient[b] for b in after[number] if b in gradient]
        colour: int | None = node["colorClass"]
        if len(arriving) > 1:
            arriving = [graph.node(0.05, arriving, move=graph.move[number], backward=True)]
        time, move = node["fpgaLatency"], graph.move[number]
        has_parameters = any(not graph.nodes[a]["fpgaLatency"] for a in before[number])
        if not has_parameters and rng.random() < orphans:
            colour = None
        gradient[number] = graph.node(
            time, [*arriving, *before[number]], move=move, colour=colour, backward=True
        )
        if has_parameters:
            inputs = [*arriving, *before[number][1:]]
            graph.node(time, inputs, move=0.0, colour=colour, backward=True)
    return graph
