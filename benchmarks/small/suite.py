"""The models of the suite, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from benchmarks.small.speech import conformer_chunk

SUITE: Mapping[str, Callable[[str], onnx.ModelProto]] = {
    "conformer-chunk": conformer_chunk,
    "conformer-chunk-16": lambda dtype: conformer_chunk(dtype, frames=16),
    "conformer-chunk-64": lambda dtype: conformer_chunk(dtype, frames=64),
}
"""Name -> model in a dtype (`float32`, `float16`); the flagship first."""
