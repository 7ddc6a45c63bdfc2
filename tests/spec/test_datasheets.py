"""Numbers of shipped profiles against each other and a second reading of the datasheets.

What this must catch is a factor of two: a rate with 2:4 taken for a dense one, a link's two
directions for one, a die's cache or multiprocessors for the product's, one clock for another's.
"""

from __future__ import annotations

import pytest

from planner import resources
from planner.spec.node import read_node
from planner.spec.profile import DeviceProfile, read_profile

DEVICES = {path.stem: read_profile(path) for path in resources.profiles()}
NODES = {path.stem: read_node(path) for path in resources.nodes()}
LISTED = {
    name: device
    for name, device in DEVICES.items()
    if device.kind in ("cuda", "rocm") and not device.peak["fp32"].source.startswith("measured")
}
"""All but what was measured here."""

Rates = dict[str, float]
TENSOR: Rates = {"tf32": 1.0, "fp16": 2.0, "bf16": 2.0, "int8": 4.0, "fp8": 4.0, "2:4": 4.0}
GEFORCE: Rates = {**TENSOR, "int8": 8.0}
PER_CLOCK: dict[str, tuple[float, Rates]] = {
    "sm_60": (128, {"fp16": 256}),
    "sm_61": (256, {"int8": 1024}),
    "sm_70": (128, {"fp16": 1024}),
    "sm_75": (128, {"fp16": 1024, "int8": 2048}),
    "sm_80": (128, {name: 1024 * worth for name, worth in TENSOR.items()}),
    "sm_86": (256, {name: 512 * worth for name, worth in TENSOR.items()}),
    "sm_89": (256, {name: 512 * worth for name, worth in TENSOR.items()}),
    "sm_90": (256, {name: 2048 * worth for name, worth in TENSOR.items()}),
    "sm_100": (256, {name: 4096 * worth for name, worth in TENSOR.items()}),
    "sm_120": (256, {name: 512 * worth for name, worth in TENSOR.items()}),
    "sm_103": (256, {name: 4096 * worth for name, worth in TENSOR.items()}),
    "gfx90a": (128, dict.fromkeys(("fp16", "bf16", "int8"), 1024.0)),
    "gfx942": (256, {name: 1024 * worth for name, worth in TENSOR.items()}),
    "gfx950": (256, {name: 2048 * worth for name, worth in TENSOR.items()}),
}
"""Architecture -> operations a clock and multiprocessor in fp32, and in formats of tensor cores
(architecture whitepapers: four tensor cores, each of 64, 256, 512 and 1,024 fused additions a clock
in fp16 on V100, A100, H100 and B200; half of an A100's on cards for graphics; AMD's CDNA 2, 3 and 4
whitepapers: 1,024, 2,048 and 4,096 operations a compute unit)."""
HALVED: dict[str, Rates] = {
    "rtx-2080-ti-11gb": {"fp16": 512, "int8": 2048},
    "rtx-3080-10gb": {name: 256 * worth for name, worth in GEFORCE.items()},
    "rtx-4080-16gb": {name: 256 * worth for name, worth in GEFORCE.items()},
    "rtx-5080-16gb": {name: 256 * worth for name, worth in GEFORCE.items()},
    "rtx-5090-32gb": {name: 256 * worth for name, worth in GEFORCE.items()},
    "l20-48gb": {name: 256 * worth for name, worth in TENSOR.items()},
    "rtx-3090-24gb": {name: 256 * worth for name, worth in GEFORCE.items()},
    "rtx-4090-24gb": {name: 256 * worth for name, worth in GEFORCE.items()},
    "l40-48gb": {name: 256 * worth for name, worth in TENSOR.items()},
    "h20-sxm-96gb": {name: 480 * worth for name, worth in TENSOR.items()},
    "b300-sxm-270gb": {**PER_CLOCK["sm_103"][1], "int8": 512},
}
"""Sold with less than the chip can: half rate for sums in fp32, an export limit, few int8 units."""
SLOWEST_CLOCK = 0.92
"""From Hopper on, rates of tensor cores are given at a clock below the highest: 1.83 of 1.98 GHz,
1.62 of 1.755 GHz (H100 whitepaper)."""
WITHIN = 0.03
LOOSE = {"p4-8gb": 0.04, "gb200-186gb": 0.05, "h20-sxm-96gb": 0.12, "b300-sxm-270gb": 0.035}
"""Where the published clock and rate are from different pages."""

SECOND_READING = {
    "a10-24gb": (72, 6, 600, None, 31.5),
    "a100-pcie-40gb": (108, 40, 1555, 300, 31.5),
    "a100-pcie-80gb": (108, 40, 1935, 300, 31.5),
    "a100-sxm-40gb": (108, 40, 1555, 300, 31.5),
    "a100-sxm-80gb": (108, 40, 2039, 300, 31.5),
    "a30-24gb": (56, 24, 933, 100, 31.5),
    "a40-48gb": (84, 6, 696, 56.25, 31.5),
    "a800-sxm-80gb": (108, 40, 2039, 200, 31.5),
    "b200-sxm-180gb": (148, 126, 7700, 900, 63),
    "b300-sxm-270gb": (148, 126, 7700, 900, 63),
    "gb200-186gb": (152, 126, 8000, 900, 225),
    "gh200-96gb": (132, 50, 4000, 450, 450),
    "h100-pcie-80gb": (114, 50, 2000, 300, 63),
    "h100-sxm-80gb": (132, 50, 3350, 450, 63),
    "h20-sxm-96gb": (78, 60, 4000, 450, 63),
    "h200-sxm-141gb": (132, 50, 4800, 450, 63),
    "h800-sxm-80gb": (132, 50, 3350, 200, 63),
    "l20-48gb": (92, 96, 864, None, 31.5),
    "l4-24gb": (58, 48, 300, None, 31.5),
    "l40-48gb": (142, 96, 864, None, 31.5),
    "l40s-48gb": (142, 96, 864, None, 31.5),
    "mi210-64gb": (104, 8, 1638, None, 31.5),
    "mi250x-64gb": (110, 8, 1638, 200, 31.5),
    "mi300x-192gb": (304, 256, 5300, 448, 63),
    "mi325x-256gb": (304, 256, 6000, 448, 63),
    "mi355x-288gb": (256, 256, 8000, 537.6, 63),
    "p100-pcie-16gb": (56, 4, 732, None, 15.75),
    "p4-8gb": (20, 2, 192, None, 15.75),
    "rtx-2080-ti-11gb": (68, 5.5, 616, 50, 15.75),
    "rtx-3080-10gb": (68, 5, 760, None, 31.5),
    "rtx-3090-24gb": (82, 6, 936, 56.25, 31.5),
    "rtx-4090-24gb": (128, 72, 1008, None, 31.5),
    "rtx-4080-16gb": (76, 64, 717, None, 31.5),
    "rtx-5080-16gb": (84, 64, 960, None, 63),
    "rtx-5090-32gb": (170, 96, 1792, None, 63),
    "rtx-6000-ada-48gb": (142, 96, 960, None, 31.5),
    "rtx-a6000-48gb": (84, 6, 768, 56.25, 31.5),
    "t4-16gb": (40, 4, 320, None, 15.75),
    "v100-pcie-16gb": (80, 6, 900, None, 15.75),
    "v100-pcie-32gb": (80, 6, 900, None, 15.75),
    "v100-sxm2-16gb": (80, 6, 900, 150, 15.75),
    "v100-sxm2-32gb": (80, 6, 900, 150, 15.75),
}
"""Multiprocessors, MiB of the last cache, GB/s of memory, of NVLink and of the host's link, the
links in one direction."""


def expected(device: DeviceProfile) -> tuple[float, Rates]:
    plain, tensor = PER_CLOCK[str(device.architecture)]
    return plain, HALVED.get(device.name, tensor)


def test_every_listed_device_is_read_twice() -> None:
    assert set(LISTED) == set(SECOND_READING)


@pytest.mark.parametrize("name", sorted(LISTED))
def test_rates_are_multiprocessors_times_clock_times_operations_a_clock(name: str) -> None:
    device = DEVICES[name]
    assert device.units is not None
    assert device.clock is not None
    plain, tensor = expected(device)
    ticks = device.units * device.clock.value
    within = LOOSE.get(name, WITHIN)
    assert device.peak["fp32"].value / ticks == pytest.approx(plain, rel=within)
    is_late = str(device.architecture)[3:] >= "90" or len(str(device.architecture)) > 5
    least = SLOWEST_CLOCK if is_late else 1 - within
    for format, rate in device.peak.items():
        if format != "fp32":
            share = rate.value / ticks / tensor[format]
            assert least <= share <= 1 + within, f"{format}: {share:.3f} of what units can do"


@pytest.mark.parametrize("name", sorted(LISTED))
def test_formats_of_one_device_stand_to_each_other_as_their_widths_do(name: str) -> None:
    peak = {format: rate.value for format, rate in DEVICES[name].peak.items()}
    _, tensor = expected(DEVICES[name])
    for format, rate in peak.items():
        if format != "fp32":
            assert rate / peak["fp16" if "fp16" in peak else format] == pytest.approx(
                tensor[format] / tensor.get("fp16", tensor[format]), rel=0.02
            )


@pytest.mark.parametrize("name", sorted(LISTED))
def test_what_power_sustains_is_below_the_peak_and_no_less_than_a_third_of_it(name: str) -> None:
    device = DEVICES[name]
    for format, rate in device.sustained.items():
        assert 1 / 3 < rate.value / device.peak[format].value < 1


@pytest.mark.parametrize("name", sorted(LISTED))
def test_sizes_and_links_are_as_read_a_second_time(name: str) -> None:
    device, (units, cache, memory, peer, host) = DEVICES[name], SECOND_READING[name]
    assert device.units == units
    assert device.cache_size is not None
    assert device.cache_size.value == cache * 2**20
    assert device.memory_bandwidth.value == pytest.approx(memory * 1e9, rel=0.01)
    links = {to: link.bandwidth.value / 1e9 for to, link in device.links.items()}
    assert links == ({"host": host, "peer": peer} if peer else {"host": host})
    size = float(name.split("-")[-1].removesuffix("gb"))
    assert device.memory_size.value == pytest.approx(size * 1e9, rel=0.01)


@pytest.mark.parametrize("name", sorted(NODES))
def test_a_machine_is_wired_by_the_links_of_its_device(name: str) -> None:
    node = NODES[name]
    links = DEVICES[node.device].links
    for domain in node.domains:
        if domain.fabric == "network":
            assert domain.link.bandwidth.value < node.domains[0].link.bandwidth.value
            continue
        to = "host" if domain.fabric == "pcie" else "peer"
        assert domain.link.bandwidth.value == links[to].bandwidth.value, domain.fabric
