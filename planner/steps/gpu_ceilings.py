"""The local GPU's ceilings as a device profile."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from planner.errors import EnvironmentMismatchError
from planner.profiling.cuda import formats, library, links
from planner.profiling.cuda.device import DeviceProbes
from planner.profiling.cuda.sampling import Found, Sampler, widened
from planner.profiling.timing import Interval
from planner.runtime.fingerprint import onnxruntime_version
from planner.runtime.fused.lab import Facts, Lab
from planner.runtime.ranks.bench import Links, measure_links
from planner.runtime.ranks.fabric import NCCL
from planner.spec.profile import DeviceProfile, Link, Quantity, Unit
from planner.steps.workspace import Workspace

_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_DIGITS = 4


def measure_gpu(work: Workspace, ordinal: int = 0) -> DeviceProfile:
    """Measures a GPU of this machine in a few minutes.

    Raises:
        EnvironmentMismatchError: no GPU, no driver, or memory that cannot be read.
    """
    lab = Lab(ordinal)
    facts = lab.facts()
    probes = DeviceProbes(lab)
    sampler = Sampler(probes.reference_us, probes.keep_busy)
    probes.warm_up()
    found: list[Found] = []
    groups = _groups(lab, facts, probes, sampler)
    work.reporter.stage("ceilings")
    for done, (label, group) in enumerate(groups.items()):
        work.reporter.progress(done, len(groups), label)
        found += group()
    work.reporter.progress(len(groups), len(groups), "done")
    probes.close()
    for name, reason in sampler.left_out.items():
        work.reporter.note(f"{name} is left out: {reason}")
    if sampler.unsteadiness > 1.0:
        work.reporter.note(
            f"the device throttled or was shared: the same copy varied by a factor of "
            f"{sampler.unsteadiness:.2f}, and every interval is widened by it"
        )
    return _profile(facts, found, sampler, _measured_on(facts))


def _groups(
    lab: Lab, facts: Facts, probes: DeviceProbes, sampler: Sampler
) -> dict[str, Callable[[], Iterator[Found]]]:
    return {
        "memory": lambda: probes.memory(sampler),
        "L2": lambda: probes.cache(sampler),
        "launches, graph nodes, barriers": lambda: probes.launches(sampler),
        "copies to and from the host": lambda: links.host_links(lab, sampler),
        "copies between devices": lambda: links.peer_links(lab, facts.devices, sampler),
        "products": lambda: library.products(lab, sampler),
        "attention": lambda: library.attention(lab, sampler),
        "elementwise, reductions": lambda: library.traffic(lab, sampler),
        "other formats": lambda: formats.products(sampler, lab.ordinal),
        "collectives": lambda: _collectives(facts, sampler),
    }


def _collectives(facts: Facts, sampler: Sampler) -> Iterator[Found]:
    if facts.devices < 2:
        return
    try:
        measured: Links = measure_links(NCCL, facts.devices, on_device=True)
    except EnvironmentMismatchError as error:
        sampler.left_out["collectives"] = error.what
        return
    for kind, times in measured.times_us.items():
        for size, (low, middle, high) in times.items():
            name = f"{kind} of {size // 2**10} KiB on {facts.devices} devices"
            yield Found(name, Interval(middle, low, high), "us")


def _measured_on(facts: Facts) -> str:
    try:
        words = re.search(r"(\d+\.\d+(?:\.\d+)?)", _NVIDIA_DRIVER.read_text())
    except OSError:
        words = None
    driver = f"driver {words[1]}, " if words else ""
    today = datetime.now(UTC).date().isoformat()
    return (
        f"{today}, {facts.title}, {driver}CUDA {facts.driver}, ONNX Runtime {onnxruntime_version()}"
    )


def _profile(facts: Facts, found: list[Found], sampler: Sampler, measured_on: str) -> DeviceProfile:
    factor = sampler.unsteadiness
    source = "measured"
    if factor > 1.0:
        source = f"measured while the device's pace varied by a factor of {factor:.2f}"
    ceilings = {
        one.name: _quantity(widened(one.value, factor), one.unit, source, measured_on)
        for one in found
    }
    bandwidth = ceilings.get("read memory") or ceilings.get("copy memory")
    if bandwidth is None:
        raise EnvironmentMismatchError("neither reading nor copying memory could be measured")
    told = "the driver"
    return DeviceProfile(
        name=device_name(facts),
        kind="cuda",
        title=facts.title,
        architecture=facts.architecture,
        units=facts.units,
        clock=Quantity(value=facts.clock_hz, unit="Hz", source=told),
        cache_size=Quantity(value=facts.cache_size_bytes, unit="bytes", source=told),
        memory_size=Quantity(value=facts.memory_size_bytes, unit="bytes", source=told),
        memory_bandwidth=bandwidth,
        peak=_peaks(ceilings),
        launch=ceilings.get("launch"),
        barrier=ceilings.get("barrier"),
        shared_memory_per_unit=Quantity(value=facts.shared_size_bytes, unit="bytes", source=told),
        ceilings=ceilings,
        links=_links(ceilings),
    )


def device_name(facts: Facts) -> str:
    """`NVIDIA H200` -> `nvidia-h200-measured`: never the name of a shipped profile."""
    words = re.findall(r"[a-z0-9]+", facts.title.lower())
    return "-".join([*words, "measured"])


def _peaks(ceilings: dict[str, Quantity]) -> dict[str, Quantity]:
    best: dict[str, Quantity] = {}
    for name, quantity in ceilings.items():
        word, _, rest = name.partition(" ")
        form = rest.partition(" ")[0]
        if word == "gemm" and (form not in best or quantity.value > best[form].value):
            best[form] = quantity
    if not best:
        raise EnvironmentMismatchError(
            "no matrix product could be timed", fix="pip install onnxruntime-gpu"
        )
    return best


def _links(ceilings: dict[str, Quantity]) -> dict[str, Link]:
    found = {}
    for link, name in (("host", "host to device"), ("peer", "device 0 to 1")):
        latency, bandwidth = (ceilings.get(f"{name}, {what}") for what in ("latency", "256 MiB"))
        if latency is not None and bandwidth is not None:
            found[link] = Link(latency=latency, bandwidth=bandwidth)
    return found


def _quantity(value: Interval, unit: str, source: str, measured_on: str) -> Quantity:
    return Quantity(
        value=_rounded(value.median),
        unit=cast("Unit", unit),
        source=source,
        measured_on=measured_on,
        low=_rounded(max(value.low, 0.0)),
        high=_rounded(value.high),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
