"""How busy a GPU is during a call, and what ONNX Runtime quietly left to the CPU.

ONNX Runtime's own profile says which provider ran each operator, and, in builds that can see the
device, how long each kernel took. Where it cannot, all kernels of a call are queued while the
device is kept busy: then they run one after the other with nothing to wait for, between two events.
What a call takes beyond its kernels is launches, gaps, copies and the host's work.
"""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from planner.errors import EnvironmentMismatchError, InfoptError
from planner.runtime.device_run import can_bind
from planner.runtime.fused.lab import Lab
from planner.runtime.ort import bind_all, make_session, session_options, tensor_specs
from planner.runtime.refusals import ORT_ERRORS
from planner.spec.session import SessionSettings
from planner.units import format_duration

_RUNS = 20
_CALLS = 200
_BUDGET_S = 2.0
_QUEUED_RUNS = 9
_BUSY_BYTES = 2**29
_BUSY_MARGIN = 2.0
"""How many times as long as the host needs to queue a call the device is kept busy."""


@dataclass(frozen=True, slots=True)
class Utilisation:
    """One model on one GPU."""

    call_us: float
    """Median of a whole call, inputs from the host and outputs to it."""
    kernels_us: float | None
    """Device time of all kernels of a call; None where it cannot be seen."""
    by_operator_us: Mapping[str, float]
    """Kernels' time by the operator that launched them."""
    on_cpu: tuple[str, ...]
    """Operators (`name (type)`) that ran on the CPU although the GPU was asked for."""
    gaps_counted: bool = False
    """Whether `kernels_us` holds the gaps between kernels too, which a CUDA graph shortens."""

    @property
    def text(self) -> str | None:
        """What the GPU does in a call, for people."""
        if self.busy is None:
            return None
        share = f"{'at most ' if self.gaps_counted else ''}{100 * self.busy:.0f} %"
        return (
            f"computes {share} of a call of {format_duration(self.call_us)}; the rest is launches, "
            "gaps, copies and the host"
        )

    @property
    def busy(self) -> float | None:
        """Share of a call in which a kernel computes."""
        return None if self.kernels_us is None else min(self.kernels_us / self.call_us, 1.0)


def measure(model: Path, settings: SessionSettings, feeds: Mapping[str, Any]) -> Utilisation:
    """Times calls, then profiles some (without a graph, whose kernels belong to no operator).

    Raises: as `planner.runtime.ort.make_session`.
    """
    call_us = _call_us(model, settings, feeds)
    kernels, nodes = _profiled(model, settings, feeds)
    if kernels:
        return Utilisation(call_us, sum(kernels.values()), kernels, nodes)
    total = None
    with contextlib.suppress(InfoptError, *ORT_ERRORS):  # nothing else depends on it
        total = _queued_us(model, settings, feeds)
    return Utilisation(call_us, total, kernels, nodes, gaps_counted=True)


def _call_us(model: Path, settings: SessionSettings, feeds: Mapping[str, Any]) -> float:
    run = bind_all(make_session(model, settings))[1]
    given = dict(feeds)
    for _ in range(5):
        run(given)
    samples: list[float] = []
    until = time.perf_counter() + _BUDGET_S
    while len(samples) < _RUNS or (len(samples) < _CALLS and time.perf_counter() < until):
        start = time.perf_counter()
        run(given)
        samples.append((time.perf_counter() - start) * 1e6)
    return float(np.median(samples))


def _queued_us(model: Path, settings: SessionSettings, feeds: Mapping[str, Any]) -> float | None:
    """Device time of a call's kernels, queued behind work that hides the host; None where tensors
    have no fixed shapes, or there are no bindings of the driver."""
    try:
        lab = Lab(0)
    except EnvironmentMismatchError:
        return None
    options = {"user_compute_stream": str(int(lab.stream))}
    session: Any = onnxruntime.InferenceSession(
        str(model),
        session_options(settings.model_copy(update={"cuda_graph": False})),
        providers=[("CUDAExecutionProvider", options), "CPUExecutionProvider"],
    )
    inputs, outputs = tensor_specs(session)
    if not can_bind((*inputs, *outputs)):
        return None
    binding: Any = session.io_binding()
    for spec in inputs:
        value = onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(feeds[spec.name]), "cuda", 0)
        binding.bind_ortvalue_input(spec.name, value)
    for spec in outputs:
        binding.bind_output(spec.name, "cuda", 0)
    run_options: Any = onnxruntime.RunOptions()
    run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return _behind(lab, lambda: session.run_with_iobinding(binding, run_options))


def _behind(lab: Lab, run: Callable[[], None]) -> float:
    """Median device time of what `run` queues, behind copies that take longer than queueing it."""
    size = min(_BUSY_BYTES, lab.free_bytes() // 8)
    source, target = lab.allocate(size), lab.allocate(size)
    try:
        lab.fill(source, 1, size)
        copy = partial(lab.copy, target, source, size)
        host_us = max(_host_us(lab, run) for _ in range(3))
        copies = math.ceil(_BUSY_MARGIN * host_us / max(lab.elapsed_us(copy), 1.0))

        def keep_busy() -> None:
            for _ in range(copies):
                copy()

        return float(np.median([lab.elapsed_us(run, keep_busy) for _ in range(_QUEUED_RUNS)]))
    finally:
        lab.free(source)
        lab.free(target)


def _host_us(lab: Lab, run: Callable[[], None]) -> float:
    lab.synchronize()
    start = time.perf_counter()
    run()
    found = (time.perf_counter() - start) * 1e6
    lab.synchronize()
    return found


def _profiled(
    model: Path, settings: SessionSettings, feeds: Mapping[str, Any]
) -> tuple[dict[str, float], tuple[str, ...]]:
    plain = settings.model_copy(update={"cuda_graph": False})
    options: Any = session_options(plain)
    options.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="infopt-profile-") as folder:
        options.profile_file_prefix = str(Path(folder, "ort"))
        wanted = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[plain.provider]
        session: Any = onnxruntime.InferenceSession(
            str(model), options, providers=list(dict.fromkeys((wanted, "CPUExecutionProvider")))
        )
        run = bind_all(session)[1]
        for _ in range(_RUNS):
            run(dict(feeds))
        path = Path(session.end_profiling())
        events = json.loads(path.read_text())
    return read_events(events, wanted, _RUNS)


def read_events(
    events: list[dict[str, Any]], wanted: str, runs: int
) -> tuple[dict[str, float], tuple[str, ...]]:
    """(operator -> device time a run, operators on another provider) of a profile.

    The first runs are slower; of each kernel launch the median over runs would need their order, so
    sums are taken over the later half of all events of a kind.
    """
    kernels: dict[str, list[float]] = defaultdict(list)
    elsewhere: dict[str, None] = {}
    for event in events:
        arguments = event.get("args") or {}
        if event.get("cat") == "Kernel":
            kernels[str(arguments.get("op_name") or event.get("name"))].append(float(event["dur"]))
        elif event.get("cat") == "Node" and arguments.get("provider") not in (None, wanted):
            name = str(event["name"]).removesuffix("_kernel_time")
            elsewhere[f"{name} ({arguments.get('op_name')})"] = None
    found = {}
    for name, times in kernels.items():
        later = times[len(times) // 2 :]
        found[name] = sum(later) / max(runs - runs // 2, 1)
    return found, tuple(elsewhere)
