"""The `placement` section: stages, groups, where time goes, and the alternatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planner.ir.solution import Stage
from planner.place.spending import Parts
from planner.place.variant import Variant
from planner.spec.placement import (
    Alternative,
    Breakdown,
    GroupPlan,
    MemoryBar,
    PlacementPlan,
    StagePlan,
)
from planner.steps.away.answer import (
    expected,
    layout,
    per_query,
    streamed,
    style,
)
from planner.steps.away.offers import whole_ops
from planner.steps.away.remade import remade
from planner.steps.away.search import Found
from planner.steps.away.slo_cost import Promised
from planner.steps.away.streams import residency
from planner.units import format_duration, format_size

_ROUNDING = 1e-9
"""Of a sum of some thousand numbers, relative to it, generously."""


class Record(Promised):
    """Writes the section."""

    def placement(self) -> PlacementPlan:
        totals = self._solution.totals
        assert totals is not None
        query = self._query(self._solution)
        price = self._price(self._solution)
        return PlacementPlan(
            device=self._away.device.name,
            node=self._away.node.name if self._away.node is not None else None,
            devices=totals.devices,
            layout=layout(self._solution, self._best),
            base_format=self._posed.offer.base,
            stages=tuple(self._stages()),
            groups=tuple(self._groups()),
            recomputed=remade(self._posed, [each for *_, each in self._chosen()], self._names),
            breakdown=self._breakdown(),
            query=query,
            price_per_hour=price,
            price_per_query=per_query(price, query.expected),
            price_source=self._away.price_source,
            energy_per_query_j=self._energy(self._solution),
            alternatives=tuple(map(self._alternative, (self._best, *self._others))),
            slo_cost=self.slo_cost(),
            excluded=self._posed.offer.excluded,
            whole_ops=whole_ops(self._posed),
            error_basis=self._posed.error_basis,
        )

    def _stages(self) -> list[StagePlan]:
        totals = self._solution.totals
        assert totals is not None
        degrees = {place.name: place.degree for place in self._best.problem.places}
        sizes = {each.name: each.size_bytes for each in self._best.problem.transfers}
        found = []
        for number, stage in enumerate(self._solution.stages):
            variants = self._variants(stage)
            received = [sizes[name] for name, _ in stage.transfers]
            found.append(
                StagePlan(
                    devices=degrees[stage.place],
                    groups=len(variants),
                    first=self._posed.groups[variants[0].group].name,
                    ops=sum(len(self._posed.groups[v.group].ops) for v in variants),
                    memory=self._memory(variants, stage, totals.stage_memory_size_bytes[number]),
                    streamed_size_bytes=streamed(variants, stage),
                    formats=self._count_formats(variants),
                    latency_us={
                        name: sum(expected(v.option.latency[0][n]) for v in variants)
                        for n, name in enumerate(self._names)
                    },
                    receives_size_bytes={
                        name: sum(each[n] for each in received)
                        for n, name in enumerate(self._names)
                        if received
                    },
                )
            )
        return found

    def _memory(self, variants: Sequence[Variant], stage: Stage, used: int) -> MemoryBar:
        stored = {name for name, _ in stage.stored}
        here = (v.option for v in variants if v.option.name not in stored)
        weights = sum(option.weight_size_bytes for option in here)
        cache = sum(v.option.cache_size_bytes for v in variants)
        fixed = self._posed.fixed_bytes
        return MemoryBar(
            weights=weights,
            cache=cache,
            activations=max(used - weights - cache - fixed, 0),
            runtime=fixed + self._parts.uncounted_bytes,
            capacity=self._away.machine.memory_size_bytes,
        )

    def _groups(self) -> Iterator[GroupPlan]:
        for number, stage, variant in self._chosen():
            group = self._posed.groups[variant.group]
            cells = zip(self._names, variant.option.latency[0], strict=True)
            yield GroupPlan(
                name=group.name,
                stage=number,
                ops=tuple(op.name for op in group.ops),
                weighted=group.weighted,
                format=variant.option.format,
                style=style(self._posed.offers.spread_of(variant)),
                residency=residency(variant, stage),
                weight_size_bytes=variant.priced.weight_size_bytes,
                latency_us={name: expected(cell) for name, cell in cells},
            )

    def _breakdown(self) -> dict[str, Breakdown]:
        totals = self._solution.totals
        assert totals is not None
        conversions = {each.name: each for each in self._best.problem.conversions}
        sent = [conversions[name] for s in self._solution.stages for name in s.conversions]
        variants = [variant for *_, variant in self._chosen()]
        found = {}
        for n, name in enumerate(self._names):
            parts, swap = Parts(), 0.0
            for variant in variants:
                parts += variant.priced.parts[n]
                swap += variant.swap_us[n] if variant.swap_us else 0.0
            for each in sent:
                parts += Parts(communication_us=expected(each.latency[0][n]))
            known = parts.compute_us + parts.memory_us + parts.communication_us + parts.launch_us
            rest = _more(totals.latency_expected_us[n], known + swap)
            moved = min(self._moved_us(n), rest) if self._streams_in_windows() else rest
            found[name] = Breakdown(
                compute_us=parts.compute_us,
                memory_us=parts.memory_us,
                communication_us=parts.communication_us + moved,
                launch_us=parts.launch_us,
                swap_us=swap + rest - moved,
                floor_us=parts.floor_us,
            )
        return found

    def _streams_in_windows(self) -> bool:
        """Whether weights stream as C7 says, so that only whole stages know what is exposed."""
        return any(stage.stored for stage in self._solution.stages)

    def _moved_us(self, shape: int) -> float:
        """What tensors take from stage to stage."""
        sizes = {each.name: each.size_bytes for each in self._best.problem.transfers}
        link = next(iter(self._best.problem.links), None)
        names = [name for stage in self._solution.stages for name, _ in stage.transfers]
        return 0.0 if link is None else sum(link.time_us(sizes[name][shape]) for name in names)

    def _alternative(self, found: Found) -> Alternative:
        solution, totals = found.solution, found.solution.totals
        if totals is None:
            status = "infeasible" if solution.status.value == "infeasible" else "unknown"
            return Alternative.model_validate(
                {"name": found.name, "status": status, "reason": self._why(found, status)}
            )
        query = self._query(solution)
        price = self._price(solution)
        variants = [v for stage in solution.stages for v in self._variants(stage)]
        is_best = found is self._best
        uncertain = "uncertain" if solution.is_uncertain else "feasible"
        return Alternative.model_validate(
            {
                "name": found.name,
                "status": "chosen" if is_best else uncertain,
                "devices": totals.devices,
                "layout": layout(solution, found),
                "formats": self._count_formats(variants),
                "streamed_size_bytes": max(
                    streamed(self._variants(stage), stage) for stage in solution.stages
                ),
                "latency_us": dict(zip(self._names, totals.latency_expected_us, strict=True)),
                "query_us": query.expected,
                "price_per_hour": price,
                "price_per_query": per_query(price, query.expected),
                "energy_per_query_j": self._energy(solution),
                "error": self._error(totals),
                "gap": solution.gap,
                "reason": "" if found.has_slo else "does not keep the latency promise",
            }
        )

    def _why(self, found: Found, status: str) -> str:
        if status == "unknown":
            return "no plan was found in its share of the time"
        wanted = self._constraints.promise
        limits = []
        if found.has_slo and wanted.latency_us is not None:
            limits.append(f"latency {format_duration(wanted.latency_us)}")
        if wanted.max_error is not None:
            limits.append(f"error {wanted.max_error:g}")
        size = format_size(self._away.machine.memory_size_bytes)
        return f"proved: no plan keeps {' and '.join(limits)} in {size} a device"


def _more(total: float, known: float) -> float:
    """What of a total is not known yet: not what rounding leaves of sums in another order."""
    rest = total - known
    return rest if rest > _ROUNDING * total else 0.0
