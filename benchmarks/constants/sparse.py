"""Products with two of four weights pruned."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any, ClassVar

from constants.device import Gpu
from constants.report import MB, Json, Report


class SparseProducts:
    """w[n,k] (2:4 sparse) @ x[k,m] through cuSPARSELt, weights rotated so that they come from
    memory as in a whole model."""

    BYTES: ClassVar = {"2:4": 2 * 9 / 16, "2:4_int8": 5 / 8}
    """Of one weight before half of them went: what is left of it, and where it stood."""

    def __init__(self, gpu: Gpu, kind: str, k: int, n: int) -> None:
        torch = gpu.torch
        self.gpu, self.kind, self.k, self.n = gpu, kind, k, n
        dense = self.random(n, k).view(n, k // 4, 4)
        smallest = dense.abs().topk(2, dim=2, largest=False).indices
        self.weight = dense.scatter(2, smallest, 0).view(n, k)
        self.copies = max(1, math.ceil(120 * MB / (k * n * self.BYTES[kind])))
        self.packed = [torch._cslt_compress(self.weight) for _ in range(self.copies)]

    def random(self, rows: int, columns: int) -> Any:
        torch = self.gpu.torch
        if self.kind == "2:4":
            return torch.randn(rows, columns, device="cuda", dtype=torch.float16)
        return torch.randint(-127, 127, (rows, columns), device="cuda", dtype=torch.int8)

    def measure(self, m: int) -> list[Json]:
        torch, rows = self.gpu.torch, max(32 if self.kind == "2:4_int8" else 8, m)
        x = self.random(rows, self.k).t()
        error = self.relative_error(x)
        searched = int(torch._cslt_sparse_mm_search(self.packed[0], x))
        names = {"format": self.kind, "m": m, "k": self.k, "n": self.n, "rows": rows}
        found = []
        for name, algorithm in (("default", 0), ("searched", searched)):
            multiply = functools.partial(torch._cslt_sparse_mm, dense_B=x, alg_id=algorithm)
            timed = self.gpu.per_call(lambda i, f=multiply: f(self.packed[i]), self.copies)  # type: ignore[misc]
            how = {"weights": "dram", "algorithm": name, "relative_error": error}
            found.append({**names, **how, **timed})
        return found

    def relative_error(self, x: Any) -> float:
        """Against float64; int8 products are written as int8, which saturates."""
        reference = self.weight.double() @ x.double()
        if self.kind == "2:4_int8":
            reference = reference.clamp(-128, 127)
        result = self.gpu.torch._cslt_sparse_mm(self.packed[0], x).double()
        return float((result - reference).norm() / reference.norm())


def sparse(gpu: Gpu, report: Report) -> None:
    """Microseconds per product with a 2:4-sparse weight, fp16 and int8: cuSPARSELt through torch,
    with its default algorithm and with the best that its own search finds."""
    sides = (1024, 2048, 4096, 8192)
    shapes = [*((d, d) for d in sides), *((d, 4 * d) for d in sides), *((4 * d, d) for d in sides)]
    for kind, (k, n) in itertools.product(("2:4", "2:4_int8"), shapes):
        products = SparseProducts(gpu, kind, k, n)
        for m in (1, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192):
            with report.part(f"{kind} {m}x{k}x{n}"):
                for row in products.measure(m):
                    report.row("points", **row)
        del products
        gpu.torch.cuda.empty_cache()
