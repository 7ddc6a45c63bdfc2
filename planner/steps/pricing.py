"""What everything costs: kernels timed alone, corrected by whole runs of other variants.

    p50 = sum of kernels * correction * slowness

`correction` (`planner/cost/correction.py`) is learnt from whole runs of uniform variants: the
native one under every thread pool, each compressed one under two. `slowness` is how much longer the
machine's neighbours make things take at the median than in the fast state that kernels are
measured in; the reference probe shows it, now and again when the engine is deployed.

A plan is never priced with a timing of itself: whole runs of the same kernels in the same pool are
left out of its prediction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from planner.compress.base import NATIVE
from planner.cost.correction import Circumstances, Corrections, Factor, WholeRun
from planner.cost.table import CostTable
from planner.errors import ModelError
from planner.ir.cost import Cost
from planner.ir.problem import Latency
from planner.profiling.race import Contestant
from planner.profiling.timing import FAST_SHARE
from planner.runtime.fingerprint import usable_cores
from planner.spec.plan import Estimate
from planner.spec.session import SessionSettings
from planner.steps.bench import Bench, times_of
from planner.steps.prepare import Prepared
from planner.steps.racing import at_percentile, race
from planner.steps.variants import LEVELS, Variant
from planner.steps.workspace import Workspace, digest

CONTEXT_ROUNDS = 80
CONTEXT_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class PlanSetting:
    """A plan-wide setting with what was learnt of it."""

    session: SessionSettings
    tail_factor: float
    """Latency at the promise's percentile / p50, on the native variant."""
    slowness: float
    """The reference probe's p50 when whole models were timed / when kernels were."""

    @property
    def pool(self) -> str:
        """The thread pool's name, whatever the graph level."""
        return pool_name(self.session)


def pool_name(session: SessionSettings) -> str:
    """Threads, and whether idle ones spin."""
    return f"{session.intra_op_threads}{'' if session.spinning else ' sleeping'}"


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


@dataclass(frozen=True, slots=True)
class _Observed:
    """A whole variant that is timed to learn corrections."""

    variant: Variant
    session: SessionSettings

    @property
    def name(self) -> str:
        return f"{self.variant.name} {self.session.name}"


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
        self._references_us: dict[int, float] = {}
        self._tables: dict[int, CostTable] = {}
        self._corrections = Corrections(())
        self._factors: dict[tuple[str, str], Factor] = {}
        self._shares: dict[str, Mapping[str, float]] = {}

    def learn(self, variants: Sequence[Variant]) -> None:
        """Times every kernel of these variants, and some of them as a whole."""
        sessions = session_choices()
        for threads in sorted({session.intra_op_threads for session in sessions}):
            self.work.reporter.stage(f"profile ({threads} threads)")
            self.bench.measure([variant.executable for variant in variants], threads)
            self._tables[threads] = self._table(variants, threads)
        observed = [*_observed(variants, sessions), *self._rival(variants, sessions)]
        self._fit(observed, sessions)
        self.bench.rest()

    def _rival(
        self, variants: Sequence[Variant], sessions: Sequence[SessionSettings]
    ) -> Iterator[_Observed]:
        """The best compressed variant with all threads: what is learnt there of the native plan."""
        most = max(session.intra_op_threads for session in sessions)
        if most == 1:
            return
        rivals = [
            _Observed(variant, session)
            for session, variant in product(sessions, variants)
            if session.intra_op_threads == most and session.spinning
            if variant.realised and variant.level == session.graph_level
        ]
        if rivals:
            yield min(rivals, key=lambda e: self.sum_of_kernels(e.variant, e.session).expected_us)

    def _table(self, variants: Sequence[Variant], threads: int) -> CostTable:
        keys = [key for variant in variants for key in self.bench.keys(variant.executable, threads)]
        times = times_of(self.work, keys)
        seen = [time.reference_us for time in times.values() if time.threads == threads]
        if seen:
            self._references_us[threads] = float(np.quantile(seen, FAST_SHARE))
        return CostTable(times, self._references_us)

    def extend(self, variant: Variant, threads: int, shares: Mapping[str, float]) -> None:
        """Times what is new in one more variant; the state that prices belong to stays.

        Args:
            shares: format -> its share of the variant's time.
        """
        self._shares[variant.executable.key] = shares
        self.bench.measure([variant.executable], threads)
        keys = self.bench.keys(variant.executable, threads)
        table = self._tables[threads]
        self._tables[threads] = table.extended(times_of(self.work, keys))

    def reference_us(self, setting: int) -> float:
        """The reference probe's p50 in the state of the machine that predictions belong to."""
        chosen = self.settings[setting]
        return self._fast_us(chosen.session.intra_op_threads) * chosen.slowness

    def _fast_us(self, threads: int) -> float:
        """The reference probe while kernels were timed; pools whose kernels are all short have no
        time of their own, and one thread's stands in."""
        return self._references_us.get(threads, self._references_us[min(self._references_us)])

    def _fit(self, observed: Sequence[_Observed], sessions: Sequence[SessionSettings]) -> None:
        raced = self._whole_runs(observed)
        ran = [entry for entry in observed if entry.name in raced]
        native = {pool_name(e.session): raced[e.name] for e in ran if not e.variant.realised}
        if not native:
            raise ModelError(
                "ONNX Runtime cannot run the model in a process of its own",
                where=str(self.prepared.loaded.path),
                fix="run it once with ONNX Runtime alone: the reason shows there",
            )
        sessions = [session for session in sessions if pool_name(session) in native]
        for session in sessions:
            self._references_us.setdefault(
                session.intra_op_threads, native[pool_name(session)]["reference_us"]
            )
        self._corrections = Corrections([self._run(entry, raced[entry.name]) for entry in ran])
        self.settings = tuple(
            PlanSetting(
                session,
                tail_factor=_relative(native[pool_name(session)], self.percentile),
                slowness=native[pool_name(session)]["reference_us"]
                / self._fast_us(session.intra_op_threads),
            )
            for session in sessions
        )

    def _run(self, entry: _Observed, timed: Mapping[str, Any]) -> WholeRun:
        whole_us = timed["to_reference"] * self._fast_us(entry.session.intra_op_threads)
        total = self.sum_of_kernels(entry.variant, entry.session).expected_us
        at = self._circumstances(entry.variant, entry.session)
        return WholeRun(self._mark(entry.variant, entry.session), at, whole_us / total)

    def _mark(self, variant: Variant, session: SessionSettings) -> str:
        """The same for variants of the same kernels in the same pool."""
        keys = self.bench.keys(variant.executable, session.intra_op_threads)
        return digest(pool_name(session), keys)

    def _whole_runs(self, observed: Sequence[_Observed]) -> dict[str, dict[str, Any]]:
        names = [(e.name, e.variant.executable.key) for e in observed]
        key = digest(
            "context", self.prepared.sha256, names,
            self.bench.environment.device_digest, CONTEXT_ROUNDS,
        )  # fmt: skip

        def compute() -> dict[str, dict[str, Any]]:
            self.work.reporter.stage("whole runs")
            self.bench.rest()
            return race(
                [Contestant(e.name, e.variant.executable.build(), e.session) for e in observed],
                self.prepared.feeds_path, self.work,
                rounds=CONTEXT_ROUNDS, budget_s=CONTEXT_SECONDS,
                model_size_bytes=self.prepared.loaded.size_bytes,
            )  # fmt: skip

        found: dict[str, dict[str, Any]] = self.work.once("context", key, compute)
        return found

    def kernel_latency(self, variant: Variant, index: int, setting: int) -> Latency:
        """One kernel of a variant under a setting, corrected to its share of a whole."""
        chosen = self.settings[setting]
        threads = chosen.session.intra_op_threads
        key = self.bench.keys(variant.executable, threads)[index]
        return self._priced(self._tables[threads].cost(key), variant, chosen)

    def overhead(self, variant: Variant, setting: int) -> Latency:
        """What a call costs besides its kernels."""
        chosen = self.settings[setting]
        value = self.bench.overhead_us(variant.executable, chosen.session.intra_op_threads)
        return self._priced(Cost.exactly(value), variant, chosen)

    def _priced(self, cost: Cost, variant: Variant, chosen: PlanSetting) -> Latency:
        name = (variant.executable.key, chosen.session.name)
        if name not in self._factors:
            at = self._circumstances(variant, chosen.session)
            self._factors[name] = self._corrections.factor(at)
        factor, slow = self._factors[name], chosen.slowness
        return Latency(
            cost.low_us * factor.low * slow,
            cost.expected_us * factor.expected * slow,
            cost.high_us * factor.high * slow,
        )

    def sum_of_kernels(self, variant: Variant, session: SessionSettings) -> Cost:
        """Kernels plus call overhead, in the fast state, uncorrected."""
        threads = session.intra_op_threads
        keys = self.bench.keys(variant.executable, threads)
        total = self._tables[threads].total(keys)
        return total + Cost.exactly(self.bench.overhead_us(variant.executable, threads))

    def predict(self, variant: Variant, setting: int) -> Estimate:
        """p50 of a whole variant, from no whole run of its kernels in its pool."""
        chosen = self.settings[setting]
        at = self._circumstances(variant, chosen.session)
        mark = self._mark(variant, chosen.session)
        factor = self._corrections.factor(at, without={mark})
        total = self.sum_of_kernels(variant, chosen.session)
        return Estimate(
            low=total.low_us * factor.low * chosen.slowness,
            expected=total.expected_us * factor.expected * chosen.slowness,
            high=total.high_us * factor.high * chosen.slowness,
            source="measured",
        )

    def _circumstances(self, variant: Variant, session: SessionSettings) -> Circumstances:
        own = {_format_of(variant): 1.0}
        shares = self._shares.get(variant.executable.key, own)
        return Circumstances(pool_name(session), str(session.graph_level), shares)


def _observed(
    variants: Sequence[Variant], sessions: Sequence[SessionSettings]
) -> Iterator[_Observed]:
    """The native variant in every pool, and at its other level; each format with one thread."""
    most = max(session.intra_op_threads for session in sessions)
    best: dict[str, Variant] = {}
    for variant in variants:
        best.setdefault(_format_of(variant), variant)
    native = best[str(NATIVE)]
    for session, variant in product(sessions, best.values()):
        is_wanted = variant is native or session.intra_op_threads == 1
        if is_wanted and variant.level == session.graph_level:
            yield _Observed(variant, session)
    for session, variant in product(sessions, variants):
        is_other = not variant.realised and variant.level != native.level
        is_full = session.spinning and session.intra_op_threads == most
        if is_other and is_full and variant.level == session.graph_level:
            yield _Observed(variant, session)


def _format_of(variant: Variant) -> str:
    return str(variant.format if variant.realised else NATIVE)


def _relative(timed: Mapping[str, Any], percentile: float) -> float:
    return max(at_percentile(timed, percentile) / at_percentile(timed, 50.0), 1.0)
