"""What a plan chose: formats, who computes what, and each layer's decision with its runner-up."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from planner.ir.solution import Stage
from planner.place.groups import weight_of
from planner.place.variant import Variant
from planner.spec.execution import Cut, StageExecution
from planner.spec.plan import Decision, RunnerUp
from planner.steps.away.answer import Answer, cuts, style
from planner.steps.away.streams import residency
from planner.units import format_size

_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Formats that are types of a model's own."""


class Choices(Answer):
    """Writes them."""

    def formats(self) -> dict[str, str]:
        """Of operators with weights; those that keep the model's own are not in it."""
        graph = self._posed.skeleton.graph
        own = {op.name: graph.tensors[w].dtype for op in graph.ops if (w := weight_of(op, graph))}
        found: dict[str, str] = {}
        for *_, variant in self._chosen():
            form = variant.option.format
            weighted = self._posed.groups[variant.group].weighted
            found |= {name: form for name in weighted if own[name] != _DTYPES.get(form)}
        return dict(sorted(found.items()))

    def execution(self) -> tuple[StageExecution, ...]:
        """Who computes what; empty where one device does all and keeps all weights."""
        totals = self._solution.totals
        if totals is None:
            return ()
        if totals.devices == 1:
            return tuple(self._streamed())
        return tuple(self._sharded())

    def _sharded(self) -> Iterator[StageExecution]:
        """Stages on ranks of their own."""
        degrees = {place.name: place.degree for place in self._best.problem.places}
        named = {op.name for op in self._posed.skeleton.graph.ops}  # copies are not the model's
        first = 0
        for stage in self._solution.stages:
            degree = degrees[stage.place]
            ops: list[str] = []
            shared: dict[str, Cut] = {}
            for variant in self._variants(stage):
                ops += [op.name for op in self._posed.groups[variant.group].ops]
                own = cuts(self._posed.offers.spread_of(variant))
                shared |= {name: cut for name, cut in own.items() if name in named}
            ranks = tuple(range(first, first + degree))
            yield StageExecution(device="cuda", ranks=ranks, ops=tuple(ops), cuts=shared)
            first += degree

    def _streamed(self) -> Iterator[StageExecution]:
        """Parts of one device; none where no weights stream."""
        (stage,) = self._solution.stages
        parts, names = self._parts, iter(self._variants(stage))
        if not parts.is_streamed:
            return
        for run, counts in zip(parts.runs, parts.counts, strict=True):
            for count in counts:
                groups = [self._posed.groups[v.group] for v in islice(names, count)]
                ops = tuple(op.name for group in groups for op in group.ops)
                yield StageExecution(device="cuda", ops=ops, is_streamed=run.is_streamed)

    def decisions(self) -> Iterator[Decision]:
        """One for each operator with weights; a group without any speaks for its first."""
        kinds = {op.name: op.kind for op in self._posed.skeleton.graph.ops}
        rivals = self._rivals()
        for number, stage, variant in self._chosen():
            option, group = variant.option, self._posed.groups[variant.group]
            names = group.weighted or (group.ops[0].name,)
            reason = self._reason(variant, stage, number)
            for position, name in enumerate(names):
                yield Decision(
                    op=name,
                    op_type=kinds[name],
                    group=group.name,
                    format=option.format,
                    predicted_us=self._weighted(option.latency[0]) if position == 0 else 0.0,
                    error=option.error / len(names),
                    reason=reason,
                    runner_up=rivals.get(option.name),
                )

    def _reason(self, variant: Variant, stage: Stage, number: int) -> str:
        parts = [f"stage {number + 1}"] if len(self._solution.stages) > 1 else []
        parts.append(style(self._posed.offers.spread_of(variant)))
        if variant.again:
            parts.append(f"makes again: {', '.join(variant.again)}")
        where = residency(variant, stage)
        if where != "device":
            size = format_size(variant.priced.weight_size_bytes)
            source = "host memory" if where == "host" else "a neighbour"
            parts.append(f"{size} stream from {source}")
        return "; ".join(parts)

    def _rivals(self) -> dict[str, RunnerUp]:
        """The cheapest other format at the same place and ends, everything else as it is."""
        by_ends: dict[object, list[Variant]] = {}
        for variant in self._posed.variants.values():
            by_ends.setdefault(_ends(variant), []).append(variant)
        found = {}
        for *_, variant in self._chosen():
            others = [
                each
                for each in by_ends[_ends(variant)]
                if each.option.format != variant.option.format
            ]
            if others:
                best = min(others, key=lambda each: self._weighted(each.option.latency[0]))
                found[variant.option.name] = self._rival(variant, best)
        return found

    def _rival(self, chosen: Variant, other: Variant) -> RunnerUp:
        mine, its = chosen.option, other.option
        error = its.error - mine.error
        size = its.weight_size_bytes - mine.weight_size_bytes
        delta = self._weighted(its.latency[0]) - self._weighted(mine.latency[0])
        if delta >= 0:
            reason = "slower"
        elif size > 0:
            reason = f"{format_size(size)} more in each device"
        else:
            reason = "more error than the budget leaves" if error > 0 else "worse in the whole plan"
        return RunnerUp(format=its.format, delta_us=delta, delta_error=error, reason=reason)


def _ends(variant: Variant) -> tuple[object, ...]:
    """What a variant must have in common with one that could stand in its place."""
    option = variant.option
    return option.ops, option.place, option.needs, option.makes, variant.residency
