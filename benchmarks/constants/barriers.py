"""What it costs blocks to wait for each other."""

from __future__ import annotations

import itertools

from constants.device import Gpu, i32, u32
from constants.report import Json, Report, Run


def grid_barrier(gpu: Gpu, kind: str, grid: int, threads: int, cluster: int = 0) -> Json:
    state, errors, data = gpu.zeros(1024), gpu.zeros(1), gpu.random_words(2 * grid * 128)
    name = f"barrier_{kind}"

    def barrier(n: int, exchange: int = 0) -> Run:
        arguments = (state, data, errors, i32(n), i32(exchange))
        return lambda: gpu.launch(
            name, grid, threads, *arguments, cooperative=True, cluster=cluster
        )

    result = {
        "barrier": gpu.slope(barrier, (100, 1100), repeats=10),
        "exchange": gpu.slope(lambda n: barrier(n, 1), (100, 1100), repeats=10),
    }
    names = {"kind": kind, "grid": grid, "threads": threads, "cluster": cluster}
    return {**names, "wrong_words": int(errors.item()), **result}


def barriers(gpu: Gpu, report: Report) -> None:
    """Device microseconds per grid-wide barrier inside one cooperative kernel, and per barrier with
    an exchange of 128 words with the next block (store, barrier, load): the true price of an edge
    between two stages."""
    kinds = ["cooperative_groups", "counter_u32", "counter_u64", "counter_relaxed_poll"]
    kinds += ["counter_pause_20ns", "counter_pause_100ns", "sign_flip", "flag_per_block"]
    sizes = [(gpu.sms, 128), (gpu.sms, 256), (gpu.sms, 512), (gpu.sms // 2, 256)]
    sizes += [(2 * gpu.sms, 128), (2 * gpu.sms, 512), (8, 256), (16, 256), (32, 256)]
    for kind, (grid, threads) in itertools.product(kinds, sizes):
        with report.part(f"{kind} {grid}x{threads}"):
            report.row("grid", **grid_barrier(gpu, kind, grid, threads))
    for cluster, threads in itertools.product((2, 4, 8), (128, 256)):
        with report.part(f"cluster {cluster} then counter"):
            resident = gpu.resident_clusters("barrier_cluster_then_counter", cluster, threads)
            grid = min(gpu.sms // cluster, resident) * cluster
            row = grid_barrier(gpu, "cluster_then_counter", grid, threads, cluster)
            report.row("grid", **row)


def pair(gpu: Gpu, kernel: str, partner: int) -> Json:
    state, data, errors = gpu.zeros(4096), gpu.zeros(4096), gpu.zeros(1)

    def build(n: int) -> Run:
        arguments = (state, data, errors, i32(n), u32(partner))
        return lambda: gpu.launch(kernel, gpu.sms, 128, *arguments)

    result = gpu.slope(build, (100, 1100), repeats=10)
    names = {"kind": kernel, "partner": partner, "wrong_words": int(errors.item())}
    return {**names, "one_way_us": round(result["us_per_step"] / 2, 4), **result}


def handover(gpu: Gpu, report: Report) -> None:
    """Device microseconds to hand 128 threads' data from one block to another through L2 (half a
    round trip): data then flag, data then counter, or 16-byte vectors that carry their own round
    number."""
    kernels = ("pair_flag", "pair_counter", "pair_data_as_flag")
    for kernel, partner in itertools.product(kernels, (1, 2, 7, 16, 33, 64, 100, gpu.sms - 1)):
        with report.part(f"{kernel} {partner}"):
            report.row("pairs", **pair(gpu, kernel, partner))
