"""What to do about a model that ONNX Runtime does not load, told by the words it refuses with."""

from __future__ import annotations

import re

_OLDEST_OPSET = 7
"""Operators as older opsets define them have no kernels (most of them)."""
_NO_KERNEL = re.compile(r"Could not find an implementation for [\w.:]+\((\d+)\)")
_UNKNOWN = "is not a registered function/op"


def hint(reason: str) -> str | None:
    """The nearest fix, where the words are known."""
    if _UNKNOWN in reason:
        return "give the model a local function of that name, or export without the operator"
    found = _NO_KERNEL.search(reason)
    if found is None:
        return None
    if int(found[1]) < _OLDEST_OPSET:  # defined then; still valid, or replaced since
        return f"export for opset {_OLDEST_OPSET} or newer; if it is, in float32"
    return "it has no kernel of these element types on this device: export in float32"


__all__ = ["hint"]
