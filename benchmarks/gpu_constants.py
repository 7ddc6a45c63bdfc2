"""Measure the constants of one NVIDIA GPU that decide what plans cost and how kernels are fused.

    python benchmarks/gpu_constants.py --json constants.json                     # everything
    python benchmarks/gpu_constants.py --sections nodes,barriers --json out.json

What each section measures stands in the docstring of its function. How it is timed:

* Device time comes from events. A spin kernel runs first, so that everything timed is already
  queued and the host is not in the number. Costs per step are slopes over the number of steps,
  which removes launch and event overhead. Numbers are medians; every slope is measured twice
  (`repeat`), which shows the spread of doing the same thing again.
* Host time comes from a steady clock, in C++ where the interpreter would be in the way.
* Data is random, never zero, and what synchronises is checked for its result, not only timed.
* Each section runs in a process of its own with a time limit, so a hang or a fault costs one
  section. The JSON is written after every section, and inside a section as it goes along.

Needs: an NVIDIA GPU (clusters and PDL: compute capability 9.0), nvcc, a C++ compiler, torch,
triton, cuda-bindings, cuda-core, numpy. The settings of the GPU are only read.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import datetime
import functools
import importlib
import importlib.metadata
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

KERNELS = Path(__file__).resolve().parent / "gpu_kernels"
MB = 1_000_000
PACKAGES = (
    "torch",
    "triton",
    "cuda-core",
    "cuda-bindings",
    "cupy-cuda13x",
    "nvidia-cublas",
    "nvidia-cudnn-cu13",
)

Json = dict[str, Any]
Run = Callable[[], object]


# -------------------------------------------------------------------------------------- statistics
def summary(samples: Sequence[float], digits: int = 3) -> Json:
    """Median, quartiles, 99th percentile and count of samples in microseconds."""
    ordered = sorted(samples)
    quartiles = statistics.quantiles(ordered, n=4) if len(ordered) > 1 else [ordered[0]] * 3
    return {
        "us": round(statistics.median(ordered), digits),
        "iqr_us": [round(quartiles[0], digits), round(quartiles[2], digits)],
        "p99_us": round(ordered[min(len(ordered) - 1, math.ceil(0.99 * len(ordered)) - 1)], digits),
        "samples": len(ordered),
    }


def check(result: tuple[Any, ...]) -> Any:
    """Return what a driver call returned, or raise with the name of its error."""
    error, *values = result
    if int(error) != 0:
        raise RuntimeError(str(error))
    return values[0] if len(values) == 1 else tuple(values)


class Report:
    """What a section found so far, kept on disk."""

    def __init__(self, path: Path) -> None:
        self.path, self._flushed = path, 0.0
        self.data: Json = {}

    def put(self, key: str, value: object) -> None:
        self.data[key] = value
        self.flush(lazy=True)

    def row(self, table: str, **fields: object) -> None:
        self.data.setdefault(table, []).append(fields)
        self.flush(lazy=True)

    def flush(self, lazy: bool = False) -> None:
        if lazy and time.monotonic() - self._flushed < 1.0:
            return
        self._flushed = time.monotonic()
        scratch = self.path.with_suffix(".tmp")
        scratch.write_text(json.dumps(self.data))
        scratch.replace(self.path)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A failure inside is recorded and does not stop the section."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  one bad shape must not lose the others
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = str(error).strip().splitlines() or [type(error).__name__]
            self.row("errors", part=name, error=text[0][:300], line=where.lineno)


# -------------------------------------------------------------------------------------- the device
def u32(value: int) -> ctypes.c_uint32:
    return ctypes.c_uint32(value)


def i32(value: int) -> ctypes.c_int32:
    return ctypes.c_int32(value)


def u64(value: int) -> ctypes.c_uint64:
    return ctypes.c_uint64(value)


def as_parameters(arguments: Sequence[Any]) -> tuple[list[Any], Any]:
    """Kernel parameters (tensors pass their address) and the array of pointers to them."""
    values = [
        a if isinstance(a, ctypes._SimpleCData) else ctypes.c_void_p(a.data_ptr())
        for a in arguments
    ]
    return values, (ctypes.c_void_p * len(values))(*[ctypes.addressof(v) for v in values])


class Graph:
    """An instantiated CUDA graph on the stream of its Gpu."""

    def __init__(self, gpu: Gpu, handle: Any, nodes: int) -> None:
        self.gpu, self.handle, self.nodes = gpu, handle, nodes

    def __call__(self) -> None:
        check(self.gpu.driver.cuGraphLaunch(self.handle, self.gpu.stream))


class Gpu:
    """Launches, graphs and timers on one stream that torch, Triton and the driver share."""

    def __init__(self, build: Path) -> None:
        self.torch: Any = importlib.import_module("torch")
        self.driver: Any = importlib.import_module("cuda.bindings.driver")
        self.torch.cuda.init()
        self.torch.manual_seed(0)
        self.torch_stream = self.torch.cuda.Stream()
        self.torch.cuda.set_stream(self.torch_stream)
        self.stream = self.driver.CUstream(self.torch_stream.cuda_stream)
        self.sms: int = self.torch.cuda.get_device_properties(0).multi_processor_count
        self.cubin = build / "kernels.cubin"
        self.module = check(self.driver.cuModuleLoadData(self.cubin.read_bytes()))
        self._functions: dict[str, Any] = {}

    def kernel(self, name: str, shared: int = 0, any_cluster: bool = False) -> Any:
        """The function, allowed `shared` bytes of dynamic memory and clusters above 8 blocks."""
        if name not in self._functions:
            self._functions[name] = check(
                self.driver.cuModuleGetFunction(self.module, name.encode())
            )
        attribute = self.driver.CUfunction_attribute
        if shared > 48 * 1024:
            limit = attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            check(self.driver.cuFuncSetAttribute(self._functions[name], limit, shared))
        if any_cluster:
            limit = attribute.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
            check(self.driver.cuFuncSetAttribute(self._functions[name], limit, 1))
        return self._functions[name]

    def config(
        self, grid: int, block: int, shared: int, cluster: int, cooperative: bool, pdl: bool
    ) -> Any:
        driver = self.driver
        config = driver.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = grid, 1, 1
        config.blockDimX, config.blockDimY, config.blockDimZ = block, 1, 1
        config.sharedMemBytes, config.hStream = shared, self.stream
        attributes = []
        if cluster:
            attribute = driver.CUlaunchAttribute()
            attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
            dimension = attribute.value.clusterDim
            dimension.x, dimension.y, dimension.z = cluster, 1, 1
            attributes.append(attribute)
        if cooperative:
            attribute = driver.CUlaunchAttribute()
            attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
            attribute.value.cooperative = 1
            attributes.append(attribute)
        if pdl:
            attribute = driver.CUlaunchAttribute()
            attribute.id = (
                driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
            )
            attribute.value.programmaticStreamSerializationAllowed = 1
            attributes.append(attribute)
        config.numAttrs, config.attrs = len(attributes), attributes
        return config

    def launch(
        self,
        name: str,
        grid: int,
        block: int,
        *arguments: Any,
        shared: int = 0,
        cluster: int = 0,
        cooperative: bool = False,
        pdl: bool = False,
    ) -> None:
        """Launch a kernel; tensors pass their address, scalars come as ctypes objects."""
        function = self.kernel(name, shared, cluster > 8)
        values, pointers = as_parameters(arguments)
        config = self.config(grid, block, shared, cluster, cooperative, pdl)
        check(self.driver.cuLaunchKernelEx(config, function, ctypes.addressof(pointers), 0))
        del values  # alive until here: `pointers` points at them

    def graph(self, body: Run) -> Graph:
        """Capture what `body` launches through the driver."""
        driver = self.driver
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        check(driver.cuStreamBeginCapture(self.stream, mode))
        try:
            body()
        finally:
            ended = driver.cuStreamEndCapture(self.stream)
        captured = check(ended)
        nodes = check(driver.cuGraphGetNodes(captured, 0))
        handle = check(driver.cuGraphInstantiate(captured, 0))
        check(driver.cuGraphUpload(handle, self.stream))
        self.torch.cuda.synchronize()
        return Graph(self, handle, int(nodes[-1] if isinstance(nodes, tuple) else nodes))

    def torch_replay(self, body: Run) -> Run:
        """Capture torch or Triton work; it runs twice first, so that nothing is compiled inside."""
        body()
        body()
        self.torch.cuda.synchronize()
        graph = self.torch.cuda.CUDAGraph()
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            body()
        finally:
            graph.capture_end()
        replay: Run = graph.replay
        return replay

    def warm(self, seconds: float = 0.3) -> None:
        """Bring the clocks up with light work on all SMs."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.launch("spin", self.sms, 128, u64(20_000_000))
            self.torch.cuda.synchronize()

    def heat(self, seconds: float = 0.3) -> None:
        """Large matrix products, which make the GPU lower its clocks."""
        a = self.torch.randn(4096, 4096, device="cuda", dtype=self.torch.float16)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(20):
                a @ a
            self.torch.cuda.synchronize()

    def spin(self, microseconds: float) -> None:
        self.launch("spin", 1, 1, ctypes.c_uint64(int(microseconds * 1000)))

    def time_each(self, run: Run, repeats: int = 30, spin_us: float = 100.0) -> list[float]:
        """Device microseconds of every single run."""
        event = self.torch.cuda.Event
        pairs = [(event(enable_timing=True), event(enable_timing=True)) for _ in range(repeats)]
        run()
        self.torch.cuda.synchronize()
        for start, stop in pairs:
            self.spin(spin_us)
            start.record()
            run()
            stop.record()
        self.torch.cuda.synchronize()
        return [1e3 * start.elapsed_time(stop) for start, stop in pairs]

    def slope(
        self,
        build: Callable[[int], Run],
        steps: Sequence[int],
        repeats: int = 30,
        spin_us: float = 100.0,
    ) -> Json:
        """Microseconds per step between the two longest runs; measured twice."""
        runs = {n: build(n) for n in steps}
        low, high = sorted(steps)[-2:]
        slopes: list[float] = []
        first: dict[int, Json] = {}
        for _ in range(2):
            times = {n: summary(self.time_each(runs[n], repeats, spin_us)) for n in steps}
            slopes.append((times[high]["us"] - times[low]["us"]) / (high - low))
            first = first or times
        base = first[min(steps)]["us"] - min(steps) * slopes[0]
        return {
            "us_per_step": round(slopes[0], 4),
            "repeat_us_per_step": round(slopes[1], 4),
            "intercept_us": round(base, 2),
            "total_us": {str(n): t["us"] for n, t in first.items()},
            "total_iqr_us": {str(n): t["iqr_us"] for n, t in first.items()},
        }

    def per_call(
        self, call: Callable[[int], object], copies: int = 1, target_us: float = 300.0
    ) -> Json:
        """Microseconds per call in a graph of many; call(i) uses the i-th copy of its data."""
        event = self.torch.cuda.Event
        for i in range(2):
            call(i % copies)
        start, stop = event(enable_timing=True), event(enable_timing=True)
        self.spin(50)
        start.record()
        for i in range(3):
            call(i % copies)
        stop.record()
        self.torch.cuda.synchronize()
        single = max(0.5, 1e3 * start.elapsed_time(stop) / 3)
        calls = copies * max(1, math.ceil(min(50.0, target_us / single) / copies))

        def body() -> None:
            for i in range(calls):
                call(i % copies)

        in_graph = True
        try:
            run: Run = self.torch_replay(body)
        except Exception:  # noqa: BLE001  some library calls cannot be captured: time the stream
            self.torch.cuda.synchronize()
            in_graph, run = False, body
        repeats = int(min(25, max(5, 30_000 / (calls * single))))
        times = self.time_each(run, repeats, 50.0 if in_graph else 2000.0)
        result = summary([t / calls for t in times])
        del result["p99_us"]
        return {**result, "calls": calls, **({} if in_graph else {"graph": False})}

    def resident_clusters(self, name: str, cluster: int, threads: int, shared: int = 0) -> int:
        """How many clusters the device can hold at once."""
        function = self.kernel(name, shared, cluster > 8)
        config = self.config(cluster, threads, shared, cluster, False, False)
        return int(check(self.driver.cuOccupancyMaxActiveClusters(function, config)))

    def clock_mhz(self) -> float:
        """The clock that an SM really runs at now."""
        out = self.torch.zeros(3, dtype=self.torch.int64, device="cuda")
        self.launch("clock_rate", 1, 1, u64(2_000_000), out)
        cycles, nanoseconds, _ = out.tolist()
        return float(round(1e3 * cycles / nanoseconds, 1))

    def stopwatch(
        self, run: Callable[[Any], object], steps: int, times: int = 5, first: bool = False
    ) -> Json:
        """Cycles and nanoseconds per step as the kernel itself reads them; run(out) launches it."""
        out = self.torch.zeros(3, dtype=self.torch.int64, device="cuda")
        samples = []
        for _ in range(times):
            run(out)
            samples.append(out.tolist()[:2])
        samples = samples[:1] if first else samples[1:]
        cycles, nanoseconds = zip(*samples, strict=True)
        return {
            "cycles": round(statistics.median(cycles) / steps, 1),
            "cycles_range": [round(min(cycles) / steps, 1), round(max(cycles) / steps, 1)],
            "ns": round(statistics.median(nanoseconds) / steps, 1),
        }

    def random_words(self, words: int) -> Any:
        return self.torch.randint(
            -(2**31), 2**31 - 1, (words,), device="cuda", dtype=self.torch.int32
        )

    def zeros(self, words: int) -> Any:
        return self.torch.zeros(words, device="cuda", dtype=self.torch.int32)


# ---------------------------------------------------------------------------------------- sections
def chain_of_tiny(gpu: Gpu, kernel: str, grid: int, threads: int, pdl: bool = False) -> Json:
    """Graph of dependent tiny kernels; the count they keep proves that each ran, in order."""
    words = grid * threads
    buffers = [gpu.zeros(words), gpu.zeros(words)]
    added = 0

    def build(n: int) -> Run:
        def body() -> None:
            for i in range(n):
                source, target = buffers[i % 2], buffers[(i + 1) % 2]
                gpu.launch(kernel, grid, threads, source, target, u32(words), pdl=pdl and i > 0)

        graph = gpu.graph(body)

        def run() -> None:
            nonlocal added
            added += n
            graph()

        return run

    result = gpu.slope(build, (2, 10, 50, 200))
    wrong = int((buffers[0] != added).sum().item())
    names = {"kernel": kernel, "grid": grid, "threads": threads, "pdl": pdl}
    return {**names, "wrong_words": wrong, **result}


def chain_of_empty(gpu: Gpu, grid: int, threads: int) -> Json:
    def build(n: int) -> Run:
        def body() -> None:
            for _ in range(n):
                gpu.launch("empty_node", grid, threads)

        return gpu.graph(body)

    names = {"kernel": "empty_node", "grid": grid, "threads": threads}
    return {**names, **gpu.slope(build, (1, 10, 50, 200))}


def chain_in_stream(gpu: Gpu) -> Json:
    words = gpu.sms * 128
    a, b = gpu.zeros(words), gpu.zeros(words)

    def build(n: int) -> Run:
        def run() -> None:
            for _ in range(n):
                gpu.launch("tiny_node", gpu.sms, 128, a, b, u32(words))

        return run

    return gpu.slope(build, (10, 50, 200), repeats=10, spin_us=5000)


def chain_of_adds(gpu: Gpu, rows: int, columns: int) -> Json:
    x = gpu.torch.randn(rows, columns, device="cuda", dtype=gpu.torch.float16)
    y = gpu.torch.randn_like(x)

    def build(n: int) -> Run:
        return gpu.torch_replay(lambda: [x.add_(y, alpha=1e-3) for _ in range(n)])

    return {"rows": rows, "columns": columns, **gpu.slope(build, (10, 50, 200))}


def chain_of_forks(gpu: Gpu, width: int) -> Json:
    """Levels of `width` parallel adds, each level joined before the next."""
    torch, main = gpu.torch, gpu.torch_stream
    data = torch.randn(width, 16, 256, device="cuda", dtype=torch.float16)
    sides = [torch.cuda.Stream() for _ in range(width - 1)]

    def level() -> None:
        for side, x in zip(sides, data[1:], strict=True):
            side.wait_stream(main)
            with torch.cuda.stream(side):
                x.mul_(-1)
        data[0].mul_(-1)
        for side in sides:
            main.wait_stream(side)

    def build(n: int) -> Run:
        def body() -> None:
            for _ in range(n):
                level()

        return gpu.torch_replay(body)

    return {"width": width, **gpu.slope(build, (5, 25, 50))}


def nodes(gpu: Gpu, report: Report) -> None:
    """Device microseconds per kernel of a dependent chain: in a graph (empty and tiny kernels,
    torch's add) and launched one by one on a stream that already has the work queued; and per level
    of parallel kernels that fork and join."""
    for grid, threads in ((1, 128), (gpu.sms, 128), (gpu.sms, 512), (2 * gpu.sms, 256)):
        with report.part(f"tiny {grid}x{threads}"):
            report.row("graph", **chain_of_tiny(gpu, "tiny_node", grid, threads))
        with report.part(f"empty {grid}x{threads}"):
            report.row("graph", **chain_of_empty(gpu, grid, threads))
    with report.part("stream"):
        report.put("stream_tiny", chain_in_stream(gpu))
    for rows, columns in ((1, 256), (16, 256), (64, 1024)):
        with report.part(f"torch add {rows}x{columns}"):
            report.row("torch_add", **chain_of_adds(gpu, rows, columns))
    for width in (1, 2, 4, 8):
        with report.part(f"fork {width}"):
            report.row("fork_and_join", **chain_of_forks(gpu, width))


def pdl(gpu: Gpu, report: Report) -> None:
    """Device microseconds per kernel of a graph whose edges are programmatic dependent launches,
    against normal edges; the kernel lets its dependants start at its own start, at its end, or only
    by exiting."""
    kinds = (
        ("tiny_node", False),
        ("tiny_pdl_implicit", True),
        ("tiny_pdl_start", True),
        ("tiny_pdl_end", True),
    )
    sizes = ((1, 128), (gpu.sms, 128), (gpu.sms, 256), (2 * gpu.sms, 256))
    for (grid, threads), (kernel, edge) in itertools.product(sizes, kinds):
        with report.part(f"{kernel} {grid}x{threads}"):
            report.row("graph", **chain_of_tiny(gpu, kernel, grid, threads, pdl=edge))


class HostTimers:
    """The C++ timers (host_timers.cpp)."""

    NONE, SYNCHRONIZE, QUERY, FLAG = range(4)

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.functions = ctypes.CDLL(str(gpu.cubin.with_name("host_timers.so")))

    @staticmethod
    def _raise(code: int) -> None:
        if code:
            raise RuntimeError(f"driver error {code}")

    def _handles(self, *handles: object) -> list[ctypes.c_void_p]:
        return [ctypes.c_void_p(int(handle)) for handle in handles]  # type: ignore[call-overload]

    def graph(self, graph: Graph, wait: int, count: int = 400, flag: int = 0) -> Json:
        out = (ctypes.c_double * count)()
        handle, stream = self._handles(graph.handle, self.gpu.stream)
        for _ in range(2):  # the first round warms up
            code = self.functions.time_graph(
                handle, stream, count, wait, ctypes.c_void_p(flag), out
            )
            self._raise(code)
        return summary(list(out))

    def queue(self, graph: Graph, count: int = 200) -> float:
        out = ctypes.c_double()
        handle, stream = self._handles(graph.handle, self.gpu.stream)
        for _ in range(2):
            self._raise(self.functions.time_graph_queue(handle, stream, count, ctypes.byref(out)))
        return round(out.value, 3)

    def launch(self, kernel: str, grid: int, block: int, wait: int, *arguments: Any) -> Json:
        count = 400
        values, pointers = as_parameters(arguments)
        out = (ctypes.c_double * count)()
        function, stream = self._handles(self.gpu.kernel(kernel), self.gpu.stream)
        for _ in range(2):
            code = self.functions.time_launch(
                function, grid, block, stream, pointers, count, wait, out
            )
            self._raise(code)
        del values  # alive until here: `pointers` points at them
        return summary(list(out))


def time_host(call: Run, after: Run, count: int = 400) -> Json:
    """Host microseconds of `call`; `after` runs between the samples, untimed."""
    samples = []
    warm = min(20, count)
    for i in range(count + warm):
        start = time.perf_counter()
        call()
        if i >= warm:
            samples.append(1e6 * (time.perf_counter() - start))
        after()
    return summary(samples)


class HostSection:
    """Host cost of one inference call in several ways, for graphs of `n` tiny kernels."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.timers = gpu, HostTimers(gpu)
        self.words = gpu.sms * 128
        self.buffers = [gpu.zeros(self.words), gpu.zeros(self.words)]
        self.synchronize: Run = gpu.torch.cuda.synchronize

    def tiny(self, n: int) -> None:
        for i in range(n):
            source, target = self.buffers[i % 2], self.buffers[(i + 1) % 2]
            self.gpu.launch("tiny_node", self.gpu.sms, 128, source, target, u32(self.words))

    def cpp(self, n: int) -> Json:
        graph, timers = self.gpu.graph(lambda: self.tiny(n)), self.timers
        return {
            "nodes": n,
            "launch": timers.graph(graph, timers.NONE),
            "launch_repeat": timers.graph(graph, timers.NONE),
            "launch_and_synchronize": timers.graph(graph, timers.SYNCHRONIZE),
            "launch_and_query": timers.graph(graph, timers.QUERY),
            "queued_us_per_launch": timers.queue(graph),
            "device": summary(self.gpu.time_each(graph)),
        }

    def raw_bindings(self, n: int) -> Json:
        graph, driver, stream = (
            self.gpu.graph(lambda: self.tiny(n)),
            self.gpu.driver,
            self.gpu.stream,
        )

        def launch() -> None:
            driver.cuGraphLaunch(graph.handle, stream)

        def call() -> None:
            driver.cuGraphLaunch(graph.handle, stream)
            driver.cuStreamSynchronize(stream)

        return {
            "nodes": n,
            "launch": time_host(launch, self.synchronize),
            "launch_and_synchronize": time_host(call, self.synchronize),
        }

    def torch(self, n: int) -> Json:
        x = self.gpu.torch.randn(64, 256, device="cuda")
        replay = self.gpu.torch_replay(lambda: [x.mul_(-1.0) for _ in range(n)])

        def call() -> None:
            replay()
            self.synchronize()

        return {
            "nodes": n,
            "launch": time_host(replay, self.synchronize),
            "launch_and_synchronize": time_host(call, self.synchronize),
        }

    def cuda_core(self, n: int) -> Json:
        """The graph is built and launched with cuda.core."""
        numpy: Any = importlib.import_module("numpy")
        core: Any = importlib.import_module("cuda.core")
        if not hasattr(core, "Device"):  # before 0.5
            core = importlib.import_module("cuda.core.experimental")
        device = core.Device(0)
        device.set_current()
        stream = device.create_stream()
        module = core.ObjectCode.from_cubin(self.gpu.cubin.read_bytes())
        kernel = module.get_kernel("tiny_node")
        config = core.LaunchConfig(grid=self.gpu.sms, block=128)
        builder = stream.create_graph_builder().begin_building()
        addresses = [b.data_ptr() for b in self.buffers]
        words = numpy.uint32(self.words)
        for i in range(n):
            arguments = (addresses[i % 2], addresses[(i + 1) % 2], words)
            core.launch(builder, config, kernel, *arguments)
        graph = builder.end_building().complete()
        graph.upload(stream)
        stream.sync()

        def call() -> None:
            graph.launch(stream)
            stream.sync()

        return {
            "nodes": n,
            "launch": time_host(lambda: graph.launch(stream), stream.sync),
            "launch_and_synchronize": time_host(call, stream.sync),
        }

    def one_kernel(self) -> Json:
        arguments = ("tiny_node", self.gpu.sms, 128)
        tensors = (*self.buffers, u32(self.words))
        timers = self.timers
        return {
            "launch": timers.launch(*arguments, timers.NONE, *tensors),
            "launch_and_synchronize": timers.launch(*arguments, timers.SYNCHRONIZE, *tensors),
        }

    def host_flag(self, n: int) -> Json:
        """The last kernel writes a word of pinned memory that the host polls."""
        flag = self.gpu.torch.zeros(64, dtype=self.gpu.torch.int32).pin_memory()
        counter = self.gpu.zeros(1)

        def body() -> None:
            self.tiny(n - 1)
            self.gpu.launch("host_flag", 1, 1, counter, flag)

        graph, timers = self.gpu.graph(body), self.timers
        return {
            "nodes": n,
            "launch_and_poll": timers.graph(graph, timers.FLAG, flag=flag.data_ptr()),
            "launch_and_synchronize": timers.graph(graph, timers.SYNCHRONIZE),
        }

    def input_output(self, size: int) -> Json:
        """`size` bytes in and out: copy nodes around the kernel, or the kernel on pinned memory."""
        torch, driver, gpu = self.gpu.torch, self.gpu.driver, self.gpu
        source = torch.randint(-100, 100, (size // 4,), dtype=torch.int32).pin_memory()
        target = torch.zeros(size // 4, dtype=torch.int32).pin_memory()
        inside = torch.empty_like(source, device="cuda")
        outside = torch.empty_like(inside)
        vectors = u32(size // 16)
        blocks = min(gpu.sms, math.ceil(size / 16 / 128))

        def copied() -> None:
            check(driver.cuMemcpyHtoDAsync(inside.data_ptr(), source.data_ptr(), size, gpu.stream))
            gpu.launch("add_one", blocks, 128, inside, outside, vectors)
            check(driver.cuMemcpyDtoHAsync(target.data_ptr(), outside.data_ptr(), size, gpu.stream))

        def direct() -> None:
            gpu.launch("add_one", blocks, 128, source, target, vectors)

        result: Json = {"bytes_each_way": size}
        for name, body in (("copy_nodes", copied), ("pinned_access", direct)):
            target.zero_()
            result[name] = self.timers.graph(gpu.graph(body), self.timers.SYNCHRONIZE)
            result[f"{name}_correct"] = bool((target == source + 1).all())
        return result


def host(gpu: Gpu, report: Report) -> None:
    """Host microseconds of one inference call: replaying a graph of 1 to 200 nodes, alone and with
    its completion (synchronise, query, or polling a word of pinned memory), from C++, the raw
    bindings, cuda.core and torch; launching one kernel; and with inputs and outputs carried by
    copies or by direct access."""
    section = HostSection(gpu)
    ways: tuple[tuple[str, Callable[[int], Json], tuple[int, ...]], ...] = (
        ("cpp", section.cpp, (1, 5, 20, 50, 100, 200)),
        ("raw_bindings", section.raw_bindings, (1, 5, 20, 100, 200)),
        ("cuda_core", section.cuda_core, (1, 5, 20, 100, 200)),
        ("torch", section.torch, (1, 5, 20, 100, 200)),
        ("host_flag", section.host_flag, (1, 20)),
        ("input_output", section.input_output, (4096, 65536, 602112, 4 * 1024 * 1024)),
    )
    for name, measure, sizes in ways:
        for size in sizes:
            with report.part(f"{name} {size}"):
                report.row(name, **measure(size))
    with report.part("one kernel"):
        report.put("one_kernel", section.one_kernel())


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


class Stages:
    """A synthetic network; stage s maps 256 words to 256 words with weights s % sets."""

    LINKS: ClassVar[list[str]] = ["graph_node", "pdl", "pdl_ahead", "barrier", "barrier_ahead"]
    LINKS += ["flags_ahead", "data", "data_ahead"]

    def __init__(self, gpu: Gpu, blocks: int, loads: int, sets: int) -> None:
        self.gpu, self.blocks, self.loads, self.sets = gpu, blocks, loads, sets
        self.numpy: Any = importlib.import_module("numpy")
        self.stride = blocks * loads * 4096  # bytes of weights per stage
        self.weights = gpu.random_words(sets * self.stride // 4)
        self.start = gpu.random_words(512)
        self.x, self.state = gpu.zeros(2048), gpu.zeros(1024)

    def table(self) -> Any:
        """Each thread's factor, [set, block, load, thread], modulo 2^32."""
        numpy = self.numpy
        words = self.weights.cpu().numpy().view(numpy.uint32)
        words = words.reshape(self.sets, self.blocks, self.loads, 256, 4)
        factors = numpy.array([1, 3, 5, 7], dtype=numpy.uint32)
        return (words * factors).sum(axis=4, dtype=numpy.uint32)

    def sums(self, table: Any, x: Any) -> Any:
        """What the blocks sum up in one stage."""
        return (table * x[:256]).sum(axis=(1, 2), dtype=self.numpy.uint32)

    def expected(self, stages: int) -> Any:
        """The words after so many stages."""
        numpy, table = self.numpy, self.table()
        x = self.start.cpu().numpy().view(numpy.uint32)
        for s in range(stages):
            sums = self.sums(table[s % self.sets], x)
            x = numpy.stack([sums, sums ^ numpy.uint32(0x9E3779B9)], axis=1).reshape(-1)
        return x[:256]

    def reset(self, packed: bool) -> None:
        """Start values; packed: each word with its stage number, 0, in the upper half."""
        self.state.zero_()
        self.x.fill_(-1)
        if packed:
            self.x[0:1024:2] = self.start
            self.x[1:1024:2] = 0
        else:
            self.x[:512] = self.start

    def found(self, packed: bool) -> Any:
        words = self.x[:1024].cpu().numpy().view(self.numpy.uint32)
        return words[0:512:2] if packed else words[:256]

    def nodes(self, kernel: str, edge: bool, stages: int) -> Run:
        """One kernel a stage, in a graph."""
        weights, x = self.weights.data_ptr(), self.x.data_ptr()

        def body() -> None:
            for s in range(stages):
                self.gpu.launch(
                    kernel,
                    self.blocks,
                    256,
                    ctypes.c_void_p(weights + s % self.sets * self.stride),
                    ctypes.c_void_p(x + s % 2 * 2048),
                    ctypes.c_void_p(x + (s + 1) % 2 * 2048),
                    shared=self.loads * 4096,
                    pdl=edge and s > 0,
                )

        return self.gpu.graph(body)

    def persistent(self, kernel: str, stages: int) -> Run:
        """All stages in one cooperative kernel."""
        arguments = (self.state, self.weights, i32(self.sets), self.x, i32(stages))
        shared = self.loads * 4096
        return lambda: self.gpu.launch(
            kernel, self.blocks, 256, *arguments, shared=shared, cooperative=True
        )

    def build(self, link: str, stages: int) -> Run:
        if link == "graph_node":
            return self.nodes(f"stage_node_{self.loads}", False, stages)
        if link.startswith("pdl"):
            return self.nodes(f"stage_{link}_{self.loads}", True, stages)
        kernel = link.replace("barrier", "counter")
        return self.persistent(f"stage_{kernel}_{self.loads}", stages)

    def measure(self, link: str) -> Json:
        packed = link.startswith("data")
        self.reset(packed)
        self.build(link, 40)()
        self.gpu.torch.cuda.synchronize()
        right = bool((self.found(packed) == self.expected(40)).all())
        timed = self.gpu.slope(lambda n: self.build(link, n), (20, 120), repeats=20)
        return {
            "link": link,
            "blocks": self.blocks,
            "weights_kb_per_block": 4 * self.loads,
            "weights_mb_per_stage": round(self.stride / MB, 3),
            "correct": right,
            **timed,
        }


class ClusterStages(Stages):
    """The same inside one cluster of 16 blocks, whose barrier links the stages."""

    LINKS: ClassVar[list[str]] = ["cluster", "cluster_ahead", "cluster_async_ahead"]

    def __init__(self, gpu: Gpu, loads: int, sets: int) -> None:
        super().__init__(gpu, 16, loads, sets)

    def sums(self, table: Any, x: Any) -> Any:
        """Every warp sums on its own."""
        numpy = self.numpy
        index = (numpy.arange(self.loads)[:, None] * 32 + numpy.arange(32)) % 256
        table = table.reshape(16, self.loads, 8, 32) * x[index][None, :, None, :]
        return table.sum(axis=(1, 3), dtype=numpy.uint32).reshape(-1)

    def build(self, link: str, stages: int) -> Run:
        arguments = (self.weights, i32(self.sets), self.x, i32(stages))
        kernel, shared = f"stage_{link}_{self.loads}", self.loads * 4096
        return lambda: self.gpu.launch(kernel, 16, 256, *arguments, shared=shared, cluster=16)


def stages(gpu: Gpu, report: Report) -> None:
    """Device microseconds per stage of a synthetic network. A stage reads its weights (0.13 to
    8.6 MB, resident in L2) and the previous stage's output, reduces and writes. The link between
    stages is a graph node, a PDL edge, a grid barrier (counter, or flags of all blocks), data that
    carry their stage number; or, in a single cluster of 16 blocks, its barrier or st.async into
    shared memory. `ahead` fetches the next weights before waiting. Results are checked exactly."""
    networks = [Stages(gpu, gpu.sms, *size) for size in ((1, 16), (4, 10), (16, 3))]
    networks += [ClusterStages(gpu, *size) for size in ((2, 32), (8, 16), (32, 8))]
    for network in networks:
        for link in network.LINKS:
            with report.part(f"{link} {network.loads}"):
                report.row("stage", **network.measure(link))


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


Tiling = tuple[int, int, int]  # columns per block, warps, parts of K


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


class Reader:
    """Reads of one buffer by a persistent grid, 16 bytes a load, past L1."""

    def __init__(self, gpu: Gpu, size: int) -> None:
        self.gpu, self.data, self.sink = gpu, gpu.random_words(size // 4), gpu.zeros(1)

    def run(self, grid: int, vectors: int, mode: str, loads: int) -> Run:
        """`mode`: each block re-reads its `own` slice, a `moving` slice, or `everything`."""
        block_stride, step, shift = 512, grid * 512, 0
        if mode == "moving":
            shift = 512 * 37
        elif mode == "everything":
            block_stride, step = vectors // grid // 512 * 512, 512
        arguments = (self.data, u64(vectors), u64(block_stride), u64(step), u64(shift))
        return lambda: self.gpu.launch("read_vectors", grid, 512, *arguments, i32(loads), self.sink)

    def cached(self, size: int, mode: str) -> Json:
        """TB/s of all SMs together over a working set of about `size` bytes."""
        grid = 2 * self.gpu.sms
        vectors = max(1, round(size / 16 / (grid * 512))) * grid * 512
        timed = self.gpu.slope(
            lambda loads: self.run(grid, vectors, mode, loads), (1024, 3072), repeats=10
        )
        moved = grid * 512 * 16 / 1e6
        return {
            "working_set_mb": round(vectors * 16 / MB, 1),
            "mode": mode,
            "tb_per_s": round(moved / timed["us_per_step"], 3),
            "repeat_tb_per_s": round(moved / timed["repeat_us_per_step"], 3),
        }

    def few_blocks(self, blocks: int) -> Json:
        """GB/s of each of a few blocks of 512 threads over 20 MB that L2 holds."""
        vectors = round(20 * MB / 16 / (blocks * 512)) * blocks * 512
        everything = self.run(2 * self.gpu.sms, vectors, "own", 16)
        self.gpu.time_each(everything, 2)  # brings the data into L2
        timed = self.gpu.slope(
            lambda loads: self.run(blocks, vectors, "own", loads), (1024, 3072), repeats=10
        )
        rate = 512 * 16 / timed["us_per_step"] / 1e3
        return {"blocks": blocks, "threads": 512, "gb_per_s_per_block": round(rate, 1)}

    def dram(self, grid: int) -> Json:
        """TB/s of one pass over the whole buffer."""
        loads = self.data.numel() // 4 // (grid * 512) // 8 * 8
        size = grid * 512 * loads * 16
        timed = summary(self.gpu.time_each(self.run(grid, size // 16, "own", loads), 10))
        return {
            "grid": grid,
            "bytes": size,
            "tb_per_s": round(size / timed["us"] / 1e6, 3),
            **timed,
        }

    def copy(self, grid: int) -> Json:
        """TB/s read plus written; grid 0 means torch's copy."""
        half = self.data.numel() // 2
        source, target = self.data[:half], self.data[half:]

        def kernel() -> None:
            self.gpu.launch("copy_vectors", grid, 512, source, target, u64(half // 4))

        run: Run = kernel if grid else lambda: target.copy_(source)
        timed = summary(self.gpu.time_each(run, 10))
        rate = 8 * half / timed["us"] / 1e6
        return {"grid": grid, "tb_per_s_read_plus_write": round(rate, 3), **timed}


def load_latency(gpu: Gpu, level: str, size: int) -> Json:
    """Dependent loads of one thread over a random cycle of 128-byte lines."""
    torch, lines = gpu.torch, size // 128
    order = torch.randperm(lines, device="cuda")
    chain = torch.zeros(lines, 32, dtype=torch.int32, device="cuda")
    chain[order, 0] = (order.roll(-1) * 32).to(torch.int32)
    hops = 20_000 if level == "dram" else max(20_000, 2 * lines)

    def run(out: Any) -> None:
        gpu.launch("global_chase", 1, 1, chain, i32(hops), i32(int(level == "l1")), out)

    # the first pass brings a cached working set in; a second DRAM chase would find the first one's
    timed = gpu.stopwatch(run, hops, times=4, first=level == "dram")
    return {"level": level, "working_set_mb": size / MB, **timed}


def memory(gpu: Gpu, report: Report) -> None:
    """Read bandwidth of L2 by working set (TB/s; each SM re-reads its own slice, a slice that
    moves, or everything) and by number of SMs; read and copy bandwidth of DRAM; latency of
    dependent loads in cycles and ns."""
    reader = Reader(gpu, 8_000_000_000)
    modes = ("own", "moving", "everything")
    for size, mode in itertools.product((5, 10, 20, 30, 40, 50, 60, 80, 120), modes):
        with report.part(f"l2 {size} {mode}"):
            report.row("l2_read", **reader.cached(size * MB, mode))
    for blocks in (1, 2, 4, 8, 16, 32, 66, gpu.sms):
        with report.part(f"l2 {blocks} blocks"):
            report.row("l2_read_few_blocks", **reader.few_blocks(blocks))
    for grid in (gpu.sms, 2 * gpu.sms, 4 * gpu.sms):
        with report.part(f"dram {grid}"):
            report.row("dram_read", **reader.dram(grid))
    for grid in (0, 2 * gpu.sms, 4 * gpu.sms):
        with report.part(f"copy {grid}"):
            report.row("dram_copy", **reader.copy(grid))
    del reader
    gpu.torch.cuda.empty_cache()
    gpu.warm()
    levels = [("l1", 64_000), *(("l2", n * MB) for n in (2, 8, 16, 24, 40))]
    for level, size in (*levels, ("dram", 500 * MB), ("dram", 2000 * MB)):
        with report.part(f"latency {level} {size}"):
            report.row("latency", **load_latency(gpu, level, size))


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


def facts(gpu: Gpu, report: Report) -> None:
    """Sizes, limits and clocks that the device reports, and the clock that an SM really ran at."""
    attribute = gpu.driver.CUdevice_attribute
    names = {
        "l2_bytes": "L2_CACHE_SIZE",
        "l2_persisting_bytes": "MAX_PERSISTING_L2_CACHE_SIZE",
        "shared_bytes_per_sm": "MAX_SHARED_MEMORY_PER_MULTIPROCESSOR",
        "shared_bytes_per_block": "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN",
        "registers_per_sm": "MAX_REGISTERS_PER_MULTIPROCESSOR",
        "threads_per_sm": "MAX_THREADS_PER_MULTIPROCESSOR",
        "copy_engines": "ASYNC_ENGINE_COUNT",
        "sm_clock_khz": "CLOCK_RATE",
        "memory_clock_khz": "MEMORY_CLOCK_RATE",
        "memory_bus_bits": "GLOBAL_MEMORY_BUS_WIDTH",
    }
    for key, name in names.items():
        with report.part(key):
            member = getattr(attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
            report.put(key, check(gpu.driver.cuDeviceGetAttribute(member, 0)))
    report.put("sms", gpu.sms)
    report.put("memory_bytes", gpu.torch.cuda.get_device_properties(0).total_memory)
    report.put("sm_clock_mhz_light_work", [gpu.clock_mhz() for _ in range(3)])
    gpu.heat(1.0)
    report.put("sm_clock_mhz_after_1_s_of_products", gpu.clock_mhz())
    time.sleep(0.2)
    gpu.warm(0.1)
    report.put("sm_clock_mhz_0.3_s_later", gpu.clock_mhz())
    report.put("driver_api", check(gpu.driver.cuDriverGetVersion()))


# ------------------------------------------------------------------------------------ running them
Section = Callable[[Gpu, Report], None]
SECTIONS: dict[str, tuple[Section, int]] = {
    "facts": (facts, 60),
    "nodes": (nodes, 60),
    "host": (host, 90),
    "pdl": (pdl, 60),
    "barriers": (barriers, 90),
    "handover": (handover, 45),
    "clusters": (clusters, 60),
    "stages": (stages, 60),
    "triton": (triton_section, 120),
    "memory": (memory, 90),
    "skinny": (skinny, 90),
    "gemm": (gemm, 240),
    "attention": (attention, 120),
    "elementwise": (elementwise, 60),
    "pcie": (pcie, 60),
    "sparse": (sparse, 180),
}


def write(path: Path, result: Json) -> None:
    """JSON with one row of a table per line."""

    def text(value: object, depth: int) -> str:
        tables = isinstance(value, dict) and any(isinstance(v, dict | list) for v in value.values())
        if isinstance(value, dict) and (depth == 0 or (tables and depth < 3)):
            inner = (f"{json.dumps(k)}: {text(v, depth + 1)}" for k, v in value.items())
            return "{\n" + ",\n".join(inner) + "\n}"
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n" + ",\n".join(json.dumps(v) for v in value) + "\n]"
        return json.dumps(value)

    path.write_text(text(result, 0) + "\n")


def build_kernels(folder: Path) -> None:
    """Compile the CUDA kernels and the C++ timers (no GPU needed)."""
    target = "-gencode=arch=compute_90a,code=sm_90a"
    source, timers = KERNELS / "kernels.cu", KERNELS / "host_timers.cpp"
    for command in (
        [
            "nvcc",
            "-cubin",
            "-O3",
            "-std=c++17",
            target,
            str(source),
            "-o",
            str(folder / "kernels.cubin"),
        ],
        [
            "c++",
            "-O2",
            "-std=c++17",
            "-shared",
            "-fPIC",
            str(timers),
            "-o",
            str(folder / "host_timers.so"),
            "-ldl",
        ],
    ):
        subprocess.run(command, check=True)


def smi() -> Json:
    """State of the GPU as nvidia-smi reports it (read only)."""
    fields = "name,driver_version,pstate,clocks.sm,clocks.mem,clocks.max.sm"
    fields += ",temperature.gpu,power.draw,power.limit"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        text = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=20
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return {"error": str(error)[:200]}
    return dict(
        zip(fields.split(","), (v.strip() for v in text.splitlines()[0].split(",")), strict=False)
    )


def header() -> Json:
    """Where and how: written into every result file."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    cpu = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")), ""
        )
    state = smi()
    return {
        "date_utc": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"),
        "gpu": state.get("name"),
        "driver": state.get("driver_version"),
        "cpu": f"{cpu}, {os.cpu_count()} cores",
        "python": sys.version.split()[0],
        "versions": versions,
        "method": "device times from events behind a spin kernel, medians; costs per step are "
        "slopes, measured twice; host times from a steady clock; random data; results of "
        "synchronising kernels checked",
        "state_before": state,
    }


def child(name: str, path: Path, build: Path) -> None:
    """Run one section in this process."""
    report = Report(path)
    gpu = Gpu(build)
    gpu.warm()
    start = time.monotonic()
    try:
        SECTIONS[name][0](gpu, report)
    finally:
        report.put("measured_s", round(time.monotonic() - start, 1))
        report.flush()


def parent(names: Iterable[str], path: Path, limit: float) -> int:
    """Run the sections one after the other in processes of their own; write the file after each."""
    started = time.monotonic()
    result: Json = {**header(), "sections": {}}
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        build_kernels(folder)
        for name in names:
            part = folder / f"{name}.json"
            left = limit - (time.monotonic() - started)
            status = "ok"
            begun = time.monotonic()
            if left < 10:
                status = "skipped: no time left"
            else:
                command = [
                    sys.executable,
                    str(Path(__file__).resolve()),
                    "--child",
                    name,
                    "--json",
                    str(part),
                ]
                try:
                    done = subprocess.run(
                        [*command, "--build", scratch],
                        timeout=min(left, SECTIONS[name][1]),
                        stderr=subprocess.PIPE,
                    )
                    if done.returncode:
                        text = done.stderr.decode(errors="replace").strip().splitlines() or [""]
                        status = f"failed ({done.returncode}): {text[-1][:300]}"
                except subprocess.TimeoutExpired:
                    status = "time limit"
            found: Json = json.loads(part.read_text()) if part.exists() else {}
            result["sections"][name] = {
                "status": status,
                "wall_s": round(time.monotonic() - begun, 1),
                **found,
            }
            write(path, result)
            errors = found.get("errors", [])
            failed += status != "ok"
            print(
                f"{name}: {status}, {time.monotonic() - begun:.0f} s, {len(errors)} errors",
                flush=True,
            )
            for error in errors[:4]:
                print("   ", json.dumps(error), flush=True)
    result["state_after"] = smi()
    result["wall_s"] = round(time.monotonic() - started, 1)
    write(path, result)
    return min(failed, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--sections", default=",".join(SECTIONS), help="comma-separated, of: %(default)s"
    )
    parser.add_argument(
        "--limit", type=float, default=3600.0, help="seconds for everything (default %(default)s)"
    )
    parser.add_argument("--child", choices=sorted(SECTIONS), help=argparse.SUPPRESS)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.json, arguments.build)
        return 0
    names = arguments.sections.split(",")
    unknown = sorted(set(names) - set(SECTIONS))
    if unknown:
        parser.error(f"unknown sections: {', '.join(unknown)}")
    return parent(names, arguments.json, arguments.limit)


if __name__ == "__main__":
    sys.exit(main())
