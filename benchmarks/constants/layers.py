"""Attention, and layers that only move memory."""

from __future__ import annotations

import importlib.metadata
import itertools
from collections.abc import Callable
from typing import Any

from constants.device import Gpu
from constants.report import MB, Json, Report


class Attention:
    """torch's scaled dot product attention, fp16."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.sdpa: Any = gpu.torch.nn.functional.scaled_dot_product_attention
        self.choice: Any = importlib.import_module("torch.nn.attention")

    def tensors(self, batch: int, heads: int, queries: int, keys: int, dim: int) -> list[Any]:
        self.gpu.torch.cuda.empty_cache()
        return [
            self.gpu.torch.randn(batch, heads, n, dim, device="cuda", dtype=self.gpu.torch.float16)
            for n in (queries, keys, keys)
        ]

    def prefill(self, qkv: list[Any], backend: str, causal: bool) -> Json:
        batch, heads, length, dim = qkv[0].shape
        member = getattr(self.choice.SDPBackend, f"{backend.upper()}_ATTENTION")
        with self.choice.sdpa_kernel(member):
            timed = self.gpu.per_call(lambda _: self.sdpa(*qkv, is_causal=causal))
        flops = 4 * batch * heads * length * length * dim * (0.5 if causal else 1.0)
        names = {"backend": backend, "batch": batch, "heads": heads, "dim": dim, "length": length}
        return {**names, "causal": causal, "tflops": round(flops / timed["us"] / 1e6, 2), **timed}

    def decode(self, batch: int, heads: int, dim: int, length: int) -> Json:
        qkv = self.tensors(batch, heads, 1, length, dim)
        size = 4 * qkv[1].numel()
        timed = self.gpu.per_call(lambda _: self.sdpa(*qkv))
        names = {"batch": batch, "heads": heads, "dim": dim, "length": length}
        return {
            **names,
            "cache_bytes": size,
            "cache_from": "l2" if size < 30 * MB else "dram",
            "gb_per_s": round(size / timed["us"] / 1e3, 1),
            **timed,
        }


def attention(gpu: Gpu, report: Report) -> None:
    """Microseconds of attention, fp16: prefill (causal and not; flash and cuDNN; flops count half
    when causal) and decode (one query row against a cache of up to 32768 positions; default
    choice of kernel)."""
    section = Attention(gpu)
    models, batches = ((12, 64), (32, 128)), (1, 8, 32)
    for (heads, dim), batch, length in itertools.product(models, batches, (128, 512, 2048, 8192)):
        qkv = section.tensors(batch, heads, length, length, dim)
        for causal, backend in itertools.product((False, True), ("flash", "cudnn")):
            with report.part(f"prefill {backend} {batch}x{heads}x{length}x{dim}"):
                report.row("prefill", **section.prefill(qkv, backend, causal))
    lengths = (128, 512, 2048, 8192, 32768)
    for (heads, dim), batch, length in itertools.product(models, batches, lengths):
        with report.part(f"decode {batch}x{heads}x{length}x{dim}"):
            report.row("decode", **section.decode(batch, heads, dim, length))


def memory_bound(gpu: Gpu, report: Report, size: float) -> None:
    torch, functional = gpu.torch, gpu.torch.nn.functional
    columns = 1024 if size >= 2048 else int(size / 2)
    rows = max(1, round(size / 2 / columns))
    x = torch.randn(rows, columns, device="cuda", dtype=torch.float16)
    y, out = torch.randn_like(x), torch.empty_like(x)
    gain, shift = torch.randn(2, columns, device="cuda", dtype=torch.float16)
    operators: dict[str, tuple[int, Callable[[int], object]]] = {
        "add": (3, lambda _: torch.add(x, y, out=out)),
        "gelu": (2, lambda _: functional.gelu(x)),
        "sum_rows": (1, lambda _: x.sum(dim=1)),
        "sum_all": (1, lambda _: x.sum()),
        "layer_norm": (2, lambda _: functional.layer_norm(x, (columns,), gain, shift)),
        "softmax": (2, lambda _: torch.softmax(x, dim=1)),
        "memset": (1, lambda _: out.zero_()),
        "copy": (2, lambda _: out.copy_(x)),
    }
    for name, (traffic, call) in operators.items():
        with report.part(f"{name} {size:g}"):
            timed = gpu.per_call(call, target_us=100.0)
            moved = traffic * x.numel() * 2
            names = {"operator": name, "input_bytes": x.numel() * 2, "moved_bytes": moved}
            rate = round(moved / timed["us"] / 1e3, 1)
            report.row("points", **names, gb_per_s=rate, **timed)


def elementwise(gpu: Gpu, report: Report) -> None:
    """Microseconds and GB/s (bytes read plus written) of memory-bound operators by size of the
    input in bytes, fp16; up to about 20 MB the data stays in L2."""
    for size in (1e3, 1e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9):
        memory_bound(gpu, report, size)
        gpu.torch.cuda.empty_cache()
