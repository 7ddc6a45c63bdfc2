"""Runs a program's generated kernels in Triton's interpreter, for tests."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from planner.fuse.build import Draft
from planner.kernels.interpret import interpret
from planner.kernels.pack import storage_dtype

Array = np.ndarray[Any, Any]

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason='Triton is not installed: pip install "infopt[fused]"',
)
_POISON = 77
"""What memory holds that nobody has written: stands out, and fits every type."""


def run_interpreted(plan: Draft, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The program's outputs from its kernels; unwritten memory is poisoned."""
    program = plan.program
    arrays: dict[str, Array] = {}
    for item in plan.kernels:
        for parameter, kind in zip(item.parameters, item.types, strict=True):
            name, dtype = parameter.tensor, storage_dtype(kind)
            if name in program.constants:
                arrays[name] = program.constants[name].astype(dtype)
            elif name in program.inputs:
                arrays[name] = feeds[name].astype(dtype)
            else:
                arrays.setdefault(name, np.full(program.types[name].shape, _POISON, dtype))
    return interpret(plan.kernels, arrays, program.outputs)


def nmse(found: Array, wanted: Array) -> float:
    """Normalised mean square error."""
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    return float(((found - wanted) ** 2).sum() / max((wanted**2).sum(), 1e-30))
