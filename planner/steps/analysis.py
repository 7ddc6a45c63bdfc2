"""A model file, and what ONNX Runtime makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.profiling.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a model executes, as the store keeps it."""

    kernels: tuple[Kernel, ...]
    constants: frozenset[str]
    tensors: dict[str, tuple[str, tuple[int, ...]]]

    @property
    def constant_size_bytes(self) -> int:
        """Bytes of all constants."""
        return sum(kernel.constant_size_bytes for kernel in self.kernels)

    @property
    def read_size_bytes(self) -> int:
        """Bytes of constants that a run reads: they decide from which cache weights come."""
        return sum(kernel.read_size_bytes for kernel in self.kernels)


@dataclass(frozen=True, slots=True)
class Executable:
    """A model file that ONNX Runtime optimises and runs at one graph level."""

    key: str
    """Digest of the file and of all that its optimisation depends on."""
    level: str
    feeds_path: Path
    feeds_digest: str
    """Of the inputs it is run on: they steer control flow and data-dependent shapes."""
    build: Callable[[], Path]
    """Makes the file, or returns it where it exists: only called when something must be run."""
    interface: str = ""
    """Digest of what decides inputs and outputs: the same for all variants of one model."""

    @property
    def name(self) -> str:
        """What it is and what it is run on."""
        return f"{self.key}|{self.level}|{self.feeds_digest}"


def analysis_of(payload: dict[str, Any]) -> Analysis:
    """From what the store keeps."""
    return Analysis(
        tuple(_kernel(entry) for entry in payload["kernels"]),
        frozenset(payload["constants"]),
        {name: (dtype, tuple(shape)) for name, (dtype, shape) in payload["tensors"].items()},
    )


def _kernel(entry: dict[str, Any]) -> Kernel:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return Kernel(**fields)
