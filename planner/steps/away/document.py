"""plan.json of a plan for devices that are not here."""

from __future__ import annotations

import hashlib
import math

from planner import __version__
from planner.runtime.fingerprint import onnxruntime_version
from planner.spec.estimate import Estimate
from planner.spec.plan import (
    AccuracyReport,
    Environment,
    ModelRef,
    Plan,
    Prediction,
    Rejected,
    SolverReport,
    WorkloadShape,
)
from planner.spec.session import SessionSettings
from planner.steps.away.answer import Answer
from planner.steps.away.choices import Choices
from planner.steps.away.offers import whole_ops
from planner.steps.away.record import Record
from planner.steps.away.search import is_proved_below
from planner.steps.away.streams import residency
from planner.steps.request import unmet_pins
from planner.units import format_size

_ERROR_SPREAD = 10.0
"""A-priori errors are right within an order of magnitude either way."""


class Writer(Answer):
    """Everything that is said of one answer and its alternatives."""

    def plan(self) -> Plan:
        """The plan, without its digest."""
        totals = self._solution.totals
        assert totals is not None
        error, loaded = self._error(totals), self._posed.skeleton.loaded
        latency, chosen = self._latency(), Choices(*self._given)
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
            formats=chosen.formats(),
            execution=chosen.execution(),
            decisions=tuple(chosen.decisions()),
            solver=self._solver(),
            prediction=Prediction(
                latency_p50_us=latency,
                latency_slo_us=latency,
                memory_size_bytes=_exactly(self._memory_bytes()),
                error=Estimate(
                    low=error / _ERROR_SPREAD,
                    expected=error,
                    high=error * _ERROR_SPREAD,
                    source="modelled",
                ),
            ),
            accuracy=AccuracyReport(
                calibrated=False,
                samples=0,
                predicted_error=error,
                measured_error=error,
                basis="calibrated",
            ),
            placement=Record(*self._given).placement(),
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
        texts += self._crowded_hosts()
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

    def _crowded_hosts(self) -> list[str]:
        """Whether weights that stream find room beside the devices: no constraint says so."""
        machine, totals = self._away.machine, self._solution.totals
        if totals is None or machine.host_memory_size_bytes is None:
            return []
        degrees = {place.name: place.degree for place in self._best.problem.places}
        held = sum(
            degrees[stage.place] * variant.priced.weight_size_bytes
            for _, stage, variant in self._chosen()
            if residency(variant, stage) == "host"
        )
        hosts = math.ceil(totals.devices / machine.per_node)
        there = hosts * machine.host_memory_size_bytes
        if held <= there:
            return []
        return [
            f"weights that stream take {format_size(held)} of host memory, and {hosts} machine"
            f"{'s have' if hosts > 1 else ' has'} {format_size(there)}: the rest comes from disk, "
            "slower than is priced"
        ]


def _exactly(size: float) -> Estimate:
    return Estimate(low=size, expected=size, high=size * 1.1, source="modelled")
