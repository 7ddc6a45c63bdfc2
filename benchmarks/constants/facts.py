"""What the device says of itself."""

from __future__ import annotations

import time

from constants.device import Gpu
from constants.report import Report, check


def facts(gpu: Gpu, report: Report) -> None:
    """Sizes, limits and clocks that the device reports, and the clock that an SM really ran at."""
    attribute = gpu.driver.CUdevice_attribute
    names = {
        "l2_bytes": "L2_CACHE_SIZE",
        "l2_persisting_bytes": "MAX_PERSISTING_L2_CACHE_SIZE",
        "shared_bytes_per_sm": "MAX_SHARED_MEMORY_PER_MULTIPROCESSOR",
        "shared_bytes_per_block": "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN",
        "registers_per_sm": "MAX_REGISTERS_PER_MULTIPROCESSOR",
        "threads_per_sm": "MAX_THREADS_PER_MULTIPROCESSOR",
        "copy_engines": "ASYNC_ENGINE_COUNT",
        "sm_clock_khz": "CLOCK_RATE",
        "memory_clock_khz": "MEMORY_CLOCK_RATE",
        "memory_bus_bits": "GLOBAL_MEMORY_BUS_WIDTH",
    }
    for key, name in names.items():
        with report.part(key):
            member = getattr(attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
            report.put(key, check(gpu.driver.cuDeviceGetAttribute(member, 0)))
    report.put("sms", gpu.sms)
    report.put("memory_bytes", gpu.torch.cuda.get_device_properties(0).total_memory)
    report.put("sm_clock_mhz_light_work", [gpu.clock_mhz() for _ in range(3)])
    gpu.heat(1.0)
    report.put("sm_clock_mhz_after_1_s_of_products", gpu.clock_mhz())
    time.sleep(0.2)
    gpu.warm(0.1)
    report.put("sm_clock_mhz_0.3_s_later", gpu.clock_mhz())
    report.put("driver_api", check(gpu.driver.cuDriverGetVersion()))
