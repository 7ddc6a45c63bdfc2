"""Bandwidth and latency of caches and memory."""

from __future__ import annotations

import itertools
from typing import Any

from constants.device import Gpu, i32, u64
from constants.report import MB, Json, Report, Run, summary


class Reader:
    """Reads of one buffer by a persistent grid, 16 bytes a load, past L1."""

    def __init__(self, gpu: Gpu, size: int) -> None:
        self.gpu, self.data, self.sink = gpu, gpu.random_words(size // 4), gpu.zeros(1)

    def run(self, grid: int, vectors: int, mode: str, loads: int) -> Run:
        """`mode`: each block re-reads its `own` slice, a `moving` slice, or `everything`."""
        block_stride, step, shift = 512, grid * 512, 0
        if mode == "moving":
            shift = 512 * 37
        elif mode == "everything":
            block_stride, step = vectors // grid // 512 * 512, 512
        arguments = (self.data, u64(vectors), u64(block_stride), u64(step), u64(shift))
        return lambda: self.gpu.launch("read_vectors", grid, 512, *arguments, i32(loads), self.sink)

    def cached(self, size: int, mode: str) -> Json:
        """TB/s of all SMs together over a working set of about `size` bytes."""
        grid = 2 * self.gpu.sms
        vectors = max(1, round(size / 16 / (grid * 512))) * grid * 512
        timed = self.gpu.slope(
            lambda loads: self.run(grid, vectors, mode, loads), (1024, 3072), repeats=10
        )
        moved = grid * 512 * 16 / 1e6
        return {
            "working_set_mb": round(vectors * 16 / MB, 1),
            "mode": mode,
            "tb_per_s": round(moved / timed["us_per_step"], 3),
            "repeat_tb_per_s": round(moved / timed["repeat_us_per_step"], 3),
        }

    def few_blocks(self, blocks: int) -> Json:
        """GB/s of each of a few blocks of 512 threads over 20 MB that L2 holds."""
        vectors = round(20 * MB / 16 / (blocks * 512)) * blocks * 512
        everything = self.run(2 * self.gpu.sms, vectors, "own", 16)
        self.gpu.time_each(everything, 2)  # brings the data into L2
        timed = self.gpu.slope(
            lambda loads: self.run(blocks, vectors, "own", loads), (1024, 3072), repeats=10
        )
        rate = 512 * 16 / timed["us_per_step"] / 1e3
        return {"blocks": blocks, "threads": 512, "gb_per_s_per_block": round(rate, 1)}

    def dram(self, grid: int) -> Json:
        """TB/s of one pass over the whole buffer."""
        loads = self.data.numel() // 4 // (grid * 512) // 8 * 8
        size = grid * 512 * loads * 16
        timed = summary(self.gpu.time_each(self.run(grid, size // 16, "own", loads), 10))
        return {
            "grid": grid,
            "bytes": size,
            "tb_per_s": round(size / timed["us"] / 1e6, 3),
            **timed,
        }

    def copy(self, grid: int) -> Json:
        """TB/s read plus written; grid 0 means torch's copy."""
        half = self.data.numel() // 2
        source, target = self.data[:half], self.data[half:]

        def kernel() -> None:
            self.gpu.launch("copy_vectors", grid, 512, source, target, u64(half // 4))

        run: Run = kernel if grid else lambda: target.copy_(source)
        timed = summary(self.gpu.time_each(run, 10))
        rate = 8 * half / timed["us"] / 1e6
        return {"grid": grid, "tb_per_s_read_plus_write": round(rate, 3), **timed}


def load_latency(gpu: Gpu, level: str, size: int) -> Json:
    """Dependent loads of one thread over a random cycle of 128-byte lines."""
    torch, lines = gpu.torch, size // 128
    order = torch.randperm(lines, device="cuda")
    chain = torch.zeros(lines, 32, dtype=torch.int32, device="cuda")
    chain[order, 0] = (order.roll(-1) * 32).to(torch.int32)
    hops = 20_000 if level == "dram" else max(20_000, 2 * lines)

    def run(out: Any) -> None:
        gpu.launch("global_chase", 1, 1, chain, i32(hops), i32(int(level == "l1")), out)

    # the first pass brings a cached working set in; a second DRAM chase would find the first one's
    timed = gpu.stopwatch(run, hops, times=4, first=level == "dram")
    return {"level": level, "working_set_mb": size / MB, **timed}


def memory(gpu: Gpu, report: Report) -> None:
    """Read bandwidth of L2 by working set (TB/s; each SM re-reads its own slice, a slice that
    moves, or everything) and by number of SMs; read and copy bandwidth of DRAM; latency of
    dependent loads in cycles and ns."""
    reader = Reader(gpu, 8_000_000_000)
    modes = ("own", "moving", "everything")
    for size, mode in itertools.product((5, 10, 20, 30, 40, 50, 60, 80, 120), modes):
        with report.part(f"l2 {size} {mode}"):
            report.row("l2_read", **reader.cached(size * MB, mode))
    for blocks in (1, 2, 4, 8, 16, 32, 66, gpu.sms):
        with report.part(f"l2 {blocks} blocks"):
            report.row("l2_read_few_blocks", **reader.few_blocks(blocks))
    for grid in (gpu.sms, 2 * gpu.sms, 4 * gpu.sms):
        with report.part(f"dram {grid}"):
            report.row("dram_read", **reader.dram(grid))
    for grid in (0, 2 * gpu.sms, 4 * gpu.sms):
        with report.part(f"copy {grid}"):
            report.row("dram_copy", **reader.copy(grid))
    del reader
    gpu.torch.cuda.empty_cache()
    gpu.warm()
    levels = [("l1", 64_000), *(("l2", n * MB) for n in (2, 8, 16, 24, 40))]
    for level, size in (*levels, ("dram", 500 * MB), ("dram", 2000 * MB)):
        with report.part(f"latency {level} {size}"):
            report.row("latency", **load_latency(gpu, level, size))
