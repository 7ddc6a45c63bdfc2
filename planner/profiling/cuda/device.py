"""Memory, L2, launches, graph nodes and barriers: own kernels, from source, through the driver."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from planner.profiling.cuda.sampling import Found, Sampler
from planner.runtime.fused.lab import Lab

_MIB = 2**20
_THREADS = 256
_LAUNCHES = 200
_BUSY_COPIES = 8
"""Of 1 GiB: 2 ms on the fastest memory there is, more elsewhere."""
_WARM_UP_S = 0.5
_BARRIERS = (100, 1100)
_BIG_BYTES = 2**30
_CACHE_SHARES = (0.1, 0.25, 0.5, 0.8, 1.5)
"""Of L2: from well inside to beyond."""
_CACHE_BYTES_READ = 2**32

_READ = """
extern "C" __global__ void probe(const float4* data, float* out) {{
  float sum = 0.0f;
  const long step = (long)gridDim.x * blockDim.x;
  for (int turn = 0; turn < {turns}; ++turn)
    for (long i = (long)blockIdx.x * blockDim.x + threadIdx.x; i < {count}L; i += 4 * step) {{
      #pragma unroll
      for (int k = 0; k < 4; ++k)
        if (i + k * step < {count}L) {{
          float4 v = __ldcg(data + i + k * step);
          sum += v.x + v.y + v.z + v.w;
        }}
    }}
  if (sum == 12345.678f) out[0] = sum;
}}
"""
_EMPTY = 'extern "C" __global__ void probe(float* out) { if (out == 0) out[0] = 1.0f; }'
_BARRIER = """
extern "C" __global__ void probe(unsigned* count) {{
  for (int turn = 1; turn <= {turns}; ++turn) {{
    __syncthreads();
    if (threadIdx.x == 0) {{
      __threadfence();
      atomicAdd(count, 1u);
      while (*(volatile unsigned*)count < turn * gridDim.x) __nanosleep(20);
      __threadfence();
    }}
    __syncthreads();
  }}
}}
"""


class DeviceProbes:
    """Buffers and kernels on one device."""

    def __init__(self, lab: Lab) -> None:
        facts = lab.facts()
        self._lab = lab
        self._units = facts.units
        self._cache = facts.cache_size_bytes
        self._size = min(_BIG_BYTES, lab.free_bytes() // 8)
        self._source, self._target = lab.allocate(self._size), lab.allocate(self._size)
        lab.fill(self._source, 1, self._size)
        lab.synchronize()

    def close(self) -> None:
        """Gives the memory back."""
        for address in (self._source, self._target):
            self._lab.free(address)

    def reference_us(self) -> float:
        """A copy of half the buffer: what tells the device's pace."""
        size = self._size // 2
        return self._lab.elapsed_us(lambda: self._lab.copy(self._target, self._source, size))

    def keep_busy(self) -> None:
        """Queues some milliseconds of work, while the host queues what is to be timed."""
        for _ in range(_BUSY_COPIES):
            self._lab.copy(self._target, self._source, self._size)

    def warm_up(self) -> None:
        """Clocks rise from idle within a few tenths of a second of work."""
        until = time.perf_counter() + _WARM_UP_S
        while time.perf_counter() < until:
            self.keep_busy()
            self._lab.synchronize()

    def memory(self, sampler: Sampler) -> Iterator[Found]:
        """Reading, copying (bytes read and written) and setting far more than L2 holds."""
        lab, size = self._lab, self._size
        yield from self._read(sampler, "read memory", size, 1)
        yield from sampler.rate(
            "copy memory", 2 * size, "bytes/s",
            lambda: lab.elapsed_us(lambda: lab.copy(self._target, self._source, size)),
        )  # fmt: skip
        yield from sampler.rate(
            "set memory", size, "bytes/s",
            lambda: lab.elapsed_us(lambda: lab.fill(self._target, 0, size)),
        )  # fmt: skip

    def cache(self, sampler: Sampler) -> Iterator[Found]:
        """Reading buffers of parts of L2 again and again, by all multiprocessors."""
        for share in _CACHE_SHARES:
            size = int(self._cache * share) // 4096 * 4096
            turns = max(_CACHE_BYTES_READ // size, 2)
            yield from self._read(sampler, f"read {size / _MIB:.0f} MiB again", size, turns)

    def _read(self, sampler: Sampler, name: str, size: int, turns: int) -> Iterator[Found]:
        def once() -> float:
            kernel = self._kernel(_READ.format(count=size // 16, turns=turns))
            blocks = self._units * 8
            return self._timed(kernel, blocks, (self._source, self._target))

        yield from sampler.rate(name, float(size) * turns, "bytes/s", once)

    _kernels: dict[str, Any]

    def _kernel(self, source: str) -> Any:
        known: dict[str, Any] = self.__dict__.setdefault("_kernels", {})
        if source not in known:
            known[source] = self._lab.compile(source, "probe")
        return known[source]

    def _timed(self, kernel: Any, blocks: int, addresses: tuple[int, ...]) -> float:
        lab = self._lab
        return lab.elapsed_us(
            lambda: lab.launch(kernel, blocks, _THREADS, 0, addresses, ahead=False)
        )

    def launches(self, sampler: Sampler) -> Iterator[Found]:
        """An empty kernel on the stream, as a node of a graph, and one barrier in a kernel."""
        lab = self._lab

        def queue() -> None:
            kernel = self._kernel(_EMPTY)
            for _ in range(_LAUNCHES):
                lab.launch(kernel, self._units, _THREADS, 0, (self._target,), ahead=False)

        yield from sampler.duration(
            "launch", lambda: lab.elapsed_us(queue, self.keep_busy) / _LAUNCHES
        )
        graphs: list[Any] = []

        def node() -> float:
            if not graphs:
                graphs.append(lab.capture(queue))
            replay = partial(lab.replay, graphs[0])
            return lab.elapsed_us(replay, self.keep_busy) / _LAUNCHES

        yield from sampler.duration("graph node", node)
        for graph in graphs:
            lab.release(graph)
        yield from sampler.duration("barrier", self._barrier_us)

    def _barrier_us(self) -> float:
        """The slope between few and many barriers; one block a multiprocessor, all resident."""
        times = []
        for turns in _BARRIERS:
            kernel = self._kernel(_BARRIER.format(turns=turns))
            self._lab.fill(self._target, 0, 256)
            times.append(self._timed(kernel, self._units, (self._target,)))
        return (times[1] - times[0]) / (_BARRIERS[1] - _BARRIERS[0])
