"""All that is known of a request before anything is decided: the case that the solver is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.compress.base import Format
from planner.ir.graph import Graph
from planner.spec.constraints import Constraints
from planner.steps.accuracy import Accuracy
from planner.steps.bench import Bench
from planner.steps.choices import Choices, choices
from planner.steps.choose import Posed, pose
from planner.steps.prepare import Prepared, prepare
from planner.steps.pricing import Pricing
from planner.steps.process import runtime_bytes
from planner.steps.variants import Variant, observed, variants
from planner.steps.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Case:
    """One request, measured: what may be chosen, what it costs, what it does to the answers."""

    constraints: Constraints
    work: Workspace
    bench: Bench
    prepared: Prepared
    choices: Choices
    variants: Sequence[Variant]
    """Uniform variants, native ones first."""
    graphs: tuple[Graph, ...]
    """The same operators, with the sizes that tensors have under each workload shape."""
    pricing: Pricing
    accuracy: Accuracy
    errors: Mapping[tuple[str, Format], float]
    """(operator, format) -> NMSE at the outputs, that choice alone."""
    posed: Posed

    @property
    def native(self) -> Variant:
        """The model in its own formats."""
        return next(variant for variant in self.variants if not variant.realised)


def open_case(constraints: Constraints, work: Workspace, bench: Bench) -> Case:
    """Loads, simplifies, proposes, prices and weighs; measures what the store does not know.

    Raises:
        UsageError: something is wrong with the request, the model or the data.
    """
    prepared = prepare(constraints, work)
    accuracy = Accuracy(constraints, prepared, work)
    accuracy.baseline()  # evaluation data that does not fit is told before anything is measured
    offered = choices(constraints, prepared, work)
    uniform = variants(prepared, offered, work, bench)
    graphs = observed(prepared, uniform, bench)

    pricing = Pricing(prepared, bench, work, constraints.promise.latency_percentile)
    pricing.learn(uniform)
    errors = accuracy.sensitivities(offered)

    is_here = all(setting.session.provider == "cpu" for setting in pricing.settings)
    process = runtime_bytes(work) if is_here else 0
    posed = pose(constraints, prepared, graphs, uniform, pricing, errors, process, offered.bound)
    return Case(
        constraints,
        work,
        bench,
        prepared,
        offered,
        uniform,
        graphs,
        pricing,
        accuracy,
        errors,
        posed,
    )
