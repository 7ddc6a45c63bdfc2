"""Which GPUs this machine has, asked of the driver itself: no CUDA library is needed."""

from __future__ import annotations

import ctypes
import sys
from typing import Any


def count_gpus() -> int:
    """NVIDIA GPUs that this process may use (CUDA_VISIBLE_DEVICES counts); 0 without a driver."""
    driver = _driver()
    found = ctypes.c_int(0)
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(found)) != 0:
        return 0
    return int(found.value)


def gpu_title(ordinal: int = 0) -> str | None:
    """A GPU's name and the CUDA version of its driver: `NVIDIA H200, CUDA 13.0`."""
    driver = _driver()
    device, version = ctypes.c_int(0), ctypes.c_int(0)
    name = ctypes.create_string_buffer(256)
    if driver is None or driver.cuDeviceGet(ctypes.byref(device), ordinal) != 0:
        return None
    driver.cuDeviceGetName(name, 256, device)
    driver.cuDriverGetVersion(ctypes.byref(version))
    number = version.value
    return f"{name.value.decode(errors='replace')}, CUDA {number // 1000}.{number % 1000 // 10}"


def _driver() -> Any:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return None
    return driver if driver.cuInit(0) == 0 else None
