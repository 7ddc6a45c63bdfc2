"""Chains of small products, by kind of edge between them."""

from __future__ import annotations

import ctypes
import importlib.metadata
from typing import Any, ClassVar

from constants.device import Gpu, i32
from constants.report import MB, Json, Report, Run


class Stages:
    """A synthetic network; stage s maps 256 words to 256 words with weights s % sets."""

    LINKS: ClassVar[list[str]] = ["graph_node", "pdl", "pdl_ahead", "barrier", "barrier_ahead"]
    LINKS += ["flags_ahead", "data", "data_ahead"]

    def __init__(self, gpu: Gpu, blocks: int, loads: int, sets: int) -> None:
        self.gpu, self.blocks, self.loads, self.sets = gpu, blocks, loads, sets
        self.numpy: Any = importlib.import_module("numpy")
        self.stride = blocks * loads * 4096  # bytes of weights per stage
        self.weights = gpu.random_words(sets * self.stride // 4)
        self.start = gpu.random_words(512)
        self.x, self.state = gpu.zeros(2048), gpu.zeros(1024)

    def table(self) -> Any:
        """Each thread's factor, [set, block, load, thread], modulo 2^32."""
        numpy = self.numpy
        words = self.weights.cpu().numpy().view(numpy.uint32)
        words = words.reshape(self.sets, self.blocks, self.loads, 256, 4)
        factors = numpy.array([1, 3, 5, 7], dtype=numpy.uint32)
        return (words * factors).sum(axis=4, dtype=numpy.uint32)

    def sums(self, table: Any, x: Any) -> Any:
        """What the blocks sum up in one stage."""
        return (table * x[:256]).sum(axis=(1, 2), dtype=self.numpy.uint32)

    def expected(self, stages: int) -> Any:
        """The words after so many stages."""
        numpy, table = self.numpy, self.table()
        x = self.start.cpu().numpy().view(numpy.uint32)
        for s in range(stages):
            sums = self.sums(table[s % self.sets], x)
            x = numpy.stack([sums, sums ^ numpy.uint32(0x9E3779B9)], axis=1).reshape(-1)
        return x[:256]

    def reset(self, packed: bool) -> None:
        """Start values; packed: each word with its stage number, 0, in the upper half."""
        self.state.zero_()
        self.x.fill_(-1)
        if packed:
            self.x[0:1024:2] = self.start
            self.x[1:1024:2] = 0
        else:
            self.x[:512] = self.start

    def found(self, packed: bool) -> Any:
        words = self.x[:1024].cpu().numpy().view(self.numpy.uint32)
        return words[0:512:2] if packed else words[:256]

    def nodes(self, kernel: str, edge: bool, stages: int) -> Run:
        """One kernel a stage, in a graph."""
        weights, x = self.weights.data_ptr(), self.x.data_ptr()

        def body() -> None:
            for s in range(stages):
                self.gpu.launch(
                    kernel,
                    self.blocks,
                    256,
                    ctypes.c_void_p(weights + s % self.sets * self.stride),
                    ctypes.c_void_p(x + s % 2 * 2048),
                    ctypes.c_void_p(x + (s + 1) % 2 * 2048),
                    shared=self.loads * 4096,
                    pdl=edge and s > 0,
                )

        return self.gpu.graph(body)

    def persistent(self, kernel: str, stages: int) -> Run:
        """All stages in one cooperative kernel."""
        arguments = (self.state, self.weights, i32(self.sets), self.x, i32(stages))
        shared = self.loads * 4096
        return lambda: self.gpu.launch(
            kernel, self.blocks, 256, *arguments, shared=shared, cooperative=True
        )

    def build(self, link: str, stages: int) -> Run:
        if link == "graph_node":
            return self.nodes(f"stage_node_{self.loads}", False, stages)
        if link.startswith("pdl"):
            return self.nodes(f"stage_{link}_{self.loads}", True, stages)
        kernel = link.replace("barrier", "counter")
        return self.persistent(f"stage_{kernel}_{self.loads}", stages)

    def measure(self, link: str) -> Json:
        packed = link.startswith("data")
        self.reset(packed)
        self.build(link, 40)()
        self.gpu.torch.cuda.synchronize()
        right = bool((self.found(packed) == self.expected(40)).all())
        timed = self.gpu.slope(lambda n: self.build(link, n), (20, 120), repeats=20)
        return {
            "link": link,
            "blocks": self.blocks,
            "weights_kb_per_block": 4 * self.loads,
            "weights_mb_per_stage": round(self.stride / MB, 3),
            "correct": right,
            **timed,
        }


class ClusterStages(Stages):
    """The same inside one cluster of 16 blocks, whose barrier links the stages."""

    LINKS: ClassVar[list[str]] = ["cluster", "cluster_ahead", "cluster_async_ahead"]

    def __init__(self, gpu: Gpu, loads: int, sets: int) -> None:
        super().__init__(gpu, 16, loads, sets)

    def sums(self, table: Any, x: Any) -> Any:
        """Every warp sums on its own."""
        numpy = self.numpy
        index = (numpy.arange(self.loads)[:, None] * 32 + numpy.arange(32)) % 256
        table = table.reshape(16, self.loads, 8, 32) * x[index][None, :, None, :]
        return table.sum(axis=(1, 3), dtype=numpy.uint32).reshape(-1)

    def build(self, link: str, stages: int) -> Run:
        arguments = (self.weights, i32(self.sets), self.x, i32(stages))
        kernel, shared = f"stage_{link}_{self.loads}", self.loads * 4096
        return lambda: self.gpu.launch(kernel, 16, 256, *arguments, shared=shared, cluster=16)


def stages(gpu: Gpu, report: Report) -> None:
    """Device microseconds per stage of a synthetic network. A stage reads its weights (0.13 to
    8.6 MB, resident in L2) and the previous stage's output, reduces and writes. The link between
    stages is a graph node, a PDL edge, a grid barrier (counter, or flags of all blocks), data that
    carry their stage number; or, in a single cluster of 16 blocks, its barrier or st.async into
    shared memory. `ahead` fetches the next weights before waiting. Results are checked exactly."""
    networks = [Stages(gpu, gpu.sms, *size) for size in ((1, 16), (4, 10), (16, 3))]
    networks += [ClusterStages(gpu, *size) for size in ((2, 32), (8, 16), (32, 8))]
    for network in networks:
        for link in network.LINKS:
            with report.part(f"{link} {network.loads}"):
                report.row("stage", **network.measure(link))
