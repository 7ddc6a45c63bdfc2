"""What Prometheus sees: outcomes, latencies, load, and whether the plan's promise holds."""

from __future__ import annotations

import statistics
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

import prometheus_client

from planner.runtime.engine import Session
from planner.spec.io import read_plan

_WINDOW = 512
"""Recent runs over which the measured median is taken."""
_BUCKETS_S = tuple(
    scale * step for scale in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0) for step in (1, 2, 5)
)


class Metrics:
    """One registry a server, so that several can live in one process."""

    def __init__(self, session: Session) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self.requests = prometheus_client.Counter(
            "infopt_requests",
            "Inference requests by outcome: ok, client_error, busy, timeout, error",
            ["outcome"],
            registry=self.registry,
        )
        self.request_seconds = self._histogram(
            "infopt_request_seconds", "From the request's headers to its answer"
        )
        self.inference_seconds = self._histogram(
            "infopt_inference_seconds", "The engine alone, without HTTP and encoding"
        )
        self.in_flight = self._gauge("infopt_in_flight", "Requests admitted and not yet answered")
        self.queued = self._gauge("infopt_queued", "Requests of those that wait for a thread")
        self._promise = _Promise(session, self.registry)

    def _histogram(self, name: str, text: str) -> prometheus_client.Histogram:
        return prometheus_client.Histogram(name, text, buckets=_BUCKETS_S, registry=self.registry)

    def _gauge(self, name: str, text: str) -> prometheus_client.Gauge:
        return prometheus_client.Gauge(name, text, registry=self.registry)

    def observe_inference(self, feeds: Mapping[str, Any], seconds: float) -> None:
        """One run of the engine."""
        self.inference_seconds.observe(seconds)
        self._promise.observe(feeds, seconds)

    def text(self) -> bytes:
        """The exposition, with gauges brought up to date."""
        self._promise.refresh()
        return prometheus_client.generate_latest(self.registry)


class _Promise:
    """Measured against predicted p50, per workload shape the plan was made for."""

    def __init__(self, session: Session, registry: prometheus_client.CollectorRegistry) -> None:
        names = [spec.name for spec in session.inputs]
        plan = read_plan(session.directory / "plan.json")
        self._names = tuple(names)
        self._shape_name = {
            tuple(tuple(shape.shapes.get(name, ())) for name in names): shape.name
            for shape in plan.workload
        }
        self._predicted_s = {
            name: estimate.expected / 1e6
            for name, estimate in session.manifest.predicted_latency_us.items()
        }
        self._recent = {name: deque[float](maxlen=_WINDOW) for name in self._shape_name.values()}
        self._lock = threading.Lock()
        predicted = prometheus_client.Gauge(
            "infopt_predicted_p50_seconds", "The plan's promise", ["shape"], registry=registry
        )
        for name, seconds in self._predicted_s.items():
            predicted.labels(name).set(seconds)
        self._ratio = prometheus_client.Gauge(
            "infopt_measured_over_predicted",
            f"Median of the last {_WINDOW} runs of a workload shape over its predicted p50",
            ["shape"],
            registry=registry,
        )

    def observe(self, feeds: Mapping[str, Any], seconds: float) -> None:
        """Remember a run if its shapes are among the workload's."""
        name = self._shape_name.get(tuple(feeds[key].shape for key in self._names))
        if name is not None:
            with self._lock:
                self._recent[name].append(seconds)

    def refresh(self) -> None:
        """Set the ratio of every shape that has been both predicted and run."""
        with self._lock:
            recent = {name: list(samples) for name, samples in self._recent.items() if samples}
        for name, samples in recent.items():
            if self._predicted_s.get(name):
                self._ratio.labels(name).set(statistics.median(samples) / self._predicted_s[name])
