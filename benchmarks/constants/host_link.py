"""Copies between host and device."""

from __future__ import annotations

import itertools

from constants.device import Gpu
from constants.host import time_host
from constants.report import MB, Json, Report, Run, summary


class HostLink:
    """Copies between host and device."""

    LARGEST = 1_000_000_000

    def __init__(self, gpu: Gpu) -> None:
        torch = gpu.torch
        self.gpu, self.beside = gpu, torch.cuda.Stream()
        self.device = torch.empty(self.LARGEST, dtype=torch.uint8, device="cuda").random_()
        self.pinned = torch.empty(self.LARGEST, dtype=torch.uint8, pin_memory=True)
        self.pageable = torch.empty(self.LARGEST, dtype=torch.uint8)
        self.pinned.copy_(self.device)
        self.pageable.copy_(self.pinned)
        self.a = torch.randn(8192, 8192, device="cuda", dtype=torch.float16)
        self.out = torch.empty_like(self.a)

    def copy(self, direction: str, kind: str, size: int) -> Json:
        """GB/s of device time, measured twice, and the blocking call (pageable: the call only)."""
        other = self.pinned if kind == "pinned" else self.pageable
        target, source = (self.device, other) if direction == "h2d" else (other, self.device)
        target, source = target[:size], source[:size]
        repeats = 20 if size < 100 * MB else 5

        def start() -> None:
            target.copy_(source, non_blocking=kind == "pinned")

        def call() -> None:
            start()
            self.gpu.torch_stream.synchronize()

        row: Json = {"kind": kind, "direction": direction, "bytes": size}
        row["call_and_synchronize"] = time_host(call, int, repeats)
        microseconds = row["call_and_synchronize"]["us"]
        if kind == "pinned":
            row["device"], again = (summary(self.gpu.time_each(start, repeats)) for _ in range(2))
            row["device_repeat_us"] = again["us"]
            microseconds = row["device"]["us"]
        return {**row, "gb_per_s": round(size / microseconds / 1e3, 2)}

    def up(self) -> None:
        half = self.LARGEST // 2
        self.device[:half].copy_(self.pinned[:half], non_blocking=True)

    def down(self) -> None:
        half = self.LARGEST // 2
        self.pinned[half:].copy_(self.device[half:], non_blocking=True)

    def compute(self) -> None:
        for _ in range(7):
            self.gpu.torch.mm(self.a, self.a, out=self.out)

    def together(self, first: Run, second: Run) -> Json:
        """How much of the shorter of two works hides behind the longer, on two streams."""
        main, torch = self.gpu.torch_stream, self.gpu.torch

        def both() -> None:
            self.beside.wait_stream(main)
            with torch.cuda.stream(self.beside):
                second()
            first()
            main.wait_stream(self.beside)

        alone = [summary(self.gpu.time_each(run, 5))["us"] for run in (first, second)]
        timed = summary(self.gpu.time_each(both, 5))
        hidden = (sum(alone) - timed["us"]) / min(alone)
        return {"alone_us": alone, "together": timed, "hidden_share": round(hidden, 3)}


def pcie(gpu: Gpu, report: Report) -> None:
    """Host link: GB/s and microseconds of copies of 4 KB to 1 GB (pinned: device time; pageable:
    host time to completion), both directions at once, and how much of a copy hides behind a
    product."""
    link = HostLink(gpu)
    sizes = (4096, 65536, 1_000_000, 16_000_000, 256_000_000, link.LARGEST)
    for kind, direction, size in itertools.product(("pinned", "pageable"), ("h2d", "d2h"), sizes):
        with report.part(f"{kind} {direction} {size}"):
            report.row("copy", **link.copy(direction, kind, size))
    pairs = {
        "h2d+d2h": (link.up, link.down),
        "gemm+h2d": (link.compute, link.up),
        "gemm+d2h": (link.compute, link.down),
    }
    for name, (first, second) in pairs.items():
        with report.part(name):
            size = link.LARGEST // 2
            report.row("overlap", pair=name, copy_bytes=size, **link.together(first, second))
