"""The last step of planning: what was decided, as a document."""

from __future__ import annotations

from planner.spec.plan import AccuracyReport, Plan
from planner.spec.session import SessionSettings
from planner.steps.case import Case
from planner.steps.choose import cut
from planner.steps.contest import Entrant, Outcome
from planner.steps.document import Material, document
from planner.steps.entrants import error_sum
from planner.steps.pricing import Pricing
from planner.steps.settle import Settled
from planner.steps.variants import Variant


def finish(case: Case, settled: Settled, outcome: Outcome) -> Plan:
    """What was decided, with everything that backs it."""
    winner, pricing = outcome.winner, case.pricing
    shipped = winner.variant if winner else case.native
    setting = winner.setting if winner else _plain_setting(pricing)
    predicted = winner.predicted if winner else pricing.predict(case.native, setting)
    chosen = pricing.settings[setting]
    material = Material(
        case=case,
        settled=settled,
        outcome=outcome,
        shipped=shipped,
        cut=cut(case.prepared.graph, shipped, pricing),
        session=chosen.session if winner else SessionSettings(),
        setting=setting,
        predicted=predicted,
        tail_factors=chosen.tail_factors,
        accuracy=_accuracy(case, settled, winner, shipped),
        state=chosen.state,
        felt=chosen.felt,
        memory_size_bytes=_memory(case, settled, shipped),
    )
    return document(material)


def _plain_setting(pricing: Pricing) -> int:
    """The setting that ONNX Runtime's defaults amount to: all cores, all optimisations."""
    threads = max(setting.session.intra_op_threads for setting in pricing.settings)
    return next(
        index
        for index, setting in enumerate(pricing.settings)
        if setting.session.intra_op_threads == threads
    )


def _accuracy(
    case: Case, settled: Settled, winner: Entrant | None, shipped: Variant
) -> AccuracyReport:
    measured = case.accuracy.measure_fully(shipped)
    is_plan = winner is not None and winner.kind == "plan"
    predicted = settled.predicted_error if is_plan else error_sum(shipped, case.errors)
    basis = settled.basis if shipped.realised else "proved"
    return case.accuracy.report(measured, predicted, settled.refused, basis)


def _memory(case: Case, settled: Settled, shipped: Variant) -> int:
    totals = settled.solution.totals
    if shipped is settled.variant and totals is not None:
        return totals.memory_size_bytes
    weights = case.bench.analysis(shipped.executable).constant_size_bytes
    return weights + case.posed.problem.activation_size_bytes
