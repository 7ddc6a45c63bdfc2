"""Runs launches through Triton's interpreter: the process that `interpret.py` starts.

Imports nothing of infopt. Triton takes anything that looks like a tensor of torch, and asks little
of it: `HostTensor` is that little, around a NumPy array, so that torch is not needed.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, Self

import numpy as np

Array = np.ndarray[Any, Any]


class HostTensor:
    """A NumPy array as Triton's interpreter wants it."""

    def __init__(self, array: Array | None = None, offset: int = 0) -> None:
        self._array = None if array is None else array.reshape(-1)[offset:]

    @property
    def dtype(self) -> str:
        """Triton asks for the type's name."""
        assert self._array is not None
        return str(self._array.dtype.name)

    def data_ptr(self) -> int:
        """Address of the first element."""
        assert self._array is not None
        return int(self._array.ctypes.data)

    def untyped_storage(self) -> Self:
        """The memory behind it: itself."""
        return self

    def cpu(self) -> Self:
        """It is there already."""
        return self

    def copy_(self, other: HostTensor) -> None:
        """Copying back changes nothing: kernels wrote here."""

    def new_empty(self, size: int, device: str) -> HostTensor:
        """A tensor to be pointed at memory by `set_`."""
        return HostTensor()

    def set_(self, storage: HostTensor, *layout: object) -> None:
        """Points at the memory of another."""
        self._array = storage._array

    def storage_offset(self) -> int:
        """It starts where its memory starts."""
        return 0

    def size(self) -> tuple[int, ...]:
        """Its shape."""
        assert self._array is not None
        return tuple(self._array.shape)

    def stride(self) -> tuple[int, ...]:
        """Strides in bytes; nobody reads them."""
        assert self._array is not None
        return tuple(self._array.strides)


def main(folder: Path) -> None:
    """Runs every launch of `plan.json` on the arrays of `in.npz`; writes what is wanted."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    with np.load(folder / "in.npz") as stored:
        arrays = {name: np.ascontiguousarray(stored[name]) for name in stored.files}
    modules: dict[str, Any] = {}
    for launch in plan["launches"]:
        name = launch["kernel"]
        if name not in modules:
            modules[name] = _load(folder / f"{name}.py", name)
        arguments = [HostTensor(arrays[key], offset) for key, offset in launch["arguments"]]
        getattr(modules[name], name)[(launch["programs"],)](*arguments, False)
    wanted: dict[str, Any] = {key: arrays[key] for key in plan["wanted"]}
    np.savez(folder / "out.npz", **wanted)


def _load(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(Path(sys.argv[1]))
