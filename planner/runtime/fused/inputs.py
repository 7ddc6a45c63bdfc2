"""What a caller passes in, as an engine reads it: dtype, shape and place are checked first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from planner.errors import DataError
from planner.runtime.fused.dlpack import Borrowed, Streams, is_device_tensor
from planner.runtime.fused.manifest import Slot

Array = np.ndarray[Any, Any]


def missing(slot: Slot) -> DataError:
    return DataError(
        "missing",
        where=f"input {slot.name!r}",
        fix=f"the engine takes {slot.dtype} {slot.shape}",
    )


def fitting(slot: Slot, feeds: Mapping[str, Array]) -> Array:
    """The input as the engine reads it.

    Raises:
        DataError: absent, or of another dtype or shape.
    """
    value = feeds.get(slot.name)
    if value is None:
        raise missing(slot)
    refuse_misfit(slot, value.dtype, value.shape)
    return np.ascontiguousarray(value)


def refuse_misfit(slot: Slot, dtype: Any, shape: tuple[int, ...], where: str = "") -> None:
    if dtype != np.dtype(slot.dtype) or shape != slot.shape:
        raise DataError(
            f"got {dtype} {shape}, expected {slot.dtype} {slot.shape}",
            where=where or f"input {slot.name!r}",
        )


def borrowed(slot: Slot, value: Any, streams: Streams) -> Borrowed | Array:
    if not is_device_tensor(value):
        return fitting(slot, {slot.name: np.asarray(value)})
    found = Borrowed(value, streams.wait_for(value), f"input {slot.name!r}")
    refuse_misfit(slot, found.dtype, found.shape)
    return found


def target(slot: Slot, value: Any, streams: Streams) -> Borrowed:
    """Where the caller wants an output.

    Raises:
        DataError: not on a device, or of another dtype or shape.
    """
    where = f"output {slot.name!r}"
    if not is_device_tensor(value):
        raise DataError(f"is no device tensor but a {type(value).__name__}", where=where)
    found = Borrowed(value, streams.wait_for(value), where)
    refuse_misfit(slot, found.dtype, found.shape, where)
    return found


def refuse_elsewhere(slot: Slot, tensor: Borrowed | Array, ordinal: int) -> None:
    if isinstance(tensor, Borrowed) and tensor.device != ordinal:
        raise DataError(
            f"lies on device {tensor.device}, the engine runs on {ordinal}",
            where=f"input {slot.name!r}",
        )
