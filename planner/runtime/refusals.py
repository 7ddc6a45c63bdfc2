"""What ONNX Runtime raises, in words a user can act on."""

from __future__ import annotations

import re

from onnxruntime.capi import onnxruntime_pybind11_state as _state

from planner.errors import DataError, EnvironmentMismatchError, InfoptError, ModelError

_OLDEST_OPSET = 7
"""Operators as older opsets define them have no kernels (most of them)."""
_NO_KERNEL = re.compile(r"Could not find an implementation for [\w.:]+\((\d+)\)")
_UNKNOWN = "is not a registered function/op"
ORT_ERRORS: tuple[type[Exception], ...] = (
    *(
        kind
        for kind in vars(_state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
    RuntimeError,
    ValueError,
    TypeError,
    MemoryError,
)
_CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : (?:Load model from .*? failed:)?")
_SOURCE = re.compile(r"/\S*onnxruntime\S*\.(?:cc|h|cpp):\d+ (?:.*?\) )?")
_MEMORY = re.compile(r"bad.?alloc|failed to allocate|out of memory", re.IGNORECASE)


def reason_of(error: BaseException) -> str:
    """ONNX Runtime's message as one line, without its status codes and C++ locations."""
    text = _SOURCE.sub("", _CODE.sub("", str(error)))
    line = " ".join(text.split()) or type(error).__name__
    return line if len(line) <= 400 else line[:397] + "..."


def is_memory_fault(error: BaseException) -> bool:
    """Whether memory ran out, as far as ONNX Runtime's words tell."""
    return isinstance(error, MemoryError) or _MEMORY.search(str(error)) is not None


def _hint(reason: str) -> str | None:
    """The nearest fix, where the words are known."""
    if _UNKNOWN in reason:
        return "give the model a local function of that name, or export without the operator"
    found = _NO_KERNEL.search(reason)
    if found is None:
        return None
    if int(found[1]) < _OLDEST_OPSET:  # defined then; still valid, or replaced since
        return f"export for opset {_OLDEST_OPSET} or newer; if it is, in float32"
    return "it has no kernel of these element types on this device: export in float32"


def load_error(error: Exception, where: str) -> InfoptError:
    """What a session that could not be made becomes: memory is the machine's fault, the rest the
    model's."""
    if is_memory_fault(error):
        return EnvironmentMismatchError(
            f"not enough memory to load the model: {reason_of(error)}", where=where
        )
    if isinstance(error, _state.InvalidProtobuf):
        return ModelError("not an ONNX model (the protobuf does not parse)", where=where)
    reason = reason_of(error)
    return ModelError(f"ONNX Runtime cannot load it: {reason}", where=where, fix=_hint(reason))


def run_error(error: Exception, where: str) -> InfoptError:
    """What a failed run becomes: memory is the machine's fault, the rest lies in the inputs.

    Why the inputs: whatever the model itself cannot do has failed at load or on the golden inputs.
    """
    if is_memory_fault(error):
        return EnvironmentMismatchError(
            f"not enough memory for these inputs: {reason_of(error)}", where=where
        )
    return DataError(f"the model refuses these inputs: {reason_of(error)}", where=where)
