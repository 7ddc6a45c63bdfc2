"""Which GPUs this machine has, asked of the driver itself: no CUDA library is needed."""

from __future__ import annotations

import ctypes
import sys


def count_gpus() -> int:
    """NVIDIA GPUs that this process may use (CUDA_VISIBLE_DEVICES counts); 0 without a driver."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return 0
    found = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(found)) != 0:
        return 0
    return int(found.value)
