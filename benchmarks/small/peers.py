# mypy: ignore-errors
"""Other ways to run a model on the same GPU: torch eager, torch.compile, ONNX Runtime CUDA."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx

from benchmarks.small.exclusive import exclusive
from benchmarks.small.timing import Timer, call_us
from planner.runtime.fused.driver import Driver

Array = np.ndarray[Any, Any]


def torch_peers(
    model: onnx.ModelProto, feeds: Mapping[str, Array], wanted: list[str], driver: Driver
) -> Iterator[dict[str, Any]]:
    """One record a peer: gpu_us (hot), gpu_cold_us, call_us, max_error is left to the caller."""
    import torch

    from benchmarks.small.torch_twin import Twin

    torch._dynamo.reset()
    _tune_alone()
    twin = Twin(model).cuda().eval()
    inputs = tuple(torch.from_numpy(value).cuda() for value in feeds.values())
    stream = torch.cuda.Stream()
    timer = Timer(driver, driver.api.CUstream(stream.cuda_stream))
    for peer in wanted:
        try:
            with torch.no_grad(), torch.cuda.stream(stream):
                run = _warm(peer, twin, inputs)
                with exclusive():
                    record = _measured(peer, run, inputs, timer)
            yield {**record, "weights_bytes": _weights_bytes(twin)}
        except Exception as error:  # noqa: BLE001 - a peer that fails must not lose the others
            yield {"peer": peer, "error": f"{type(error).__name__}: {str(error)[:300]}"}


def torch_compiled(
    model: onnx.ModelProto, feeds: Mapping[str, Array], wanted: list[str]
) -> Iterator[dict[str, Any]]:
    """Compiles only: what a later process finds in Inductor's cache."""
    import torch

    from benchmarks.small.torch_twin import Twin

    _tune_alone()
    twin = Twin(model).cuda().eval()
    inputs = tuple(torch.from_numpy(value).cuda() for value in feeds.values())
    for peer in wanted:
        begin = time.perf_counter()
        try:
            with torch.no_grad():
                _warm(peer, twin, inputs)
            yield {"peer": peer, "compiled_s": round(time.perf_counter() - begin, 1)}
        except Exception as error:  # noqa: BLE001 - the others are still wanted
            yield {"peer": peer, "error": f"{type(error).__name__}: {str(error)[:300]}"}


def _tune_alone() -> None:
    """Inductor's autotuning measures too: holding the GPU, or it chooses by its neighbours."""
    from torch._inductor.runtime import benchmarking

    for kind in vars(benchmarking).values():
        own = vars(kind).get("benchmark_gpu") if isinstance(kind, type) else None
        if own is not None and not hasattr(own, "is_alone"):
            kind.benchmark_gpu = _alone(own)


def _alone(measure: Any) -> Any:
    @functools.wraps(measure)
    def held(*arguments: Any, **named: Any) -> Any:
        with exclusive():
            return measure(*arguments, **named)

    held.is_alone = True
    return held


def _warm(peer: str, twin: Any, inputs: tuple[Any, ...]) -> Any:
    """The callable of a peer, compiled and run three times."""
    import torch

    run = twin
    if peer.startswith("torch-compile"):
        mode = "max-autotune-no-cudagraphs" if peer.endswith("replay") else "max-autotune"
        run = torch.compile(twin, mode=mode, fullgraph=not twin.is_recurrent)
    for _ in range(3):
        run(*inputs)
    torch.cuda.synchronize()
    return lambda: run(*inputs)


def _measured(peer: str, run: Any, inputs: tuple[Any, ...], timer: Timer) -> dict[str, Any]:
    """Times, outputs and, of a replay, the memory of its graph."""
    import torch

    if not peer.endswith("replay"):
        outputs = [value.float().cpu().numpy() for value in run()]
        return {"peer": peer, "outputs": outputs, **_times(run, inputs, timer)}
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        held = run()
    segments = [
        one for one in torch.cuda.memory_snapshot() if one["segment_pool_id"] == graph.pool()
    ]
    memory = {
        "pool_bytes": sum(one["total_size"] for one in segments),
        "pool_in_use_bytes": sum(one["allocated_size"] for one in segments),
    }

    def replay() -> Any:
        graph.replay()
        return held

    outputs = [value.float().cpu().numpy() for value in replay()]
    return {"peer": peer, "outputs": outputs, **_times(replay, inputs, timer), **memory}


def _weights_bytes(twin: Any) -> int:
    """Of parameters and buffers, as they lie on the device."""
    held = [*twin.buffers(), *twin.parameters()]
    return sum(value.numel() * value.element_size() for value in held)


def _times(run: Any, inputs: tuple[Any, ...], timer: Timer) -> dict[str, Any]:
    import torch

    for _ in range(5):
        run()
    torch.cuda.synchronize()
    hosts = [value.cpu() for value in inputs]

    def call() -> None:
        for value, host in zip(inputs, hosts, strict=True):
            value.copy_(host)
        made = run()
        for value in made:
            value.cpu()

    return {
        "gpu_us": timer.device_us(run, cold=False),
        "gpu_cold_us": timer.device_us(run, cold=True, repeats=50),
        "call_us": call_us(call, 100),
    }


def ort_cuda(
    model: onnx.ModelProto, feeds: Mapping[str, Array], peer: str, driver: Driver
) -> dict[str, Any]:
    """ONNX Runtime's CUDA provider with bound inputs and outputs; `ort-cuda-graph`: as a graph.

    `gpu_us` is the time between two events on its stream around a call whose tensors are bound.
    """
    import onnxruntime as ort
    import torch

    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return {"peer": peer, "error": "this build of ONNX Runtime has no CUDA provider"}
    stream = torch.cuda.Stream()
    given = {
        "enable_cuda_graph": "1" if peer.endswith("graph") else "0",
        "user_compute_stream": str(stream.cuda_stream),
    }
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), providers=[("CUDAExecutionProvider", given)]
        )
        return {"peer": peer, **_ort_times(ort, session, feeds, stream, driver)}
    except Exception as error:  # noqa: BLE001 - graphs are refused where a node runs on the CPU
        return {"peer": peer, "error": f"{type(error).__name__}: {str(error)[:300]}"}


def _ort_times(
    ort: Any, session: Any, feeds: Mapping[str, Array], stream: Any, driver: Driver
) -> dict[str, Any]:
    binding = session.io_binding()
    values = {n: ort.OrtValue.ortvalue_from_numpy(v, "cuda", 0) for n, v in feeds.items()}
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    for output in session.get_outputs():
        binding.bind_output(output.name, "cuda", 0)
    for _ in range(5):
        session.run_with_iobinding(binding)
    outputs = [value.astype(np.float32) for value in binding.copy_outputs_to_cpu()]

    def call() -> None:
        for name, value in values.items():
            value.update_inplace(feeds[name])
        session.run_with_iobinding(binding)
        binding.copy_outputs_to_cpu()

    timer = Timer(driver, driver.api.CUstream(stream.cuda_stream))
    with exclusive():
        return {
            "outputs": outputs,
            "gpu_us": timer.device_us(lambda: session.run_with_iobinding(binding), cold=False),
            "bound_call_us": call_us(lambda: session.run_with_iobinding(binding)),
            "call_us": call_us(call, 100),
        }
