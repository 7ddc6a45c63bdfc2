"""Formats that ONNX Runtime has no CUDA kernel for, through torch where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

from planner.errors import EnvironmentMismatchError
from planner.profiling.cuda.sampling import Found, Sampler

_ROWS = (32, 128, 1024, 4096)
_WIDTHS = (4096, 8192)
_RUNS = 10
_BUSY_CYCLES = 4_000_000
"""About 2 ms."""


def has_torch() -> bool:
    """Whether torch could be loaded."""
    return importlib.util.find_spec("torch") is not None


def products(sampler: Sampler, ordinal: int) -> Iterator[Found]:
    """fp8, int8 and 2:4 sparse fp16, named as ONNX Runtime's are."""
    if not has_torch():
        for form in ("fp8", "int8", "2:4"):
            sampler.left_out[f"gemm {form}"] = "torch is not installed"
        return
    torch: Any = importlib.import_module("torch")
    makers: dict[str, Callable[[Any, int, int], Callable[[], Any]]] = {
        "fp8": _fp8, "int8": _int8, "2:4": _sparse,
    }  # fmt: skip
    with torch.cuda.device(ordinal):
        for form, width, rows in product(makers, _WIDTHS, _ROWS):
            name = f"gemm {form} {rows}x{width}x{width}"
            unit = "op/s" if form == "int8" else "flop/s"
            once = _once(torch, makers[form], rows, width)
            yield from sampler.rate(name, 2.0 * rows * width * width, unit, once)


def _once(
    torch: Any, make: Callable[[Any, int, int], Callable[[], Any]], rows: int, width: int
) -> Callable[[], float]:
    held: list[Callable[[], Any]] = []

    def once() -> float:
        try:
            if not held:
                held.append(make(torch, rows, width))
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(_BUSY_CYCLES)  # the host queues all of it meanwhile
            start.record()
            for _ in range(_RUNS):
                held[0]()
            end.record()
            end.synchronize()
        except (RuntimeError, AttributeError, TypeError, ValueError) as error:
            raise EnvironmentMismatchError(" ".join(str(error).split())[:200]) from None
        return float(start.elapsed_time(end)) * 1e3 / _RUNS

    return once


def _fp8(torch: Any, rows: int, width: int) -> Callable[[], Any]:
    kind = torch.float8_e4m3fn
    left = torch.randn(rows, width, device="cuda").to(kind)
    right = torch.randn(width, width, device="cuda").to(kind).t()
    one = torch.ones((), device="cuda")
    half = torch.float16
    return lambda: torch._scaled_mm(left, right, scale_a=one, scale_b=one, out_dtype=half)


def _int8(torch: Any, rows: int, width: int) -> Callable[[], Any]:
    left = torch.randint(-127, 127, (rows, width), dtype=torch.int8, device="cuda")
    right = torch.randint(-127, 127, (width, width), dtype=torch.int8, device="cuda").t()
    return lambda: torch._int_mm(left, right)


def _sparse(torch: Any, rows: int, width: int) -> Callable[[], Any]:
    dense = torch.randn(width, width, device="cuda", dtype=torch.float16)
    kept = torch.zeros_like(dense).view(-1, 4)
    kept[:, :2] = dense.view(-1, 4)[:, :2]
    sparse = torch.sparse.to_sparse_semi_structured(kept.view(width, width))
    right = torch.randn(rows, width, device="cuda", dtype=torch.float16).t()
    return lambda: torch.mm(sparse, right)
