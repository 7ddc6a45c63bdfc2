"""Copies to and from the host, and between devices, through the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from planner.profiling.cuda.sampling import Found, Sampler
from planner.runtime.fused.lab import Lab

_SIZES = (64, 64 * 2**10, 2**20, 2**28)
"""One word for the latency; beside it what weights and activations have."""
_REPEATS = 10


def host_links(lab: Lab, sampler: Sampler) -> Iterator[Found]:
    """Pinned memory, each way: latency of a small copy, bandwidth by size."""
    largest = _SIZES[-1]
    here, there = lab.allocate_pinned(largest), lab.allocate(largest)
    try:
        ways: dict[str, Callable[[int], None]] = {
            "host to device": lambda size: lab.upload(there, here, size),
            "device to host": lambda size: lab.download(here, there, size),
        }
        for name, copy in ways.items():
            yield from _by_size(lab, sampler, name, copy)
    finally:
        lab.free(there)
        lab.free_pinned(here)


def _by_size(lab: Lab, sampler: Sampler, name: str, copy: Callable[[int], None]) -> Iterator[Found]:
    for size in _SIZES:
        repeats = _REPEATS if size < 2**24 else 1

        def once(size: int = size, repeats: int = repeats) -> float:
            def body() -> None:
                for _ in range(repeats):
                    copy(size)

            return lab.elapsed_us(body) / repeats

        if size == _SIZES[0]:
            yield from sampler.duration(f"{name}, latency", once)
        else:
            label = f"{size // 2**20} MiB" if size >= 2**20 else f"{size // 2**10} KiB"
            yield from sampler.rate(f"{name}, {label}", size, "bytes/s", once)


def peer_links(lab: Lab, devices: int, sampler: Sampler) -> Iterator[Found]:
    """From the first device to each other one."""
    for ordinal in range(1, devices):
        other = Lab(ordinal)
        reaches = lab.open_peer(other)
        other.activate()
        target = other.allocate(_SIZES[-1])
        lab.activate()
        source = lab.allocate(_SIZES[-1])

        def copy(size: int, target: int = target, other: Lab = other, source: int = source) -> None:
            lab.to_peer(target, other, source, size)

        name = f"device 0 to {ordinal}" + ("" if reaches else " through the host")
        yield from _by_size(lab, sampler, name, copy)
        lab.free(source)
        other.activate()
        other.free(target)
        lab.activate()
