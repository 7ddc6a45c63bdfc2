"""The same chains and barriers out of Triton."""

from __future__ import annotations

import functools
import importlib.metadata
import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

from constants.device import Gpu
from constants.report import KERNELS, Json, Report, Run

Tiling = tuple[int, int, int]  # columns per block, warps, parts of K


def triton_barrier(gpu: Gpu, kernels: Any, ptx: bool, grid: int, warps: int) -> Json:
    counter, errors = gpu.zeros(1), gpu.zeros(1)
    data = gpu.random_words(2 * grid * 128)

    def barrier(n: int, exchange: int = 0) -> Run:
        def run() -> None:
            counter.zero_()
            kernels.barrier_loop[(grid,)](
                counter,
                data,
                errors,
                n,
                exchange,
                PTX=ptx,
                num_warps=warps,
                launch_cooperative_grid=True,
            )

        return run

    timing: Json = {"repeats": 10, "spin_us": 400}
    result = {
        "barrier": gpu.slope(barrier, (100, 1100), **timing),
        "exchange": gpu.slope(lambda n: barrier(n, 1), (100, 1100), **timing),
    }
    kind = "inline_ptx" if ptx else "triton_atomics"
    names = {"kind": kind, "grid": grid, "threads": 32 * warps}
    return {**names, "wrong_words": int(errors.item()), **result}


class TritonChain:
    """Layers of x = silu(x @ W1 + b1) @ W2 + b2 for `m` rows, d = 256 and 1024, fp16."""

    D, F, DEEP = 256, 1024, 18

    def __init__(self, gpu: Gpu, kernels: Any, m: int, tile: int) -> None:
        torch, d, f = gpu.torch, self.D, self.F
        self.gpu, self.kernels, self.m, self.tile = gpu, kernels, m, tile
        self.w = torch.empty(self.DEEP, 2 * d * f, device="cuda", dtype=torch.float16)
        self.w[:, : d * f].normal_(0, 2 / math.sqrt(d))
        self.w[:, d * f :].normal_(0, 1 / math.sqrt(f))
        self.b = torch.randn(self.DEEP, d + f, device="cuda", dtype=torch.float16)
        self.start = torch.randn(m, d, device="cuda", dtype=torch.float16)
        self.x = self.start.clone()
        self.h = torch.empty(m, f, device="cuda", dtype=torch.float16)
        self.counter = gpu.zeros(1)

    def reference(self, layers: int) -> Any:
        silu, d, f = self.gpu.torch.nn.functional.silu, self.D, self.F
        x = self.start.double()
        for w, b in zip(self.w[:layers].double(), self.b[:layers].double(), strict=True):
            x = silu(x @ w[: d * f].view(d, f) + b[:f]) @ w[d * f :].view(f, d) + b[f:]
        return x

    def separate(self, layers: int) -> Run:
        """Two kernels a layer, in a graph."""
        node, d, f, tile, rows = self.kernels.gemm_node, self.D, self.F, self.tile, max(16, self.m)
        build: Json = {"num_warps": 4, "num_stages": 4}

        def body() -> None:
            for w, b in zip(self.w[:layers], self.b[:layers], strict=True):
                first, second = (
                    (self.m, d, f, rows, tile, 128, True),
                    (self.m, f, d, rows, tile, 128, False),
                )
                node[(f // tile,)](self.x, w, b, self.h, *first, **build)
                node[(d // tile,)](self.h, w[d * f :], b[f:], self.x, *second, **build)

        return self.gpu.torch_replay(body)

    def once(self, first: Tiling, second: Tiling, pdl: bool, layers: int) -> Run:
        """Two kernels a layer that take the whole of K at once, linked by nodes or by PDL."""
        node, d, f, rows = self.kernels.gemm_once, self.D, self.F, max(16, self.m)

        def launch(tiling: Tiling, *arguments: Any, n: int, silu: bool) -> None:
            tile, warps, split = tiling
            shape = {"N": n, "BM": rows, "BN": tile, "SPLIT": split, "SILU": silu}
            node[(n // tile,)](*arguments, **shape, PDL=pdl, num_warps=warps, launch_pdl=pdl)

        def body() -> None:
            for w, b in zip(self.w[:layers], self.b[:layers], strict=True):
                wide, narrow = (self.x, w, b, self.h), (self.h, w[d * f :], b[f:], self.x)
                launch(first, *wide, self.m, d, n=f, silu=True)
                launch(second, *narrow, self.m, f, n=d, silu=False)

        return self.gpu.torch_replay(body)

    def fused(self, layers: int) -> Run:
        """One cooperative kernel."""
        tile, rows = self.tile, max(16, self.m)
        grid = (min(self.gpu.sms, self.F // tile),)

        def run() -> None:
            self.counter.zero_()
            tensors = (self.x, self.h, self.w, self.b, self.counter)
            self.kernels.gemm_chain[grid](
                *tensors,
                self.m,
                layers,
                self.D,
                self.F,
                rows,
                tile,
                tile,
                128,
                num_warps=4,
                num_stages=4,
                launch_cooperative_grid=True,
            )

        return run

    def measure(self, build: Callable[[int], Run]) -> Json:
        run = build(6)
        self.x.copy_(self.start)
        run()
        reference = self.reference(6)
        error = float((self.x.double() - reference).norm() / reference.norm())
        timed = self.gpu.slope(build, (6, self.DEEP), repeats=20, spin_us=400)
        return {
            "us_per_stage": round(timed["us_per_step"] / 2, 4),
            "repeat_us_per_stage": round(timed["repeat_us_per_step"] / 2, 4),
            "relative_error": error,
            **timed,
        }


def triton_section(gpu: Gpu, report: Report) -> None:
    """The same from Triton: microseconds per grid barrier (inline PTX, and Triton's atomics), and
    per GEMM stage (fp16, d 256 <-> 1024, weights resident in L2) as graph nodes, as one
    cooperative kernel with barriers, and as nodes or PDL edges between kernels that split K over
    their warps."""
    sys.path.insert(0, str(KERNELS))
    kernels = importlib.import_module("triton_kernels")
    sizes = ((gpu.sms, 4), (gpu.sms, 8), (2 * gpu.sms, 4), (64, 4))
    for ptx, (grid, warps) in itertools.product((True, False), sizes):
        with report.part(f"barrier ptx={ptx} {grid}x{warps}"):
            report.row("barrier", **triton_barrier(gpu, kernels, ptx, grid, warps))
    for m, tile in itertools.product((1, 16, 32), (8, 16, 32)):
        chain = TritonChain(gpu, kernels, m, tile)
        for link, build in (("graph_node", chain.separate), ("barrier", chain.fused)):
            with report.part(f"chain {link} M={m} tile={tile}"):
                report.row("gemm_chain", link=link, m=m, tile_n=tile, **chain.measure(build))
    tilings: list[tuple[Tiling, Tiling]] = [((16, 4, 1), (16, 8, 1)), ((16, 4, 4), (16, 4, 4))]
    tilings += [((16, 4, 4), (16, 8, 8)), ((8, 4, 4), (8, 8, 8)), ((16, 8, 8), (8, 8, 8))]
    tilings += [((16, 2, 2), (8, 4, 4)), ((8, 2, 2), (8, 4, 4))]
    for m, (first, second), edge in itertools.product((1, 16, 32), tilings, (False, True)):
        with report.part(f"once M={m} {first} {second} pdl={edge}"):
            chain = TritonChain(gpu, kernels, m, 16)
            timed = chain.measure(functools.partial(chain.once, first, second, edge))
            names = {"link": "pdl" if edge else "graph_node", "m": m}
            report.row("gemm_once", **names, first=first, second=second, **timed)
