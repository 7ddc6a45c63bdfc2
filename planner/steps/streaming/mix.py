"""One model out of the ways that its runs take: built, and its answers measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from planner.compress.base import Format
from planner.place.chunks import Chunk
from planner.spec.plan import Plan
from planner.steps.case import Case
from planner.steps.entrants import error_sum, probes
from planner.steps.files import Files
from planner.steps.settle import LOOSE_ERROR, tighter
from planner.steps.streaming.model import Model, open_model
from planner.steps.streaming.ways import Way
from planner.steps.variants import Variant, make_variant
from planner.steps.workspace import Workspace

_MOST_TIGHTENED = 3
"""After that many mixes whose answers are not good enough every operator keeps its format."""


@dataclass(frozen=True, slots=True)
class Mix:
    """One model."""

    model: Model
    variant: Variant | None = None
    """None: formats were chosen before, and stay."""
    formats: Mapping[str, Format] = field(default_factory=dict)
    """Operator -> format really built; its own where absent."""


class Mixer(Protocol):
    """Makes a model of ways."""

    @property
    def ways(self) -> Sequence[Way]:
        """The first is what runs are cut in."""

    @property
    def error_limit(self) -> float | None:
        """What errors of ways may add up to, as far as is known by now."""

    def mixed(self, runs: Sequence[Chunk], labels: Sequence[str]) -> Mix | None:
        """The model whose runs take these ways; None where its answers are not good enough: less
        error is allowed from then on."""


class Alone:
    """Formats were chosen before: one way."""

    def __init__(self, model: Model) -> None:
        self.ways = (Way("", model, {}, {}),)
        self.error_limit: float | None = None

    def mixed(self, runs: Sequence[Chunk], labels: Sequence[str]) -> Mix | None:
        """See `Mixer`."""
        return Mix(self.ways[0].model)


class Jointly:
    """Every run in any format that the request allows: uniform variants, and the mix that was
    chosen as if memory were no matter."""

    def __init__(self, case: Case, plan: Plan, files: Files, work: Workspace) -> None:
        self.case = case
        self._plan, self._files, self._work = plan, files, work
        self._tightened = 0
        self.scale = case.accuracy.model(probes(case)).scale
        self._allowed = case.constraints.accuracy.max_error or LOOSE_ERROR
        limit = self._allowed / self.scale
        self.error_limit: float | None = limit
        self.ways: tuple[Way, ...] = tuple(way for way in self._ways() if way.may_keep(limit))

    def _ways(self) -> list[Way]:
        chosen = {op: Format(form) for op, form in self._plan.formats.items()}
        found: dict[str, Way] = {}
        for variant in (*self.case.variants, self._variant(chosen)):
            key = variant.executable.key
            if key in found:
                continue
            label = str(variant.format) if variant in self.case.variants else "mixed"
            errors = {
                op: self.case.errors.get((op, form), 0.0) for op, form in variant.realised.items()
            }
            found[key] = Way(label, self._model(variant), variant.realised, errors)
        return list(found.values())

    def _variant(self, assignment: Mapping[str, Format]) -> Variant:
        level = self._plan.settings.graph_level
        prepared, calibration = self.case.prepared, self.case.choices.calibration
        return make_variant(prepared, calibration, dict(assignment), "plan", level, self._work)

    def _model(self, variant: Variant) -> Model:
        return open_model(self._plan, variant.executable.build(), self._files, self._work)

    def mixed(self, runs: Sequence[Chunk], labels: Sequence[str]) -> Mix | None:
        """See `Mixer`."""
        by_label = {way.label: way for way in self.ways}
        assignment: dict[str, Format] = {}
        for run, label in zip(runs, labels, strict=True):
            assignment.update(by_label[label].formats_of(run))
        variant = self._variant(assignment)
        accuracy = self.case.accuracy
        measured = accuracy.measure(variant)
        if accuracy.keeps(measured):
            return Mix(self._model(variant), variant, variant.realised)
        self._tightened += 1
        summed = error_sum(variant, self.case.errors)
        less = tighter(self._allowed, summed, measured, accuracy)
        self.error_limit = less if self._tightened < _MOST_TIGHTENED else 0.0
        self._work.reporter.note(
            f"joint error {measured.error:.3g}, or a drop, is too much: solving again, tighter"
        )
        return None
