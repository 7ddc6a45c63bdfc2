"""The last step of planning: the contest, and what came of it as a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.compress.base import Format
from planner.spec.constraints import Constraints
from planner.spec.plan import AccuracyReport, Plan
from planner.spec.session import SessionSettings
from planner.steps.accuracy import Accuracy
from planner.steps.bench import Bench
from planner.steps.choose import Posed, cut
from planner.steps.contest import Entrant, contest
from planner.steps.document import Material, document
from planner.steps.entrants import error_sum
from planner.steps.prepare import Prepared
from planner.steps.pricing import Pricing
from planner.steps.settle import Settled
from planner.steps.variants import Choices, Variant
from planner.steps.workspace import Workspace


def finish(
    constraints: Constraints,
    prepared: Prepared,
    offered: Choices,
    posed: Posed,
    settled: Settled,
    rivals: Sequence[Entrant],
    uniform: Sequence[Variant],
    accuracy: Accuracy,
    pricing: Pricing,
    bench: Bench,
    errors: Mapping[tuple[str, Format], float],
    work: Workspace,
) -> Plan:
    """Times the rivals, takes the winner, writes down why."""
    outcome = contest(constraints, prepared, rivals, work, bench.environment.device_digest)
    winner = outcome.winner
    native = next(variant for variant in uniform if not variant.realised)
    shipped = winner.variant if winner else native
    setting = winner.setting if winner else _plain_setting(pricing)
    predicted = winner.predicted if winner else pricing.predict(native, setting)
    chosen = pricing.settings[setting]
    material = Material(
        constraints=constraints,
        environment=bench.environment,
        prepared=prepared,
        choices=offered,
        posed=posed,
        settled=settled,
        outcome=outcome,
        shipped=shipped,
        cut=cut(prepared.graph, shipped, pricing, bench),
        session=chosen.session if winner else SessionSettings(),
        setting=setting,
        predicted=predicted,
        tail_factor=chosen.tail_factor,
        errors=errors,
        accuracy=_accuracy(accuracy, settled, winner, shipped, errors),
        machine_state_us=pricing.reference_us(chosen.session.intra_op_threads),
        memory_size_bytes=_memory(settled, posed, shipped, bench),
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
    accuracy: Accuracy,
    settled: Settled,
    winner: Entrant | None,
    shipped: Variant,
    errors: Mapping[tuple[str, Format], float],
) -> AccuracyReport:
    measured = accuracy.measure_fully(shipped)
    is_plan = winner is not None and winner.kind == "plan"
    predicted = settled.predicted_error if is_plan else error_sum(shipped, errors)
    basis = settled.basis if shipped.realised else "proved"
    return accuracy.report(measured, predicted, settled.refused, basis)


def _memory(settled: Settled, posed: Posed, shipped: Variant, bench: Bench) -> int:
    totals = settled.solution.totals
    if shipped is settled.variant and totals is not None:
        return totals.memory_size_bytes
    weights = bench.analysis(shipped.executable).constant_size_bytes
    return weights + posed.problem.activation_size_bytes
