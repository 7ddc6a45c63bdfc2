"""What the host spends on a call."""

from __future__ import annotations

import ctypes
import importlib.metadata
import math
import time
from collections.abc import Callable
from typing import Any

from constants.device import Gpu, Graph, as_parameters, u32
from constants.report import Json, Report, Run, check, summary


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
