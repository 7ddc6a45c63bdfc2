# mypy: ignore-errors
"""Other ways to run a model on the same GPU: torch eager, torch.compile, ONNX Runtime CUDA."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx

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
    twin = Twin(model).cuda().eval()
    inputs = tuple(torch.from_numpy(value).cuda() for value in feeds.values())
    stream = torch.cuda.Stream()
    timer = Timer(driver, driver.api.CUstream(stream.cuda_stream))
    for peer in wanted:
        try:
            with torch.no_grad(), torch.cuda.stream(stream):
                run = _prepared(peer, twin, inputs)
                outputs = [value.float().cpu().numpy() for value in run()]
                yield {"peer": peer, "outputs": outputs, **_times(peer, run, inputs, timer)}
        except Exception as error:  # noqa: BLE001 - a peer that fails must not lose the others
            yield {"peer": peer, "error": f"{type(error).__name__}: {str(error)[:300]}"}


def _prepared(peer: str, twin: Any, inputs: tuple[Any, ...]) -> Any:
    import torch

    if peer == "torch-eager":
        return lambda: twin(*inputs)
    if peer == "torch-eager-replay":
        return _captured(lambda: twin(*inputs))
    if peer == "torch-compile":
        compiled = torch.compile(twin, mode="max-autotune", fullgraph=not twin.is_recurrent)
        return lambda: compiled(*inputs)
    if peer == "torch-compile-replay":
        compiled = torch.compile(
            twin, mode="max-autotune-no-cudagraphs", fullgraph=not twin.is_recurrent
        )
        return _captured(lambda: compiled(*inputs))
    raise ValueError(peer)


def _captured(run: Any) -> Any:
    import torch

    for _ in range(3):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        held = run()

    def replay() -> Any:
        graph.replay()
        return held

    replay()
    return replay


def _times(peer: str, run: Any, inputs: tuple[Any, ...], timer: Timer) -> dict[str, Any]:
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


def ort_cuda(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Any] | None:
    """ONNX Runtime with the CUDA provider, I/O binding and CUDA graph, where it is installed."""
    import onnxruntime as ort

    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return None
    options = {"enable_cuda_graph": "1"}
    session = ort.InferenceSession(
        model.SerializeToString(), providers=[("CUDAExecutionProvider", options)]
    )
    binding = session.io_binding()
    for name, value in feeds.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value, "cuda", 0))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cuda", 0)
    for _ in range(5):
        session.run_with_iobinding(binding)
    outputs = [value.astype(np.float32) for value in binding.copy_outputs_to_cpu()]
    taken = call_us(lambda: session.run_with_iobinding(binding))
    return {"peer": "ort-cuda-graph", "outputs": outputs, "call_us": taken}
