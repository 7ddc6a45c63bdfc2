"""One GPU: memory, streams, graphs and the timing of kernels, by the driver's own interface."""

from __future__ import annotations

import ctypes
import importlib.metadata
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from constants.report import Json, Run, check, summary


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
