"""plan.json of a plan for devices that are not here."""

from __future__ import annotations

import hashlib
from itertools import islice

from planner import __version__
from planner.ir.solution import Stage
from planner.place.groups import weight_of
from planner.place.variant import Variant
from planner.runtime.fingerprint import onnxruntime_version
from planner.spec.estimate import Estimate
from planner.spec.execution import Cut, StageExecution
from planner.spec.plan import (
    AccuracyReport,
    Decision,
    Environment,
    ModelRef,
    Plan,
    Prediction,
    Rejected,
    RunnerUp,
    SolverReport,
    WorkloadShape,
)
from planner.spec.session import SessionSettings
from planner.steps.away.answer import Answer, cuts, style
from planner.steps.away.offers import whole_ops
from planner.steps.away.record import Record
from planner.steps.away.search import is_proved_below
from planner.steps.away.streams import residency
from planner.steps.request import unmet_pins
from planner.units import format_size

_US_PER_HOUR = 3.6e9
_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Formats that are types of a model's own."""
_ERROR_SPREAD = 10.0
"""A-priori errors are right within an order of magnitude either way."""


class Writer(Answer):
    """Everything that is said of one answer and its alternatives."""

    def plan(self) -> Plan:
        """The plan, without its digest."""
        totals = self._solution.totals
        assert totals is not None
        loaded = self._posed.skeleton.loaded
        latency = self._latency()
        return Plan(
            model=ModelRef(
                path=str(self._constraints.model),
                sha256=loaded.sha256,
                is_without_data=True,
                size_bytes=loaded.size_bytes,
                ops=len(self._posed.skeleton.graph.ops),
                parameters=loaded.parameters,
            ),
            environment=self._environment(),
            workload=self._workload(),
            promise=self._constraints.promise,
            shipped="plan",
            settings=SessionSettings(provider="cuda"),
            simplified=False,
            formats=self._formats(),
            execution=self._execution(),
            decisions=tuple(self._decisions()),
            solver=self._solver(),
            prediction=Prediction(
                latency_p50_us=latency,
                latency_slo_us=latency,
                memory_size_bytes=_exactly(self._memory_bytes()),
                error=Estimate(
                    low=totals.error / _ERROR_SPREAD,
                    expected=totals.error,
                    high=totals.error * _ERROR_SPREAD,
                    source="modelled",
                ),
            ),
            accuracy=AccuracyReport(
                calibrated=False,
                samples=0,
                predicted_error=totals.error,
                measured_error=totals.error,
                basis="calibrated",
            ),
            placement=Record(
                self._constraints, self._away, self._posed, self._best, self._others
            ).placement(),
            rejected=tuple(
                Rejected(op="*", format=name, reason=reason)
                for name, reason in self._posed.offer.excluded.items()
            ),
            warnings=self._warnings(),
        )

    def _environment(self) -> Environment:
        profile = self._away.device
        node = self._away.node
        text = profile.model_dump_json() + (node.model_dump_json() if node is not None else "")
        return Environment(
            infopt=__version__,
            onnxruntime=onnxruntime_version(),
            device=f"{profile.title} (planned from its profile)",
            device_digest=hashlib.sha256(text.encode()).hexdigest(),
            platform=profile.architecture or profile.kind,
        )

    def _workload(self) -> tuple[WorkloadShape, ...]:
        found = []
        for entry in self._constraints.workload:
            graph = self._posed.skeleton.graphs[entry.name]
            shapes = {name: graph.tensors[name].shape for name in graph.inputs}
            fixed = {name: shape for name, shape in shapes.items() if shape is not None}
            found.append(WorkloadShape(name=entry.name, shapes=fixed, weight=entry.weight))
        return tuple(found)

    def _latency(self) -> dict[str, Estimate]:
        totals = self._solution.totals
        assert totals is not None
        rows = zip(
            totals.latency_low_us,
            totals.latency_expected_us,
            totals.latency_high_us,
            strict=True,
        )
        return {
            name: Estimate(low=low, expected=expected, high=high, source="modelled")
            for name, (low, expected, high) in zip(self._names, rows, strict=True)
        }

    def _execution(self) -> tuple[StageExecution, ...]:
        """Who computes what; empty where one device does all and keeps all weights."""
        totals = self._solution.totals
        if totals is None:
            return ()
        if totals.devices == 1:
            return self._streamed()
        degrees = {place.name: place.degree for place in self._best.problem.places}
        named = {op.name for op in self._posed.skeleton.graph.ops}  # copies are not the model's
        found, first = [], 0
        for stage in self._solution.stages:
            degree = degrees[stage.place]
            ops: list[str] = []
            shared: dict[str, Cut] = {}
            for variant in self._variants(stage):
                ops += [op.name for op in self._posed.groups[variant.group].ops]
                own = cuts(self._posed.offers.spread_of(variant))
                shared.update({name: cut for name, cut in own.items() if name in named})
            ranks = tuple(range(first, first + degree))
            found.append(StageExecution(device="cuda", ranks=ranks, ops=tuple(ops), cuts=shared))
            first += degree
        return tuple(found)

    def _streamed(self) -> tuple[StageExecution, ...]:
        """Parts of one device; none where no weights stream."""
        (stage,) = self._solution.stages
        parts, names = self._parts, iter(self._variants(stage))
        if not parts.is_streamed:
            return ()
        found: list[StageExecution] = []
        for run, counts in zip(parts.runs, parts.counts, strict=True):
            for count in counts:
                groups = [self._posed.groups[v.group] for v in islice(names, count)]
                ops = tuple(op.name for group in groups for op in group.ops)
                found.append(StageExecution(device="cuda", ops=ops, is_streamed=run.is_streamed))
        return tuple(found)

    def _formats(self) -> dict[str, str]:
        """Of operators with weights; those that keep the model's own are not in it."""
        graph = self._posed.skeleton.graph
        own = {op.name: graph.tensors[w].dtype for op in graph.ops if (w := weight_of(op, graph))}
        found: dict[str, str] = {}
        for stage in self._solution.stages:
            for variant in self._variants(stage):
                for name in self._posed.groups[variant.group].weighted:
                    if own[name] != _DTYPES.get(variant.option.format):
                        found[name] = variant.option.format
        return dict(sorted(found.items()))

    def _decisions(self) -> list[Decision]:
        kinds = {op.name: op.kind for op in self._posed.skeleton.graph.ops}
        rivals = self._rivals()
        found = []
        for number, stage in enumerate(self._solution.stages):
            for variant in self._variants(stage):
                group = self._posed.groups[variant.group]
                names = group.weighted or (group.ops[0].name,)
                time_us = self._weighted(variant.option.latency[0])
                reason = self._reason(variant, stage, number)
                for position, name in enumerate(names):
                    found.append(
                        Decision(
                            op=name,
                            op_type=kinds[name],
                            group=group.name,
                            format=variant.option.format,
                            predicted_us=time_us if position == 0 else 0.0,
                            error=variant.option.error / len(names),
                            reason=reason,
                            runner_up=rivals.get(variant.option.name),
                        )
                    )
        return found

    def _reason(self, variant: Variant, stage: Stage, number: int) -> str:
        parts = [style(self._posed.offers.spread_of(variant))]
        if variant.again:
            parts.append(f"makes again: {', '.join(variant.again)}")
        if len(self._solution.stages) > 1:
            parts.insert(0, f"stage {number + 1}")
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
            option = variant.option
            key = (option.ops, option.place, option.needs, option.makes)
            by_ends.setdefault(key, []).append(variant)
        found = {}
        for stage in self._solution.stages:
            for variant in self._variants(stage):
                option = variant.option
                same = by_ends[option.ops, option.place, option.needs, option.makes]
                others = [
                    each
                    for each in same
                    if each.option.format != option.format and each.residency == variant.residency
                ]
                if others:
                    best = min(others, key=lambda each: self._weighted(each.option.latency[0]))
                    found[option.name] = self._rival(variant, best)
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

    def _solver(self) -> SolverReport:
        from planner.solve.limits import tight

        found = self._solution
        is_cost = self._constraints.objective == "cost"
        devices = float(found.totals.devices) if found.totals else 0.0
        proved = is_cost and is_proved_below((self._best, *self._others), self._best.devices)
        names = tuple(objective.value for objective in self._best.problem.objectives)
        first = (devices,) if is_cost else ()
        return SolverReport(
            status=found.status.value,
            solver=found.solver,
            objectives=(("devices",) if is_cost else ()) + names,
            objective=(*first, *found.objective),
            bound=(*((devices if proved else 1.0,) if is_cost else ()), *found.bound),
            gap=found.gap,
            seed=self._constraints.solver.seed,
            hit_time_limit=found.hit_time_limit,
            options=len(self._best.problem.options),
            settings=1,
            rounds=1 + len(self._others),
            binding=tight(self._best.problem, found),
        )

    def _warnings(self) -> tuple[str, ...]:
        posed, found = self._posed, self._solution
        texts = [
            f"times are modelled from the profile of {self._away.device.name}, not measured",
            f"uncalibrated: the error is {posed.error_basis}",
        ]
        texts += [f"not offered: {name}: {why}" for name, why in posed.offer.excluded.items()]
        whole = whole_ops(posed)
        if whole:
            kinds = ", ".join(f"{count} {kind}" for kind, count in list(whole.items())[:6])
            texts.append(f"no rule cuts these, so every rank computes them whole: {kinds}")
        held, most = self._memory_bytes(), self._away.machine.memory_size_bytes
        if held > most:
            texts.append(
                f"an engine that streams its weights in parts takes {format_size(held)}, "
                f"{format_size(held - most)} more than there is to take: ask for more memory"
            )
        asked, totals = self._constraints.target.gpus, found.totals
        if asked is not None and totals is not None and totals.devices < asked.minimum:
            texts.append(
                f"{asked.minimum} GPUs were asked for at least, {totals.devices} used: no plan "
                "was found that is faster with all of them"
            )
        if found.is_uncertain:
            texts.append("the latency promise holds at the expected or lower, not at the upper end")
        if found.hit_time_limit:
            texts.append("the time limit ended the search: another run may find another plan")
        if self._constraints.objective == "energy" and self._away.device.power is None:
            texts.append(f"no source says what {self._away.device.name} draws: time was minimised")
        if self._constraints.accuracy.max_drop is not None:
            texts.append("a drop of the metric needs weights and data: only the error was bounded")
        names = [op.name for op in posed.skeleton.graph.ops]
        return (*texts, *unmet_pins(self._constraints, names), *posed.skeleton.notes)


def _exactly(size: float) -> Estimate:
    return Estimate(low=size, expected=size, high=size * 1.1, source="modelled")
