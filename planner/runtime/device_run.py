"""Runs on a GPU at fixed addresses: inputs are copied in, outputs out, nothing else moves.

ONNX Runtime's plain `run` allocates and copies anew for each call, and a CUDA graph needs addresses
that never change.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from planner.runtime import dtypes
from planner.spec.manifest import TensorSpec


class DeviceRun:
    """A callable `feeds -> values`; one call at a time, as there is one set of buffers."""

    def __init__(
        self,
        session: Any,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        device: str = "cuda",
        ordinal: int = 0,
    ) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._is_host = device == "cpu"
        """What `numpy` returns is then the buffer itself, which the next call overwrites."""
        self._binding: Any = session.io_binding()
        self._inputs = {spec.name: _buffer(spec, device, ordinal) for spec in inputs}
        self._outputs = [_buffer(spec, device, ordinal) for spec in outputs]
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for spec, value in zip(outputs, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(spec.name, value)

    def __call__(self, feeds: Mapping[str, Any]) -> list[Any]:
        """Values in the order of the outputs."""
        with self._lock:
            for name, value in self._inputs.items():
                value.update_inplace(np.ascontiguousarray(feeds[name]))
            self._session.run_with_iobinding(self._binding)
            values = [value.numpy() for value in self._outputs]
            return [value.copy() for value in values] if self._is_host else values


def can_bind(specs: Sequence[TensorSpec]) -> bool:
    """Whether tensors have fixed shapes and types that NumPy knows."""
    return all(
        None not in spec.shape
        and dtypes.is_tensor(spec.dtype)
        and spec.dtype != dtypes.STRING
        and not dtypes.is_extended(spec.dtype)
        for spec in specs
    )


def wants_host(session: Any, *, outputs: bool = False) -> bool:
    """Whether kernels of a session on a GPU take an input from host memory.

    Such an input cannot be bound to device memory: ONNX Runtime would copy it once, while binding,
    and read that copy in every run.

    Args:
        outputs: whether results that are left in host memory count, too.
    """
    infos = list(session.get_input_memory_infos())
    if outputs:
        infos += session.get_output_memory_infos()
    names = [info.name.lower() for info in infos]
    return any(name.startswith(_HOST) or name.endswith(_PINNED) for name in names)


_HOST, _PINNED = "cpu", "pinned"
"""Names of memory as ONNX Runtime gives them: `Cpu`, `CudaPinned`; the device's is `Cuda`."""


def _buffer(spec: TensorSpec, device: str, ordinal: int) -> Any:
    shape = [size for size in spec.shape if size is not None]
    kind = dtypes.numpy_dtype(spec.dtype)
    return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, kind, device, ordinal)
