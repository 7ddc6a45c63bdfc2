"""From variants, prices and errors to the problem; the solver does the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from planner.compress.base import NATIVE, Format
from planner.fuse.forms import resolve
from planner.fuse.options import Variant as PricedVariant
from planner.fuse.options import conversions, offer
from planner.fuse.regions import partition
from planner.graph.analysis import peak_activation_bytes
from planner.ir.graph import Graph
from planner.ir.problem import Latency, Limits, Objective, Option, Problem, Setting, State
from planner.ir.solution import Solution
from planner.spec.constraints import Constraints
from planner.steps.bench import Bench
from planner.steps.pricing import Pricing
from planner.steps.variants import Variant

OBJECTIVES: Mapping[str, tuple[Objective, ...]] = {
    "cost": (Objective.LATENCY, Objective.ERROR),
    "latency": (Objective.LATENCY, Objective.ERROR),
    "memory": (Objective.MEMORY, Objective.LATENCY),
    "energy": (Objective.LATENCY, Objective.ERROR),
    "error": (Objective.ERROR, Objective.LATENCY),
}
"""The user's word -> what is minimised, in order. One device costs the same whatever runs on it,
and under full load it draws the same power: there, cost and energy come down to latency."""


@dataclass(frozen=True)
class Posed:
    """The problem, with the way back from its names to the model."""

    problem: Problem
    formats: Mapping[str, Mapping[str, Format]]
    """Option name -> operator -> format."""
    sessions: Mapping[str, int]
    """Setting name -> index into the pricing's settings."""

    def assignment(self, solution: Solution) -> dict[str, Format]:
        """Operator -> format; native ones are absent."""
        found: dict[str, Format] = {}
        for name in solution.chosen:
            found.update(self.formats[name])
        return found

    def shares(self, solution: Solution) -> dict[str, float]:
        """Format -> its share of the time, over all workload shapes."""
        setting = self.sessions[solution.setting or ""]
        weights = self.problem.shape_weights
        found: dict[str, float] = {}
        for option in (self.options[name] for name in solution.chosen):
            priced = zip(weights, option.latency[setting], strict=True)
            time_us = sum(weight * cost.expected_us for weight, cost in priced if cost)
            formats = {str(form) for form in self.formats[option.name].values()} or {str(NATIVE)}
            for form in formats:
                found[form] = found.get(form, 0.0) + time_us / len(formats)
        total = sum(found.values())
        return {form: time_us / total for form, time_us in found.items()} if total > 0 else {}

    @cached_property
    def options(self) -> Mapping[str, Option]:
        """By name."""
        return {option.name: option for option in self.problem.options}


def pose(
    constraints: Constraints,
    graph: Graph,
    variants: Sequence[Variant],
    pricing: Pricing,
    bench: Bench,
    errors: Mapping[tuple[str, Format], float],
) -> Posed:
    """The problem of one device: C1, C4, C5, C8, C9 and C10 of the design."""
    sized = {name: tensor.size_bytes for name, tensor in graph.tensors.items()}
    priced = [cut(graph, variant, pricing, bench) for variant in variants]
    count = len(pricing.settings)
    plain_errors = {(op, str(form)): value for (op, form), value in errors.items()}
    offered = offer(graph, priced, plain_errors, settings=count, shapes=1)
    changes = conversions(priced, offered.options, sized, settings=count, shapes=1)
    native = next(variant for variant in variants if not variant.realised)
    problem = Problem(
        ops=tuple(op.name for op in graph.ops),
        edges=_edges(graph),
        options=offered.options,
        settings=tuple(
            Setting(
                setting.session.name,
                (pricing.overhead(native, index),),
                tail_factor=setting.tail_factor,
            )
            for index, setting in enumerate(pricing.settings)
        ),
        conversions=changes,
        given=tuple(State(name, "plain") for name in graph.inputs),
        wanted=_wanted(graph, offered.options),
        activation_size_bytes=peak_activation_bytes(graph),
        limits=limits(constraints),
        objectives=OBJECTIVES[constraints.objective],
    )
    names = {setting.session.name: index for index, setting in enumerate(pricing.settings)}
    formats = {
        name: {op: Format(form) for op, form in taken.items()}
        for name, taken in offered.formats.items()
    }
    return Posed(problem, formats, names)


def limits(constraints: Constraints) -> Limits:
    """The user's requests as the solver's limits."""
    promise = constraints.promise
    return Limits(
        latency_us=promise.latency_us,
        memory_size_bytes=promise.memory_size_bytes,
        error=promise.max_error,
        throughput_per_s=promise.throughput_per_s,
    )


def with_error_limit(problem: Problem, error: float | None) -> Problem:
    """The same problem with a tighter error budget."""
    return replace(problem, limits=replace(problem.limits, error=error))


def cut(graph: Graph, variant: Variant, pricing: Pricing, bench: Bench) -> PricedVariant:
    analysis = bench.analysis(variant.executable)
    forms = resolve(graph, variant.nodes, analysis.kernels)
    captured = [kernel.captured for kernel in analysis.kernels]
    found = partition(graph, analysis.kernels, forms, captured, analysis.constants)

    def price(kernel: int, setting: int, shape: int) -> Latency:
        del shape
        return pricing.kernel_latency(variant, kernel, setting)

    level = variant.level
    return PricedVariant(
        name=variant.name,
        partition=found,
        formats={op: str(form) for op, form in variant.realised.items()},
        settings=tuple(
            index
            for index, setting in enumerate(pricing.settings)
            if setting.session.graph_level == level
        ),
        price=price,
        weight_size_bytes=lambda kernel: analysis.kernels[kernel].constant_size_bytes,
    )


def _edges(graph: Graph) -> tuple[tuple[str, str], ...]:
    producer = graph.producer()
    found: dict[tuple[str, str], None] = {}
    for op in graph.ops:
        for name in (*op.inputs, *op.captured):
            if name in producer:
                found[producer[name].name, op.name] = None
    return tuple(found)


def _wanted(graph: Graph, offered: Sequence[Option]) -> tuple[State, ...]:
    """Outputs that some option makes; what ONNX Runtime folded into a constant is there anyway."""
    made = {state for option in offered for state in option.makes}
    states = (State(name, "plain") for name in dict.fromkeys(graph.outputs))
    return tuple(state for state in states if state in made)
