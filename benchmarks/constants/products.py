"""Rates of products: of few rows, of many, in several formats."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, ClassVar

from constants.device import Gpu
from constants.report import MB, Json, Report, Run


def skinny_product(gpu: Gpu, m: int, k: int, n: int) -> Json:
    torch = gpu.torch
    x = torch.randn(m, k, device="cuda", dtype=torch.float16)
    w = torch.randn(4, k, n, device="cuda", dtype=torch.float16)
    y = torch.empty(m, n, device="cuda", dtype=torch.float16)

    def build(calls: int) -> Run:
        return gpu.torch_replay(lambda: [torch.mm(x, w[i % 4], out=y) for i in range(calls)])

    timed = gpu.slope(build, (20, 80), repeats=12)
    times = {"us": timed["us_per_step"], "repeat_us": timed["repeat_us_per_step"]}
    return {"m": m, "k": k, "n": n, **times}


def skinny(gpu: Gpu, report: Report) -> None:
    """Device microseconds per node of a graph of small fp16 products (cuBLAS through torch),
    weights hot in L2."""
    shapes = [(256, 256), (256, 1024), (1024, 256), (512, 512), (512, 2048), (2048, 512)]
    shapes += [(768, 768), (768, 3072), (3072, 768), (384, 384), (384, 1536)]
    for (k, n), m in itertools.product(shapes, (1, 4, 16, 32, 64, 128)):
        with report.part(f"{m}x{k}x{n}"):
            report.row("mm", **skinny_product(gpu, m, k, n))


class Products:
    """x[m,k] @ w[k,n] in one format, on slices of large random operands."""

    WIDTH: ClassVar = {"fp16": 2, "bf16": 2, "fp8": 1, "int8": 1, "tf32": 4, "fp32": 4}

    def __init__(self, gpu: Gpu, kind: str) -> None:
        torch = gpu.torch
        self.gpu, self.kind, self.width = gpu, kind, self.WIDTH[kind]
        torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
        self.w, self.a = self.random(160 * MB), self.random(101 * MB)
        dtype = self.a.dtype if kind not in ("fp8", "int8") else torch.float16
        self.out = torch.empty(101 * MB, device="cuda", dtype=dtype)
        self.one = torch.ones((), device="cuda")

    def random(self, count: int) -> Any:
        torch = self.gpu.torch
        if self.kind == "int8":
            return torch.randint(-128, 127, (count,), device="cuda", dtype=torch.int8)
        if self.kind == "fp8":
            return torch.randn(count, device="cuda").to(torch.float8_e4m3fn)
        dtypes = {"fp16": torch.float16, "bf16": torch.bfloat16}
        return torch.randn(count, device="cuda", dtype=dtypes.get(self.kind, torch.float32))

    def rows(self, m: int) -> int:
        """The rows that the library really needs."""
        return max(m, {"int8": 32, "fp8": 16}.get(self.kind, 1))

    def call(self, m: int, k: int, n: int, copies: int = 1) -> Callable[[int], Any]:
        torch, one = self.gpu.torch, self.one
        a = self.a[: m * k].view(m, k)
        flat = [self.w[i * k * n : (i + 1) * k * n] for i in range(copies)]
        if self.kind == "int8":
            columns = [w.view(n, k).t() for w in flat]
            return lambda i: torch._int_mm(a, columns[i])
        if self.kind == "fp8":
            columns = [w.view(n, k).t() for w in flat]
            how: Json = {"out_dtype": torch.bfloat16, "use_fast_accum": True}
            return lambda i: torch._scaled_mm(a, columns[i], one, one, **how)
        rows, out = [w.view(k, n) for w in flat], self.out[: m * n].view(m, n)
        return lambda i: torch.mm(a, rows[i], out=out)

    def relative_error(self) -> float:
        """Of one product, against float64 on the same stored operands."""
        m, k, n = 64, 1024, 512
        a = self.a[: m * k].view(m, k).double()
        w = self.w[: k * n].double()
        reference = a @ (w.view(n, k).t() if self.kind in ("fp8", "int8") else w.view(k, n))
        result = self.call(m, k, n)(0).double()
        return float((result - reference).norm() / reference.norm())

    def resident(self, m: int, k: int, n: int) -> bool:
        """Whether all operands stay in L2 from one call to the next."""
        return (k * n + m * (k + n)) * self.width <= 30 * MB

    def measure(self, m: int, k: int, n: int, source: str) -> Json:
        """`source`: weights stay in `l2`, or come from `dram` (copies rotate if one would fit)."""
        copies = 1 if source == "l2" else max(1, math.ceil(120 * MB / (k * n * self.width)))
        rows = self.rows(m)
        timed = self.gpu.per_call(self.call(rows, k, n, copies), copies)
        padded = {} if rows == m else {"rows": rows}
        rate = 2 * rows * k * n / timed["us"] / 1e6
        names = {"format": self.kind, "m": m, "k": k, "n": n, "weights": source, **padded}
        return {**names, "tflops": round(rate, 2), **timed}

    def twice(self, m: int, d: int) -> Json:
        """A/A: the same product measured twice."""
        first, second = (self.gpu.per_call(self.call(m, d, d))["us"] for _ in range(2))
        return {"format": self.kind, "m": m, "k": d, "n": d, "us": first, "repeat_us": second}


def gemm(gpu: Gpu, report: Report) -> None:
    """Microseconds per product x[m,k] @ w[k,n] by format and shape. `weights` says where they come
    from: `l2` (all operands stay resident) or `dram` (copies are rotated, or one exceeds L2);
    activations are not rotated. `rows` is given where the library needs more rows than asked."""
    sizes = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
    squares = [(d, d) for d in (1024, 2048, 4096, 8192, 12288)]
    mixed = [(1024, 4096), (4096, 1024), (4096, 12288), (12288, 4096)]
    plan = dict.fromkeys(("fp8", "int8", "tf32", "fp32"), squares)
    plan = {"fp16": squares + mixed, "bf16": [squares[i] for i in (0, 2, 3)], **plan}
    for kind, shapes in plan.items():
        products = Products(gpu, kind)
        gpu.heat()
        with report.part(f"check {kind}"):
            report.row("check", format=kind, relative_error=products.relative_error())
        for (k, n), m in itertools.product(shapes, sizes):
            for source in ("l2", "dram"):
                resident = products.resident(m, k, n)
                if source == "l2" and not resident:
                    continue
                if source == "dram" and resident and kind not in ("fp16", "fp8"):
                    continue
                with report.part(f"{kind} {m}x{k}x{n} {source}"):
                    report.row("points", **products.measure(m, k, n, source))
        for m, d in ((32, 1024), (256, 4096), (4096, 8192)):
            with report.part(f"A/A {kind}"):
                report.row("same_twice", **products.twice(m, d))
        del products
        gpu.torch.cuda.empty_cache()
