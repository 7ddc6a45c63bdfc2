"""What everything costs: kernels timed alone, corrected by whole runs of other variants.

    p50 = sum of kernels * correction * slowness

`correction` (`planner/cost/correction.py`) is learnt from whole runs of uniform variants: the
native one under every thread pool, each compressed one under two. `slowness` is how much longer the
machine's neighbours make things take at the median than in the fastest state that whole runs saw;
the reference probe shows it, now and again when the engine is deployed, and
`planner/cost/tempo.py` how much of it the model feels. Prices of kernels belong to that state
(`planner/steps/kernel_prices.py`).

A plan is never priced with a timing of itself: whole runs of the same kernels in the same pool are
left out of its prediction. Every shape of the workload has whole runs and corrections of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.cost import tempo
from planner.cost.correction import Circumstances, Corrections, Factor, WholeRun, doubt
from planner.cost.table import ALONE
from planner.errors import ModelError
from planner.ir.cost import Cost
from planner.ir.problem import Latency
from planner.spec.plan import Estimate
from planner.spec.session import SessionSettings
from planner.steps.bench import Bench
from planner.steps.kernel_prices import KernelPrices
from planner.steps.prepare import Prepared
from planner.steps.setting import PlanSetting
from planner.steps.states import (
    beside,
    fast_states,
    feelings,
    tail,
    usual_state,
)
from planner.steps.variants import Variant
from planner.steps.whole_runs import (
    Observed,
    format_of,
    observed,
    session_choices,
    whole_runs,
)
from planner.steps.workspace import Workspace, digest


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
        self._kernels = KernelPrices(bench)
        self._corrections: tuple[Corrections, ...] = ()
        self._felt: dict[str, tempo.Feeling] = {}
        self._factors: dict[tuple[str, str, int], Factor] = {}
        self._shares: dict[str, Sequence[Mapping[str, float]]] = {}

    def learn(self, variants: Sequence[Variant]) -> None:
        """Times every kernel of these variants, and some of them as a whole."""
        sessions = session_choices()
        executables = [each for variant in variants for each in variant.executables]
        for threads in sorted({session.intra_op_threads for session in sessions}):
            self.work.reporter.stage(f"profile ({threads} threads)")
            self._kernels.learn(executables, threads)
            if threads == ALONE:  # while the process that measures it is there
                for each in variants[0].executables:
                    self.bench.overhead(each, ALONE)
                self.bench.change()
        self._fit(variants, sessions)
        self.bench.rest()

    def extend(self, variant: Variant, threads: int, shares: Sequence[Mapping[str, float]]) -> None:
        """Times what is new in one more variant; the state that prices belong to stays.

        Args:
            shares: for each workload shape, format -> its share of the variant's time.
        """
        self._shares[variant.executable.key] = shares
        self._kernels.extend(variant.executables, threads)

    def _fit(self, variants: Sequence[Variant], sessions: Sequence[SessionSettings]) -> None:
        raced = [self._raced(n, variants, sessions) for n in range(len(self.prepared.shapes))]
        native = [
            {e.session.pool: timed for e, timed in runs if not e.variant.realised} for runs in raced
        ]
        sessions = [s for s in sessions if all(s.pool in timed for timed in native)]
        if not sessions:
            raise ModelError(
                "ONNX Runtime cannot run the model in a process of its own",
                where=str(self.prepared.loaded.path),
                fix="run it once with ONNX Runtime alone: the reason shows there",
            )
        every_run = [run for runs in raced for run in runs]
        states = fast_states(every_run)
        self._kernels.bring(states)
        self._felt = feelings(every_run, variants[0].executables, self._kernels)
        self._kernels.bring(states, self._felt[sessions[0].pool].pace, self.bench.change())
        self._corrections = tuple(
            Corrections([self._run(entry, timed, number) for entry, timed in runs])
            for number, runs in enumerate(raced)
        )
        self.settings = tuple(self._setting(session, native, raced) for session in sessions)

    def _setting(
        self,
        session: SessionSettings,
        native: Sequence[Mapping[str, Mapping[str, Any]]],
        raced: Sequence[Sequence[tuple[Observed, Mapping[str, Any]]]],
    ) -> PlanSetting:
        pool = session.pool
        state, felt = usual_state(native, pool), self._felt[pool]
        return PlanSetting(
            session,
            tail_factors=tuple(tail(runs, pool, self.percentile) for runs in raced),
            state=state,
            felt=felt,
            slowness=tempo.slowness(state, self._kernels.states[session.intra_op_threads], felt),
        )

    def _run(self, entry: Observed, timed: Mapping[str, Any], shape: int) -> WholeRun:
        whole_us = tempo.fast_us(
            beside(timed),
            self._kernels.states[entry.session.intra_op_threads],
            self._felt[entry.session.pool],
        )
        total = self.sum_of_kernels(entry.variant, entry.session, shape)
        at = self._circumstances(entry.variant, entry.session, shape)
        mark = self._mark(entry.variant, entry.session, shape)
        return WholeRun(mark, at, whole_us / total.expected_us, doubt(total))

    def _mark(self, variant: Variant, session: SessionSettings, shape: int) -> str:
        """The same for variants of the same kernels in the same pool."""
        keys = self.bench.keys(variant.executables[shape], session.intra_op_threads)
        return digest(session.pool, keys)

    def _raced(
        self, number: int, variants: Sequence[Variant], sessions: Sequence[SessionSettings]
    ) -> list[tuple[Observed, Mapping[str, Any]]]:
        def sum_of_kernels(entry: Observed) -> float:
            return self.sum_of_kernels(entry.variant, entry.session, number).expected_us

        entries = observed(variants, sessions, sum_of_kernels)
        return whole_runs(entries, number, self.prepared, self.bench, self.work)

    def kernel_latency(self, variant: Variant, index: int, setting: int, shape: int) -> Latency:
        """One kernel of a variant under a setting, corrected to its share of a whole.

        `index` counts in the analysis of that shape.
        """
        chosen = self.settings[setting]
        threads = chosen.session.intra_op_threads
        cost = self._kernels.cost(variant.executables[shape], threads, index)
        return self._priced(cost, variant, chosen, shape)

    def overhead(self, variant: Variant, setting: int, shape: int) -> Latency:
        """What a call costs besides its kernels."""
        chosen = self.settings[setting]
        threads = chosen.session.intra_op_threads
        cost = Cost.exactly(self._kernels.overhead_us(variant.executables[shape], threads))
        return self._priced(cost, variant, chosen, shape)

    def _priced(self, cost: Cost, variant: Variant, chosen: PlanSetting, shape: int) -> Latency:
        name = (variant.executable.key, chosen.session.name, shape)
        if name not in self._factors:
            at = self._circumstances(variant, chosen.session, shape)
            self._factors[name] = self._corrections[shape].factor(at)
        factor, slow = self._factors[name], chosen.slowness
        return Latency(
            cost.low_us * factor.low * slow,
            cost.expected_us * factor.expected * slow,
            cost.high_us * factor.high * slow,
        )

    def sum_of_kernels(self, variant: Variant, session: SessionSettings, shape: int) -> Cost:
        """Kernels plus call overhead, in the fast state, uncorrected."""
        return self._kernels.total(variant.executables[shape], session.intra_op_threads)

    def predict(self, variant: Variant, setting: int) -> tuple[Estimate, ...]:
        """p50 of a whole variant per shape, from no whole run of its kernels in its pool."""
        return tuple(self._predict(variant, setting, n) for n in range(len(self.prepared.shapes)))

    def _predict(self, variant: Variant, setting: int, shape: int) -> Estimate:
        chosen = self.settings[setting]
        at = self._circumstances(variant, chosen.session, shape)
        mark = self._mark(variant, chosen.session, shape)
        factor = self._corrections[shape].factor(at, without={mark})
        total = self.sum_of_kernels(variant, chosen.session, shape)
        return Estimate(
            low=total.low_us * factor.low * chosen.slowness,
            expected=total.expected_us * factor.expected * chosen.slowness,
            high=total.high_us * factor.high * chosen.slowness,
            source="measured",
        )

    def _circumstances(
        self, variant: Variant, session: SessionSettings, shape: int
    ) -> Circumstances:
        known = self._shares.get(variant.executable.key)
        shares = known[shape] if known is not None else {format_of(variant): 1.0}
        lost_us = self._kernels.lost_where_met_us(variant.executables[shape], session)
        total_us = self.sum_of_kernels(variant, session, shape).expected_us
        return Circumstances(session, shares, lost_us / total_us)
