"""Clusters of blocks: barriers, and shared memory of neighbours."""

from __future__ import annotations

import itertools
from typing import Any

from constants.device import Gpu, i32, u32
from constants.report import Json, Report, Run


def cluster_barrier(gpu: Gpu, cluster: int, grid: int, threads: int) -> Json:
    errors = gpu.zeros(1)

    def build(n: int) -> Run:
        return lambda: gpu.launch("cluster_barrier", grid, threads, i32(n), errors, cluster=cluster)

    result = gpu.slope(build, (100, 1100), repeats=10)
    names = {"cluster": cluster, "grid": grid, "threads": threads}
    return {**names, "wrong_words": int(errors.item()), **result}


def shared_latency(gpu: Gpu, cluster: int, target: int) -> Json:
    """Dependent loads from the shared memory of block `target` (0: one's own)."""
    torch, hops = gpu.torch, 8192
    order = torch.randperm(4096, device="cuda")
    chain = gpu.zeros(4096)
    chain[order] = order.roll(-1).to(torch.int32)

    def run(out: Any) -> None:
        arguments = (chain, i32(hops), u32(target), out)
        gpu.launch("shared_chase", cluster, 128, *arguments, cluster=cluster)

    return {"cluster": cluster, "target_rank": target, **gpu.stopwatch(run, hops)}


def shared_handover(gpu: Gpu, kernel: str, cluster: int) -> Json:
    """Ping-pong between two blocks of a cluster through distributed shared memory."""
    errors, rounds = gpu.zeros(1), 4000
    extra = (errors,) if kernel == "dsmem_async" else ()

    def run(out: Any) -> None:
        gpu.launch(kernel, cluster, 128, i32(rounds), out, *extra, cluster=cluster)

    timed = gpu.stopwatch(run, 2 * rounds)
    names = {"kind": kernel, "cluster": cluster, "wrong_words": int(errors.item())}
    return {**names, **timed}


def shared_bandwidth(gpu: Gpu, cluster: int) -> Json:
    """Every block reads the next rank's 64 KB of shared memory (cluster 1: its own)."""
    sink, size = gpu.zeros(1), 65536
    grid = (
        min(gpu.sms // cluster, gpu.resident_clusters("dsmem_read", cluster, 512, size)) * cluster
    )

    def build(n: int) -> Run:
        return lambda: gpu.launch(
            "dsmem_read", grid, 512, i32(n), sink, shared=size, cluster=cluster
        )

    result = gpu.slope(build, (100, 1100), repeats=10)
    rate = size / result["us_per_step"] / 1e3
    return {
        "cluster": cluster,
        "grid": grid,
        "gb_per_s_per_block": round(rate, 1),
        "tb_per_s_total": round(rate * grid / 1e3, 2),
        **result,
    }


def clusters(gpu: Gpu, report: Report) -> None:
    """Thread block clusters: microseconds per cluster barrier, latency of a load from another
    block's shared memory, one-way hand-over by flag and by st.async, and read bandwidth of remote
    shared memory."""
    for cluster, threads in itertools.product((1, 2, 4, 8, 16), (128, 512)):
        with report.part(f"cluster barrier {cluster}"):
            resident = gpu.resident_clusters("cluster_barrier", cluster, threads)
            report.row("resident", cluster=cluster, threads=threads, clusters=resident)
            for count in (1, min(gpu.sms // cluster, resident)):
                report.row("barrier", **cluster_barrier(gpu, cluster, count * cluster, threads))
    for cluster, target in ((1, 0), (2, 1), (4, 3), (8, 4), (8, 7), (16, 15)):
        with report.part(f"shared latency {cluster} {target}"):
            report.row("load", **shared_latency(gpu, cluster, target))
    for cluster, kernel in itertools.product((2, 8), ("dsmem_flag", "dsmem_async")):
        with report.part(f"{kernel} {cluster}"):
            report.row("one_way", **shared_handover(gpu, kernel, cluster))
    for cluster in (1, 2, 4, 8, 16):
        with report.part(f"shared bandwidth {cluster}"):
            report.row("read", **shared_bandwidth(gpu, cluster))
