"""ONNX Runtime's CUDA provider: what the library path of an engine will cost.

Chains of equal operators run on tensors that stay on the device, queued on the driver's own stream,
so that events see device time and calls cost little beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from planner.errors import EnvironmentMismatchError
from planner.profiling.cuda.sampling import Found, Sampler
from planner.runtime.fused.lab import Lab
from planner.runtime.refusals import ORT_ERRORS, reason_of

_ONNX = {
    "fp32": TensorProto.FLOAT,
    "tf32": TensorProto.FLOAT,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
}
_NUMPY: Mapping[str, Any] = {
    "fp32": np.float32,
    "tf32": np.float32,
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
}
_BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2}
GEMM_FORMATS = ("fp32", "tf32", "fp16", "bf16")
GEMM_ROWS = (1, 16, 128, 1024, 4096)
GEMM_WIDTHS = (1024, 4096, 8192)
_CHAIN_BYTES = 2**29
"""Weights of a chain: beyond L2, so that they come from memory, as in a model."""
_LONGEST_CHAIN = 32
_RUNS = 3


@dataclass
class Chain:
    """A model whose operators follow each other, with device inputs that are made from noise."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: dict[str, tuple[str, tuple[int, ...], float]] = field(default_factory=dict)
    """Name -> format, shape, standard deviation."""
    output: str = "x"
    links: int = 0

    def bound(self, lab: Lab, tf32: bool, before: Callable[[], None]) -> _Bound:
        """Loaded on the device.

        Raises:
            EnvironmentMismatchError: this ONNX Runtime has no such kernel, or no CUDA provider.
        """
        first = next(iter(self.inputs.values()))
        graph = helper.make_graph(
            self.nodes, "probe",
            [helper.make_tensor_value_info(n, _ONNX[f], s) for n, (f, s, _) in self.inputs.items()],
            [helper.make_tensor_value_info(self.output, _ONNX[first[0]], None)],
        )  # fmt: skip
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return _Bound(lab, model.SerializeToString(), self.inputs, self.output, tf32, before)


class _Bound:
    """A session whose inputs and outputs lie on the device."""

    def __init__(
        self,
        lab: Lab,
        model: bytes,
        inputs: Mapping[str, tuple[str, tuple[int, ...], float]],
        output: str,
        tf32: bool,
        before: Callable[[], None],
    ) -> None:
        self._lab = lab
        self._before = before
        options = {
            "device_id": lab.ordinal,
            "user_compute_stream": str(int(lab.stream)),
            "use_tf32": "1" if tf32 else "0",
        }
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise EnvironmentMismatchError("this build of ONNX Runtime has no CUDA provider")
        settings: Any = onnxruntime.SessionOptions()
        settings.log_severity_level = 4
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                model, settings, providers=[("CUDAExecutionProvider", options)]
            )
            self._binding: Any = self._session.io_binding()
            self._values = {name: _noise(lab, *given) for name, given in inputs.items()}
            for name, value in self._values.items():
                self._binding.bind_ortvalue_input(name, value)
            self._binding.bind_output(output, "cuda", lab.ordinal)
            self._options: Any = onnxruntime.RunOptions()
            self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
            self.run()
            lab.synchronize()
        except ORT_ERRORS as error:
            raise EnvironmentMismatchError(reason_of(error)) from None

    def run(self) -> None:
        """Queues one run."""
        self._session.run_with_iobinding(self._binding, self._options)

    def once_us(self) -> float:
        """Device time of one run."""

        def body() -> None:
            for _ in range(_RUNS):
                self.run()

        return self._lab.elapsed_us(body, self._before) / _RUNS


def _noise(lab: Lab, form: str, shape: tuple[int, ...], scale: float) -> Any:
    """Random values on the device; never zeros, which some devices multiply faster."""
    size = math.prod(shape)
    block = np.random.default_rng(size % 1000).standard_normal(min(size, 2**20)).astype(np.float32)
    values = np.resize(block * np.float32(scale), shape).astype(_NUMPY[form])
    if form == "bf16":
        bits = values.view(np.uint16)
        host = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, TensorProto.BFLOAT16)
        there = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            list(shape), TensorProto.BFLOAT16, "cuda", lab.ordinal
        )
        lab.upload(there.data_ptr(), host.data_ptr(), values.nbytes)
        lab.synchronize()
        return there
    return onnxruntime.OrtValue.ortvalue_from_numpy(values, "cuda", lab.ordinal)


def products(lab: Lab, sampler: Sampler, rows: Sequence[int] = GEMM_ROWS) -> Iterator[Found]:
    """Square weights by rows and format: `gemm fp16 16x4096x4096` (rows x depth x width)."""
    for form in GEMM_FORMATS:
        for width in GEMM_WIDTHS:
            for count in rows:
                name = f"gemm {form} {count}x{width}x{width}"
                yield from _timed(
                    lab,
                    sampler,
                    name,
                    _products(form, count, width),
                    2.0 * count * width * width,
                    "flop/s",
                    form != "fp32",
                )


def _products(form: str, rows: int, width: int) -> Chain:
    weight_bytes = width * width * _BYTES[form]
    links = max(min(_CHAIN_BYTES // weight_bytes, _LONGEST_CHAIN), 2)
    if rows >= 1024:
        links = min(links, 4)
    chain = Chain(links=links, output=f"t{links}")
    chain.inputs["t0"] = (form, (rows, width), 1.0)
    for link in range(links):
        chain.inputs[f"w{link}"] = (form, (width, width), 1 / math.sqrt(width))
        chain.nodes.append(helper.make_node("MatMul", [f"t{link}", f"w{link}"], [f"t{link + 1}"]))
    return chain


def _timed(
    lab: Lab, sampler: Sampler, name: str, chain: Chain, work: float, unit: str, tf32: bool = True
) -> Iterator[Found]:
    """Work of one link over its time."""
    bound: list[_Bound] = []

    def once() -> float:
        if not bound:
            bound.append(chain.bound(lab, tf32, sampler.keep_busy))
        return bound[0].once_us() / chain.links

    yield from sampler.rate(name, work, unit, once)


ATTENTION = (
    (1, 512, 512),
    (8, 512, 512),
    (1, 2048, 2048),
    (1, 8192, 8192),
    (1, 1, 2048),
    (32, 1, 2048),
)
"""(batch, queries, keys)."""
_HEADS, _HEAD_DIM = 32, 128


def attention(lab: Lab, sampler: Sampler) -> Iterator[Found]:
    """Fused attention in fp16, 32 heads of 128."""
    for batch, queries, keys in ATTENTION:
        chain = Chain(links=1, output="y")
        width = _HEADS * _HEAD_DIM
        chain.inputs["q"] = ("fp16", (batch, queries, width), 1.0)
        chain.inputs["k"] = ("fp16", (batch, keys, width), 1.0)
        chain.inputs["v"] = ("fp16", (batch, keys, width), 1.0)
        chain.nodes.append(
            helper.make_node(
                "MultiHeadAttention", ["q", "k", "v"], ["y"],
                domain="com.microsoft", num_heads=_HEADS,
            )
        )  # fmt: skip
        name = f"attention fp16 {batch}x{_HEADS}x{queries}x{keys}x{_HEAD_DIM}"
        work = 4.0 * batch * _HEADS * queries * keys * _HEAD_DIM
        yield from _timed(lab, sampler, name, chain, work, "flop/s")


_STREAMED = {
    "add": "Add",
    "gelu": "Gelu",
    "softmax": "Softmax",
    "layer norm": "LayerNormalization",
    "sum": "ReduceSum",
}
_ROWS = (64, 4096, 65536)
_ROW_WIDTH = 2048


def traffic(lab: Lab, sampler: Sampler) -> Iterator[Found]:
    """Elementwise operators, normalisations and reductions in fp16: bytes read and written."""
    for label, kind in _STREAMED.items():
        for rows in _ROWS:
            chain, passes = _streamed(kind, rows)
            size = rows * _ROW_WIDTH * 2
            name = f"{label} fp16 {rows}x{_ROW_WIDTH}"
            yield from _timed(lab, sampler, name, chain, float(passes * size), "bytes/s")


def _streamed(kind: str, rows: int) -> tuple[Chain, int]:
    links = 1 if kind == "ReduceSum" else 8
    chain = Chain(links=links, output=f"t{links}")
    shape = (rows, _ROW_WIDTH)
    chain.inputs["t0"] = ("fp16", shape, 1.0)
    more: list[str] = []
    if kind == "Add":
        chain.inputs["other"], more = ("fp16", shape, 0.1), ["other"]
    elif kind == "LayerNormalization":
        chain.inputs["scale"], more = ("fp16", (_ROW_WIDTH,), 1.0), ["scale"]
    attributes: dict[str, Any] = {"keepdims": 1} if kind == "ReduceSum" else {}
    for link in range(links):
        made = helper.make_node(kind, [f"t{link}", *more], [f"t{link + 1}"], **attributes)
        chain.nodes.append(made)
    return chain, {"Add": 3, "ReduceSum": 1}.get(kind, 2)
