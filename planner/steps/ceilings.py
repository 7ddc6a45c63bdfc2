"""This machine's ceilings as a device profile: how fast memory, matrix products and calls can be.

Every number is the median over rounds in a measuring process whose sessions share one pool, with
its 95 % interval; what runs with several threads was measured with one thread, too.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psutil

from planner.errors import ModelError
from planner.profiling.ceilings import ProbeSpec, Timed
from planner.profiling.client import MeasuringProcess
from planner.profiling.probes import GEMM_FORMATS, make_probe
from planner.profiling.race import Contestant, Race, Result
from planner.profiling.timing import Interval, median_interval
from planner.runtime.caches import UNKNOWN_SIZES_BYTES, cache_sizes, memory_size_bytes
from planner.runtime.fingerprint import Cpu, onnxruntime_version, read_cpu
from planner.runtime.tensors import write_tensors
from planner.spec.profile import DeviceProfile, Quantity, Unit
from planner.spec.session import GraphLevel, SessionSettings
from planner.steps.workspace import Workspace

GEMM_SHAPES = ((1, 2048, 2048), (32, 2048, 2048), (1024, 1024, 1024))
"""rows x depth x width: one token, a small batch, a large one."""
_GROUP_S = 1.0
_CHAIN = 64
_REGIONS = 16
_WAKE_ROUNDS = 15
_WAKE_S = 2.0
_LISTEN_S = 0.5
_BUSY_PERCENT = 15.0
_LARGEST_BUFFER_BYTES = 2 * 2**30


@dataclass(slots=True)
class _Ceilings:
    """What was found so far, and how it is written down."""

    measured_on: str
    source: str
    found: dict[str, Quantity] = field(default_factory=dict)

    def add(self, name: str, value: Interval, unit: Unit) -> None:
        self.found[name] = Quantity(
            value=_rounded(value.median),
            unit=unit,
            source=self.source,
            measured_on=self.measured_on,
            low=_rounded(value.low),
            high=_rounded(value.high),
        )

    def best(self, prefix: str) -> Quantity | None:
        """The highest of the quantities whose names start like this."""
        alike = [quantity for name, quantity in self.found.items() if name.startswith(prefix)]
        return max(alike, key=lambda quantity: quantity.value, default=None)


def measure_ceilings(work: Workspace) -> DeviceProfile:
    """Measures this machine in well under a minute.

    Raises:
        ModelError: ONNX Runtime cannot run a probe that every build of it can.
    """
    cpu = read_cpu()
    machine = f"{cpu.model}, {cpu.usable_cores} cores, ONNX Runtime {onnxruntime_version()}"
    measured_on = f"{datetime.now(UTC).date().isoformat()}, {machine}"
    ceilings = _Ceilings(measured_on, _source(work))
    threads = sorted({1, cpu.usable_cores})
    buffers = _buffers(cache_sizes(), psutil.virtual_memory().available)
    groups = _groups(buffers)
    steps = len(threads) * len(groups) + (len(threads) > 1)
    work.reporter.stage("ceilings")
    done = 0
    for count in threads:
        with MeasuringProcess(count) as process:
            for label, group in groups.items():
                work.reporter.progress(done, steps, f"{label}, {_threads(count)}")
                timed = process.probe(list(group.values()), _GROUP_S)
                _note_down(ceilings, dict(zip(group, timed, strict=True)), count, work)
                done += 1
    if len(threads) > 1:
        work.reporter.progress(done, steps, "thread wake-up")
        _wake_up(ceilings, threads[-1], work)
        done += 1
    work.reporter.progress(done, steps, "done")
    return _profile(cpu, ceilings, threads[-1])


def _source(work: Workspace) -> str:
    """`measured`, and how busy others kept the machine if that lowers what is found."""
    busy_percent = psutil.cpu_percent(interval=_LISTEN_S)
    if busy_percent < _BUSY_PERCENT:
        return "measured"
    source = f"measured while others used {busy_percent:.0f} % of the machine"
    work.reporter.note(f"{source}: these ceilings are too low; measure again when it is idle")
    return source


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _buffers(caches: Mapping[int, int], available_bytes: int) -> dict[str, int]:
    """Where a buffer lies -> its size: half of L2, between L2 and L3, beyond the last cache."""
    l2 = caches.get(2, UNKNOWN_SIZES_BYTES[2])
    last = max(caches.get(3, UNKNOWN_SIZES_BYTES[3]), l2)
    beyond = min(2 * last, _LARGEST_BUFFER_BYTES, available_bytes // 8)
    found = {"L2": l2 // 2, "L3": int((l2 * last) ** 0.5), "memory": beyond}
    return {place: size for place, size in found.items() if place != "L3" or l2 < last}


def _groups(buffers: Mapping[str, int]) -> dict[str, dict[str, ProbeSpec]]:
    """Probes that are timed against each other: group -> name of the ceiling -> probe."""
    groups: dict[str, dict[str, ProbeSpec]] = {
        "calls": {"1 node": ("nodes", 1), "chain": ("nodes", 1 + _CHAIN)},
        "bandwidth": {
            f"{kind} {place}": (kind, size)
            for place, size in buffers.items()
            for kind in ("read", "copy")
        },
    }
    for shape in GEMM_SHAPES:
        label = "x".join(map(str, shape))
        groups[f"products {label}"] = {
            f"gemm {form} {label}": ("gemm", form, *shape) for form in GEMM_FORMATS
        }
    return groups


def _note_down(
    ceilings: _Ceilings, timed: Mapping[str, Timed | str], threads: int, work: Workspace
) -> None:
    known = {name: found for name, found in timed.items() if isinstance(found, Timed)}
    for name, reason in timed.items():
        if isinstance(reason, str):
            work.reporter.note(f"{name} is left out: {reason}")
    if "chain" in known and "1 node" in known:
        _note_calls(ceilings, known["1 node"].interval_us, known["chain"].interval_us, threads)
        return
    for name, found in known.items():
        unit: Unit = "bytes/s"
        if name.startswith("gemm"):
            unit = "flop/s" if " fp" in name else "op/s"
        ceilings.add(f"{name}, {_threads(threads)}", found.rate, unit)


def _note_calls(ceilings: _Ceilings, one: Interval, chain: Interval, threads: int) -> None:
    """The chain's slope is a node; the rest of the shortest call is the call."""
    node = Interval(
        *(
            max(whole - single, 0.0) / _CHAIN
            for whole, single in (
                (chain.median, one.median), (chain.low, one.high), (chain.high, one.low),
            )
        )
    )  # fmt: skip
    call = Interval(
        max(one.median - node.median, 0.0),
        max(one.low - node.high, 0.0),
        max(one.high - node.low, 0.0),
    )
    ceilings.add(f"node, {_threads(threads)}", node, "us")
    ceilings.add(f"call, {_threads(threads)}", call, "us")


def _wake_up(ceilings: _Ceilings, threads: int, work: Workspace) -> None:
    """What sharing one operator between all threads costs: with a spinning pool, a sleeping one.

    Each of the chain's products would take 1/threads of its time with one thread if waking and
    joining threads were free; the rest of its time is that cost.
    """
    results = _race_pools(threads, work)
    alone = results["alone"].medians_us
    for label in ("spinning", "sleeping"):
        cost = (results[label].medians_us - alone / threads) / _REGIONS
        found = median_interval([float(us) for us in cost])
        ends = (max(us, 0.0) for us in (found.median, found.low, found.high))
        ceilings.add(f"wake-up {label}, {_threads(threads)}", Interval(*ends), "us")


def _race_pools(threads: int, work: Workspace) -> dict[str, Result]:
    probe = make_probe("regions", _REGIONS)
    model, feeds = work.scratch / "regions.onnx", work.scratch / "regions.npz"
    model.write_bytes(probe.model)
    write_tensors(feeds, probe.feeds)
    pools = (("alone", 1, True), ("spinning", threads, True), ("sleeping", threads, False))
    contestants = [Contestant(name, model, _session(n, spin)) for name, n, spin in pools]
    with Race(contestants, feeds) as held:
        return held.run(rounds=_WAKE_ROUNDS, budget_s=_WAKE_S)


def _session(threads: int, spinning: bool) -> SessionSettings:
    return SessionSettings(
        intra_op_threads=threads, spinning=spinning, graph_level=GraphLevel.DISABLED
    )


def _profile(cpu: Cpu, ceilings: _Ceilings, threads: int) -> DeviceProfile:
    suffix = f", {_threads(threads)}"
    bandwidth = ceilings.best("read memory")
    if bandwidth is None:
        raise ModelError("ONNX Runtime cannot multiply two float32 matrices on this machine")
    memory = Quantity(
        value=memory_size_bytes(),
        unit="bytes",
        source="the operating system",
    )
    return DeviceProfile(
        name=_name(cpu),
        kind="cpu",
        title=cpu.model,
        architecture=_architecture(cpu),
        units=min(cpu.physical_cores, cpu.usable_cores),
        memory_size=memory,
        memory_bandwidth=bandwidth,
        peak=dict(_peaks(ceilings)),
        launch=ceilings.found[f"node{suffix}"],
        barrier=ceilings.found.get(f"wake-up spinning{suffix}"),
        ceilings=ceilings.found,
    )


def _peaks(ceilings: _Ceilings) -> Iterator[tuple[str, Quantity]]:
    for form in GEMM_FORMATS:
        best = ceilings.best(f"gemm {form} ")
        if best is not None:
            yield form, best


def _name(cpu: Cpu) -> str:
    """`Intel(R) Xeon(R) Processor` with 2 cores -> `intel-xeon-processor-2-cores`."""
    plain = re.sub(r"\((?:r|tm|c)\)", " ", cpu.model.lower())
    words = re.findall(r"[a-z0-9.]+", plain)
    return "-".join([*words, str(cpu.usable_cores), "cores"]).strip(".")


def _architecture(cpu: Cpu) -> str:
    """The x86-64 level by the psABI's lists of extensions (those that matter here)."""
    machine = platform.machine().lower().replace("amd64", "x86_64")
    levels: Sequence[tuple[str, set[str]]] = (
        ("x86-64-v4", {"avx512f", "avx512bw", "avx512vl", "avx2", "fma"}),
        ("x86-64-v3", {"avx2", "fma", "f16c"}),
    )
    if machine == "x86_64":
        return next((name for name, flags in levels if flags <= set(cpu.flags)), "x86-64")
    return machine


def _rounded(value: float) -> float:
    """Four significant digits: more would be noise."""
    return float(f"{value:.4g}")
