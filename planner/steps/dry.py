"""What a plan would measure, found without measuring anything."""

from __future__ import annotations

from itertools import product

from planner.spec.constraints import Constraints
from planner.spec.verdict import DryRun, PendingMeasurement
from planner.steps.bench import Bench
from planner.steps.choices import choices
from planner.steps.prepare import Prepared, prepare, prepare_elsewhere
from planner.steps.request import is_away
from planner.steps.skeleton import dry_skeleton
from planner.steps.variants import variants
from planner.steps.whole_runs import session_choices
from planner.steps.workspace import Workspace


def dry(constraints: Constraints, work: Workspace, bench: Bench) -> DryRun:
    """Loads, checks, and lists the kernels whose time the store does not know."""
    if constraints.no_weights:
        return dry_skeleton(constraints)
    if is_away(constraints):
        return _listed(constraints, prepare_elsewhere(constraints, work), 0, ())
    prepared = prepare(constraints, work)
    offered = choices(constraints, prepared, work)
    uniform = variants(prepared, offered, work, bench)
    threads = sorted({session.intra_op_threads for session in session_choices()})
    pending: dict[str, PendingMeasurement] = {}
    known = 0
    for variant in uniform:
        for executable, count in product(variant.executables, threads):
            analysis = bench.analysis(executable)
            missing = {key: index for index, key, _ in bench.missing(executable, count)}
            keys = bench.keys(executable, count)
            known += len(set(keys) - set(missing))
            for key, index in missing.items():
                kernel = analysis.kernels[index]
                shapes = [analysis.tensors[n][1] for n in kernel.inputs if n in analysis.tensors]
                text = " x ".join(str(list(shape)) for shape in shapes)
                pending.setdefault(
                    key,
                    PendingMeasurement(
                        kernel=f"{kernel.op_type} {text}".strip(),
                        ops=keys.count(key),
                        variants=(f"{variant.name}, {count} thread{'s' if count > 1 else ''}",),
                    ),
                )
    return _listed(constraints, prepared, known, tuple(pending.values()))


def _listed(
    constraints: Constraints,
    prepared: Prepared,
    known: int,
    pending: tuple[PendingMeasurement, ...],
) -> DryRun:
    return DryRun(
        model=str(constraints.model),
        ops=len(prepared.graph.ops),
        parameters=prepared.loaded.parameters,
        weights_size_bytes=prepared.graph.weights_size_bytes,
        workload=tuple(shape.recorded for shape in prepared.shapes),
        measured=known,
        pending=pending,
        warnings=prepared.notes,
    )
