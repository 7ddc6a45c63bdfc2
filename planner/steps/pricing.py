"""What everything costs: kernels timed alone, brought to one moment, corrected by whole runs.

A sum of kernels is not a whole: caches, allocation and scheduling between kernels cost time that no
kernel shows. The correction is fitted on the native variant, timed as a whole under every setting:

    correction(setting) = measured(native, setting) / sum of kernels(native, setting)

A single whole run on a shared machine is off by ten percent and more, so corrections are pooled:
the median over all settings whose idle threads spin, and over those whose threads sleep. Weights
that come from memory are the largest part of what a sum misses, and compression moves fewer of
them: a compressed plan gets the square root of the spinning correction (`benchmarks/README.md`).

A plan is never priced with a timing of itself: where a plan *is* the native variant under some
setting, the corrections of the other settings stand in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from planner.compress.base import NATIVE
from planner.cost.table import CostTable
from planner.ir.problem import Latency
from planner.profiling.race import Contestant, Race
from planner.profiling.timing import probe_feeds, probe_model
from planner.runtime.fingerprint import usable_cores
from planner.runtime.tensors import write_tensors
from planner.spec.plan import Estimate
from planner.spec.session import GraphLevel, SessionSettings
from planner.steps.bench import Bench, times_of
from planner.steps.prepare import Prepared
from planner.steps.variants import LEVELS, Variant
from planner.steps.workspace import Workspace, digest

CONTEXT_ROUNDS = 12
CONTEXT_SECONDS = 3.0
MODEL_RELATIVE = 0.08
"""Half-width of the interval for what the corrected sum leaves out: the mean absolute error of
predictions over the benchmark's models (`benchmarks/README.md`)."""
PROBE = "probe"
PERCENTILES = (50.0, 90.0, 95.0, 99.0)
"""Every percentile that a promise may name: kept whichever it is, so that another promise finds
them."""


@dataclass(frozen=True, slots=True)
class PlanSetting:
    """A plan-wide setting with what was learnt of it."""

    session: SessionSettings
    correction: float
    """Whole / sum of kernels, for a native plan."""
    compressed_correction: float
    """The same for a plan that compresses something."""
    tail_factor: float
    """Latency at the promise's percentile / p50, on the native variant."""


def session_choices() -> tuple[SessionSettings, ...]:
    """Thread pools (size, whether idle threads spin) x graph levels that a plan may choose from."""
    cores = usable_cores()
    pools = [(1, True)]
    pools += [(n, spin) for n in sorted({cores, cores // 2} - {0, 1}) for spin in (True, False)]
    return tuple(
        SessionSettings(intra_op_threads=threads, spinning=spinning, graph_level=level)
        for threads, spinning in pools
        for level in LEVELS
    )


class Pricing:
    """Prices of kernels and whole models under every setting."""

    def __init__(
        self, prepared: Prepared, bench: Bench, work: Workspace, percentile: float
    ) -> None:
        self.prepared = prepared
        self.bench = bench
        self.work = work
        self.percentile = percentile
        self.settings: tuple[PlanSetting, ...] = ()
        self._tables: dict[int, CostTable] = {}
        self._others: dict[int, float] = {}

    def learn(self, variants: Sequence[Variant]) -> None:
        """Times every kernel of these variants, and the native one as a whole."""
        sessions = session_choices()
        for threads in sorted({session.intra_op_threads for session in sessions}):
            self.work.reporter.stage(f"profile ({threads} threads)")
            self.bench.measure([variant.executable for variant in variants], threads)
            self._tables[threads] = self._table(variants, threads)
        native = {v.level: v for v in variants if v.format == NATIVE and not v.realised}
        self._fit(native, sessions)
        self.bench.rest()

    def _table(self, variants: Sequence[Variant], threads: int) -> CostTable:
        keys = [key for variant in variants for key in self.bench.keys(variant.executable, threads)]
        times = times_of(self.work, keys)
        references = [time.reference_us for time in times.values() if time.reference_us > 0]
        if not references:  # every kernel is too short for this pool: none carries its probe
            return CostTable(times, self.bench.reference_us(threads))
        return CostTable(times, float(np.median(references)))

    def extend(self, variant: Variant, threads: int) -> None:
        """Times what is new in one more variant; the moment of the prices stays."""
        self.bench.measure([variant.executable], threads)
        keys = self.bench.keys(variant.executable, threads)
        table = self._tables[threads]
        self._tables[threads] = table.extended(times_of(self.work, keys))

    def reference_us(self, threads: int) -> float:
        """The machine state, as the reference probe shows it, that prices belong to."""
        return self._tables[threads].reference_us

    def _fit(self, native: dict[GraphLevel, Variant], sessions: Sequence[SessionSettings]) -> None:
        raced = self._whole_runs(native, sessions)
        single: list[float] = []
        for session in sessions:
            variant = native.get(session.graph_level) or next(iter(native.values()))
            measured = raced[session.name]
            total = self.sum_of_kernels(variant, session).expected
            scale = self.reference_us(session.intra_op_threads) / measured["reference_us"]
            single.append(at_percentile(measured, 50.0) * scale / total)
        spins = [session.spinning for session in sessions]
        spinning = _pooled(single, spins, is_spinning=True)
        self.settings = tuple(
            self._setting(session, _pooled(single, spins, session.spinning), spinning, raced)
            for session in sessions
        )
        for index, spin in enumerate(spins):
            rest = [s for i, s in enumerate(single) if i != index and spins[i] == spin]
            self._others[index] = float(np.median(rest)) if rest else spinning

    def _setting(
        self,
        session: SessionSettings,
        pooled: float,
        spinning: float,
        raced: Mapping[str, Mapping[str, Any]],
    ) -> PlanSetting:
        measured = raced[session.name]
        tail = at_percentile(measured, self.percentile) / at_percentile(measured, 50.0)
        return PlanSetting(session, pooled, pooled / math.sqrt(spinning), max(tail, 1.0))

    def _whole_runs(
        self, native: dict[GraphLevel, Variant], sessions: Sequence[SessionSettings]
    ) -> dict[str, dict[str, float]]:
        names = [session.name for session in sessions]
        key = digest(
            "context", self.prepared.sha256, names,
            self.bench.environment.device_digest, CONTEXT_ROUNDS,
        )  # fmt: skip

        def compute() -> dict[str, dict[str, float]]:
            self.work.reporter.stage("whole runs")
            self.bench.rest()
            path = (native.get(GraphLevel.ALL) or next(iter(native.values()))).executable.build()
            contestants = [Contestant(session.name, path, session) for session in sessions]
            return race(
                contestants, self.prepared.feeds_path, self.work,
                rounds=CONTEXT_ROUNDS, budget_s=CONTEXT_SECONDS,
                model_size_bytes=self.prepared.loaded.size_bytes,
            )  # fmt: skip

        found: dict[str, dict[str, float]] = self.work.once("context", key, compute)
        return found

    def kernel_latency(self, variant: Variant, index: int, setting: int) -> Latency:
        """One kernel of a variant under a setting, corrected to its share of a whole."""
        chosen = self.settings[setting]
        threads = chosen.session.intra_op_threads
        key = self.bench.keys(variant.executable, threads)[index]
        cost = self._tables[threads].cost(key)
        factor = chosen.compressed_correction if variant.realised else chosen.correction
        low, high = factor * (1 - MODEL_RELATIVE), factor * (1 + MODEL_RELATIVE)
        return Latency(cost.low_us * low, cost.expected_us * factor, cost.high_us * high)

    def overhead(self, variant: Variant, setting: int) -> Latency:
        """What a call costs besides its kernels."""
        chosen = self.settings[setting]
        value = self.bench.overhead_us(variant.executable, chosen.session.intra_op_threads)
        value *= chosen.correction
        return Latency(value * (1 - MODEL_RELATIVE), value, value * (1 + MODEL_RELATIVE))

    def sum_of_kernels(self, variant: Variant, session: SessionSettings) -> Estimate:
        """Kernels plus call overhead, uncorrected, microseconds."""
        threads = session.intra_op_threads
        keys = self.bench.keys(variant.executable, threads)
        total = self._tables[threads].total(keys)
        overhead = self.bench.overhead_us(variant.executable, threads)
        return Estimate(
            low=total.low_us + overhead,
            expected=total.expected_us + overhead,
            high=total.high_us + overhead,
            source="measured",
        )

    def predict(self, variant: Variant, setting: int) -> Estimate:
        """p50 of a whole variant, before anything of it was timed as a whole."""
        chosen = self.settings[setting]
        factor = chosen.compressed_correction if variant.realised else self._others[setting]
        total = self.sum_of_kernels(variant, chosen.session)
        return Estimate(
            low=total.low * factor * (1 - MODEL_RELATIVE),
            expected=total.expected * factor,
            high=total.high * factor * (1 + MODEL_RELATIVE),
            source="measured",
        )


def _pooled(single: Sequence[float], spins: Sequence[bool], is_spinning: bool) -> float:
    """Median of the corrections of one kind of setting; of all where there is none of the kind."""
    kind = [value for value, spin in zip(single, spins, strict=True) if spin == is_spinning]
    return float(np.median(kind or list(single)))


def race(
    contestants: Sequence[Contestant],
    feeds_path: Path,
    work: Workspace,
    *,
    rounds: int,
    budget_s: float,
    model_size_bytes: int,
) -> dict[str, dict[str, Any]]:
    """Times variants against the first of them, in heats that fit the memory a plan may take.

    Returns name -> percentiles_us (by percentile, as text), reference_us (the probe's p50 in the
    same rounds), medians_us (one a round), first_us (those of the first contestant in the same
    rounds), runs, peak_size_bytes.
    """
    first, *rivals = contestants
    size = _rivals_at_once(model_size_bytes)
    heats = [rivals[start : start + size] for start in range(0, len(rivals), size)] or [[]]
    found: dict[str, dict[str, Any]] = {}
    for heat in heats:
        share_s = budget_s * (len(heat) + 1) / (len(rivals) + len(heats))
        timed = _heat([first, *heat], feeds_path, work, rounds, share_s)
        for name, result in timed.items():
            found.setdefault(name, result)
    return found


def at_percentile(timed: Mapping[str, Any], percentile: float) -> float:
    """Latency of a raced variant at one of `PERCENTILES`, microseconds."""
    return float(timed["percentiles_us"][f"{percentile:g}"])


def _rivals_at_once(model_size_bytes: int) -> int:
    """How many rivals of the first contestant fit beside it: a process of each takes about 60 MB
    and 1.5 times the model; all of them may take 180 MB and twice the model."""
    mib = 2**20
    allowed = 180 * mib + 2 * model_size_bytes
    return max(int(allowed / (60 * mib + 1.5 * model_size_bytes)) - 1, 1)


def _heat(
    contestants: Sequence[Contestant],
    feeds_path: Path,
    work: Workspace,
    rounds: int,
    budget_s: float,
) -> dict[str, dict[str, Any]]:
    probes = _probes(contestants, work)
    with Race([*contestants, *(p for p, _ in probes.values())], feeds_path, _own(probes)) as held:
        results = held.run(rounds=rounds, budget_s=budget_s)
        failed = held.failed
    first = results.get(contestants[0].name)
    found: dict[str, dict[str, Any]] = {}
    for contestant in contestants:
        if contestant.name in failed or first is None:
            work.reporter.note(f"{contestant.name}: {failed.get(contestant.name, 'not timed')}")
            continue
        result = results[contestant.name]
        probe = results.get(probes[contestant.settings.intra_op_threads][0].name, result)
        found[contestant.name] = {
            "percentiles_us": {f"{p:g}": result.percentile_us(p) for p in PERCENTILES},
            "reference_us": probe.percentile_us(50),
            "medians_us": [float(median) for median in result.medians_us],
            "first_us": [float(median) for median in first.medians_us],
            "runs": result.runs,
            "peak_size_bytes": result.peak_size_bytes,
        }
    return found


def _probes(
    contestants: Sequence[Contestant], work: Workspace
) -> dict[int, tuple[Contestant, Path]]:
    model, feeds = work.scratch / "probe.onnx", work.scratch / "probe.npz"
    if not model.exists():
        model.write_bytes(probe_model())
        write_tensors(feeds, probe_feeds())
    found: dict[int, tuple[Contestant, Path]] = {}
    for threads in sorted({c.settings.intra_op_threads for c in contestants}):
        settings = SessionSettings(intra_op_threads=threads, graph_level=GraphLevel.DISABLED)
        found[threads] = (Contestant(f"{PROBE}-{threads}", model, settings), feeds)
    return found


def _own(probes: dict[int, tuple[Contestant, Path]]) -> dict[str, Path]:
    return {contestant.name: feeds for contestant, feeds in probes.values()}
