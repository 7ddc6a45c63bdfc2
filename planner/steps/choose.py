"""From variants, prices and errors to the problem; the solver does the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from planner.compress.base import NATIVE, Format
from planner.errors import ModelError
from planner.fuse.forms import resolve
from planner.fuse.options import Prices, conversions, offer
from planner.fuse.options import Variant as PricedVariant
from planner.fuse.regions import partition
from planner.graph.analysis import peak_activation_bytes
from planner.ir.graph import Graph
from planner.ir.problem import Latency, Limits, Objective, Option, Problem, Setting, State
from planner.ir.solution import Solution
from planner.spec.constraints import Constraints
from planner.steps.analysis import Analysis
from planner.steps.pinned import Bound, without_others
from planner.steps.prepare import Prepared
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

    def shares(self, solution: Solution, shape: int) -> dict[str, float]:
        """Format -> its share of the time of one workload shape."""
        setting = self.sessions[solution.setting or ""]
        found: dict[str, float] = {}
        for option in (self.options[name] for name in solution.chosen):
            cost = option.latency[setting][shape]
            time_us = cost.expected_us if cost is not None else 0.0
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
    prepared: Prepared,
    graphs: Sequence[Graph],
    variants: Sequence[Variant],
    pricing: Pricing,
    errors: Mapping[tuple[str, Format], float],
    process_bytes: int = 0,
    bound: Bound = MappingProxyType({}),
) -> Posed:
    """The problem of one device: C1, C4, C5, C8, C9 and C10 of the design.

    Args:
        graphs: the same operators, with the sizes of each workload shape.
        process_bytes: what counts as memory besides weights and activations.
        bound: operators that may not stay native.
    """
    graph = graphs[0]
    sized = [{name: tensor.size_bytes for name, tensor in g.tensors.items()} for g in graphs]
    priced = [cut(graph, variant, pricing) for variant in variants]
    count = len(pricing.settings)
    plain_errors = {(op, str(form)): value for (op, form), value in errors.items()}
    offered = offer(graph, priced, plain_errors, settings=count, shapes=len(graphs))
    options = without_others(offered.options, offered.formats, bound)
    changes = conversions(priced, options, sized, settings=count)
    native = next(variant for variant in variants if not variant.realised)
    names = {setting.session.name: index for index, setting in enumerate(pricing.settings)}
    problem = Problem(
        ops=tuple(op.name for op in graph.ops),
        edges=_edges(graph),
        options=options,
        settings=_settings(pricing, native, shapes=len(graphs)),
        shape_weights=tuple(shape.share for shape in prepared.shapes),
        conversions=changes,
        given=tuple(State(name, "plain") for name in graph.inputs),
        wanted=_wanted(graph, options),
        activation_size_bytes=process_bytes + max(map(peak_activation_bytes, graphs)),
        limits=limits(constraints),
        objectives=OBJECTIVES[constraints.objective],
    )
    formats = {
        name: {op: Format(form) for op, form in taken.items()}
        for name, taken in offered.formats.items()
    }
    return Posed(problem, formats, names)


def _settings(pricing: Pricing, native: Variant, *, shapes: int) -> tuple[Setting, ...]:
    """Plan-wide settings; no tail is certain (`PlanSetting.tail_factors`)."""
    return tuple(
        Setting(
            setting.session.name,
            tuple(pricing.overhead(native, index, shape) for shape in range(shapes)),
            tail_factors=setting.tail_factors,
            tail_low_factors=(1.0,) * shapes,
        )
        for index, setting in enumerate(pricing.settings)
    )


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


def only_shape(problem: Problem, shape: int) -> Problem:
    """What one workload shape alone asks: a relaxation, for the other shapes cost time as well."""
    return replace(
        problem,
        options=tuple(replace(o, latency=_column(o.latency, shape)) for o in problem.options),
        conversions=tuple(
            replace(c, latency=_column(c.latency, shape)) for c in problem.conversions
        ),
        settings=tuple(_of_shape(s, shape) for s in problem.settings),
        shape_weights=(problem.shape_weights[shape],),
    )


def _of_shape(setting: Setting, shape: int) -> Setting:
    return replace(
        setting,
        overhead=(setting.overhead[shape],),
        tail_factors=(setting.tail(shape),),
        tail_low_factors=(setting.tail(shape, is_low=True),),
    )


def _column(table: Prices, shape: int) -> Prices:
    return tuple((row[shape],) for row in table)


def cut(graph: Graph, variant: Variant, pricing: Pricing) -> PricedVariant:
    """The variant's regions, priced for every workload shape."""
    analysis, *others = [pricing.bench.analysis(each) for each in variant.executables]
    places = [range(len(analysis.kernels)), *(_aligned(analysis, other) for other in others)]
    forms = resolve(graph, variant.nodes, analysis.kernels)
    captured = [kernel.captured for kernel in analysis.kernels]
    found = partition(graph, analysis.kernels, forms, captured, analysis.constants)

    def price(kernel: int, setting: int, shape: int) -> Latency:
        return pricing.kernel_latency(variant, places[shape][kernel], setting, shape)

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


def _aligned(one: Analysis, other: Analysis) -> list[int]:
    """Where each kernel of an optimised file stands when it is optimised again: by what it makes.

    Raises:
        ModelError: ONNX Runtime did not optimise the file into the same kernels.
    """
    place = {kernel.outputs: index for index, kernel in enumerate(other.kernels)}
    found = [place.get(kernel.outputs) for kernel in one.kernels]
    if len(one.kernels) != len(other.kernels) or None in found:
        raise ModelError(
            "ONNX Runtime optimised the model differently for another workload shape",
            fix="infopt cache clear, then plan again; or plan each shape for itself",
        )
    return [index for index in found if index is not None]


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
