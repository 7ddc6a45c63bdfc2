"""Who may ship: the solver's plan, the best uniform variants, the native graph."""

from __future__ import annotations

from collections.abc import Mapping

from planner.compress.base import NATIVE, Format
from planner.steps.case import Case
from planner.steps.contest import Entrant
from planner.steps.settle import Settled
from planner.steps.shapes import weighted
from planner.steps.variants import Variant

_UNIFORM_ENTRANTS = 3
"""Best-predicted uniform variants that are timed beside the plan; the native one comes on top."""


def probes(case: Case) -> list[tuple[float, float]]:
    """(sum of sensitivities, measured joint error) of each uniform variant: fits the error model.

    Sums above 1 are left out: answers as wrong as that say nothing about small errors.
    """
    found: dict[str, tuple[float, float]] = {}
    for variant in case.variants:
        summed = error_sum(variant, case.errors)
        if variant.realised and 0 < summed < 1 and variant.executable.key not in found:
            found[variant.executable.key] = (summed, case.accuracy.error(variant))
    return list(found.values())


def error_sum(variant: Variant, errors: Mapping[tuple[str, Format], float]) -> float:
    """Sum of the sensitivities of everything the variant compresses."""
    return sum(errors.get((op, form), 0.0) for op, form in variant.realised.items())


def entrants(case: Case, settled: Settled) -> list[Entrant]:
    """The plan first, then uniform variants within the budget, best predicted first.

    A uniform variant that equals the plan is not entered twice.
    """
    session = case.pricing.settings[settled.setting].session
    plan = Entrant(
        "plan", "plan", settled.variant, session, settled.setting, settled.predicted,
        weighted(case.prepared.shapes, settled.predicted).expected, settled.measured,
    )  # fmt: skip
    found = [plan]
    taken = {(settled.variant.executable.key, session.name)}
    by_format: dict[Format, Entrant] = {}
    for variant in case.variants:
        candidate = _best_setting(case, variant)
        if candidate is None or (variant.executable.key, candidate.session.name) in taken:
            continue
        known = by_format.get(variant.format)
        if known is None or candidate.expected_us < known.expected_us:
            by_format[variant.format] = candidate
    native = by_format.pop(NATIVE, None)
    if case.choices.bound:
        native = None  # it breaks what was pinned
    ranked = sorted(by_format.values(), key=lambda entrant: entrant.expected_us)
    for entrant in ranked:
        if len(found) > _UNIFORM_ENTRANTS:
            break
        if case.accuracy.keeps(entrant.measured):
            found.append(entrant)
    return [*found, native] if native is not None else found


def _best_setting(case: Case, variant: Variant) -> Entrant | None:
    """The variant under its best predicted setting, or None where its error breaks the budget."""
    pricing, accuracy = case.pricing, case.accuracy
    limit = accuracy.budget.max_error
    if variant.realised and limit is not None and accuracy.error(variant) > limit:
        return None
    fitting = [
        (weighted(case.prepared.shapes, pricing.predict(variant, index)).expected, index)
        for index, setting in enumerate(pricing.settings)
        if setting.session.graph_level == variant.level
    ]
    expected_us, index = min(fitting)
    session = pricing.settings[index].session
    name = f"{variant.format if variant.realised else 'native'} ({session.name})"
    return Entrant(
        name, "uniform", variant, session, index, pricing.predict(variant, index), expected_us,
        accuracy.measure(variant),
    )  # fmt: skip
