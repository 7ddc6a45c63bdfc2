"""Whole runs that corrections are learnt from: which variants, under which settings, how long.

The native variant runs under every thread pool and at its other graph level; each compressed
format runs with one thread, and the best of them with all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from planner.compress.base import NATIVE
from planner.profiling.race import Contestant
from planner.runtime.fingerprint import usable_cores
from planner.spec.session import SessionSettings
from planner.steps.bench import Bench
from planner.steps.prepare import Prepared
from planner.steps.racing import METHOD_VERSION, race
from planner.steps.variants import LEVELS, Variant
from planner.steps.workspace import Workspace, digest

CONTEXT_ROUNDS = 80
CONTEXT_SECONDS = 8.0
_TRIES = 2
"""How often a native variant is timed until it has run: the store's word may be of a moment long
past."""


def session_choices() -> tuple[SessionSettings, ...]:
    """Thread pools (size, whether idle threads spin) x graph levels that a plan may choose from."""
    cores = usable_cores()
    pools = [(1, True)]
    pools += [(n, spin) for n in sorted({cores, cores // 2} - {0, 1}) for spin in (True, False)]
    return tuple(
        SessionSettings(intra_op_threads=threads, spinning=spinning, graph_level=level)
        for threads, spinning in pools
        for level in LEVELS
    )


@dataclass(frozen=True, slots=True)
class Observed:
    """A whole variant that is timed."""

    variant: Variant
    session: SessionSettings

    @property
    def name(self) -> str:
        """Unique among those that are timed together."""
        return f"{self.variant.name} {self.session.name}"


SumOfKernels = Callable[[Observed], float]
"""Microseconds that its kernels take when they are alone."""


def observed(
    variants: Sequence[Variant], sessions: Sequence[SessionSettings], sum_of_kernels: SumOfKernels
) -> list[Observed]:
    """What is to be timed as a whole."""
    return [*_uniform(variants, sessions), *_rival(variants, sessions, sum_of_kernels)]


def _uniform(
    variants: Sequence[Variant], sessions: Sequence[SessionSettings]
) -> Iterator[Observed]:
    """The native variant in every pool, and at its other level; each format with one thread."""
    most = max(session.intra_op_threads for session in sessions)
    best: dict[str, Variant] = {}
    for variant in variants:
        best.setdefault(format_of(variant), variant)
    native = best[str(NATIVE)]
    for session, variant in product(sessions, best.values()):
        is_wanted = variant is native or session.intra_op_threads == 1
        if is_wanted and variant.level == session.graph_level:
            yield Observed(variant, session)
    for session, variant in product(sessions, variants):
        is_other = not variant.realised and variant.level != native.level
        is_full = session.spinning and session.intra_op_threads == most
        if is_other and is_full and variant.level == session.graph_level:
            yield Observed(variant, session)


def _rival(
    variants: Sequence[Variant], sessions: Sequence[SessionSettings], sum_of_kernels: SumOfKernels
) -> Iterator[Observed]:
    """The best compressed variant with all threads: what is learnt there of the native plan."""
    most = max(session.intra_op_threads for session in sessions)
    if most == 1:
        return
    rivals = [
        Observed(variant, session)
        for session, variant in product(sessions, variants)
        if session.intra_op_threads == most and session.spinning
        if variant.realised and variant.level == session.graph_level
    ]
    if rivals:
        yield min(rivals, key=sum_of_kernels)


def format_of(variant: Variant) -> str:
    """The format that it is in, natives under one name."""
    return str(variant.format if variant.realised else NATIVE)


def whole_runs(
    entries: Sequence[Observed], number: int, prepared: Prepared, bench: Bench, work: Workspace
) -> list[tuple[Observed, Mapping[str, Any]]]:
    """Their times on one workload shape, as `race` has them; those that could not be run are left
    out."""
    shape = prepared.shapes[number]
    names = [(e.name, e.variant.executable.key) for e in entries]
    key = digest(
        "context", METHOD_VERSION, prepared.sha256, shape.feeds_digest, names,
        bench.environment.device_digest, CONTEXT_ROUNDS,
    )  # fmt: skip

    def compute() -> dict[str, dict[str, Any]]:
        work.reporter.stage("whole runs")
        bench.rest()
        return race(
            [Contestant(e.name, e.variant.executable.build(), e.session) for e in entries],
            shape.feeds_path, work,
            rounds=CONTEXT_ROUNDS, budget_s=CONTEXT_SECONDS,
            model_size_bytes=prepared.loaded.size_bytes,
        )  # fmt: skip

    found: dict[str, dict[str, Any]] = {}
    for _ in range(_TRIES):
        found = work.once("context", key, compute)
        if all(e.variant.realised or e.name in found for e in entries):
            break
        # what ONNX Runtime makes of the model itself ran before: the moment was bad, not the model
        work.store.forget(key)
    return [(entry, found[entry.name]) for entry in entries if entry.name in found]
