"""A plan made for one device, spread over ranks: sharded, or a pipeline of stages.

Its time is predicted from its parts, each timed alone with the threads that a rank has, and from
what collectives and messages of these sizes take between ranks on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from planner.emit.blueprint import Part, Talk
from planner.emit.partition import Shapes, cut_of, options, partition, read, stage_cuts
from planner.emit.partition.price import talk_sizes
from planner.errors import EnvironmentMismatchError, ModelError
from planner.graph.analysis import peak_activation_bytes
from planner.graph.sandbox import MANY_RUNS, Sandbox
from planner.ir.graph import Graph
from planner.ops.sharding import Index
from planner.place.shares import stage_ends, tensor_cuts
from planner.profiling.chains import time_chains
from planner.profiling.parts import PartTimes, time_parts
from planner.runtime.devices import count_gpus
from planner.runtime.fingerprint import usable_cores
from planner.runtime.fused.driver import Driver
from planner.runtime.ort import make_session, tensor_specs
from planner.runtime.ranks.bench import Links, measure_links
from planner.runtime.ranks.board import CudaBoard
from planner.runtime.ranks.fabric import MPI, choose
from planner.runtime.tensors import read_tensors
from planner.spec.execution import StageExecution
from planner.spec.plan import Estimate, Plan, WorkloadShape
from planner.spec.session import SessionSettings
from planner.steps.building import part_of, synthetic
from planner.steps.files import Files, files_of
from planner.steps.reading import planned_model
from planner.steps.workspace import Workspace
from planner.units import format_size

_TYPICAL_LINK_US = 30.0
"""A small collective between processes; only decides what is worth cutting before any is timed."""
_TYPICAL_BYTES_PER_US = 1000.0
_LARGE_BYTES = 1_000_000
"""Weights below this are not worth telling of."""
_MODEL_SHARE = 0.25
"""Ranks that run at once share caches and memory that each had alone when its parts were timed: the
prediction may be that much too low, or as much too high where waiting hides costs."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How many ranks, and what for."""

    tensor: int = 1
    """Ranks that share each stage's operators."""
    pipeline: int = 1
    """Stages."""
    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def ranks(self) -> int:
        """All of them."""
        return self.tensor * self.pipeline


def spread(plan: Plan, wish: Wish, model: Path | None, work: Workspace) -> Plan:
    """The same plan on several ranks.

    Raises:
        UsageError: another model, or more stages than operators.
        EnvironmentMismatchError: no library for ranks to talk through.
    """
    path = model or Path(plan.model.path)
    loaded = planned_model(plan.model, path, work)
    files = files_of(plan, loaded, work)
    simplified = plan.model_copy(update={"simplified": files.is_simplified, "shipped": "plan"})
    wished = simplified.model_copy(update={"execution": (StageExecution(ops=("?",)),)})
    part = part_of(wished, path, files, work)
    work.reporter.stage("spread")
    shapes = [shape.shapes for shape in plan.workload]
    execution = _execution(part, shapes, wish)
    if wish.tensor > 1:
        _tell_whole(part, execution, work)
    spread_plan = wished.model_copy(update={"execution": execution, "guard": None, "digest": ""})
    if wish.device == "cuda" and count_gpus() < wish.ranks:
        warning = f"not timed: {wish.ranks} GPUs are not here, so the time is that of one device"
        return spread_plan.model_copy(update={"warnings": (*plan.warnings, warning)})
    library = choose(wish.device)
    parts = _parts(spread_plan, part, work)
    times = {
        shape.name: _times(spread_plan, part, parts, shape, files, library, work)
        for shape in plan.workload
    }
    is_resident = all(found.is_resident for found in times.values())
    links = measure_links(library, wish.ranks, on_device=is_resident)
    names = [spec.name for spec in tensor_specs(make_session(part, SessionSettings()))[1]]
    expected = {name: predicted(found, names, links) for name, found in times.items()}
    tails = {
        name: plan.prediction.latency_slo_us[name].expected / found.expected
        for name, found in plan.prediction.latency_p50_us.items()
    }
    prediction = plan.prediction.model_copy(
        update={
            "latency_p50_us": expected,
            "latency_slo_us": {name: found.scaled(tails[name]) for name, found in expected.items()},
        }
    )
    return spread_plan.model_copy(update={"prediction": prediction, "machine_state_us": None})


def _execution(part: Path, shapes: Sequence[Shapes], wish: Wish) -> tuple[StageExecution, ...]:
    proto, graphs = read(part, shapes)
    known = options(proto, graphs)
    graph = max(graphs, key=peak_activation_bytes)
    ends = [len(graph.ops)]
    if wish.pipeline > 1:
        try:
            ends = stage_ends(graph, known, wish.pipeline)
        except ValueError as error:
            raise ModelError(str(error), where=str(part)) from None
    choices = cut_choices(graph, known, wish)
    threads = max(usable_cores() // wish.ranks, 1) if wish.device == "cpu" else 0
    found = []
    start = 0
    for stage, end in enumerate(ends):
        names = [op.name for op in graph.ops[start:end]]
        first = stage * wish.tensor
        found.append(
            StageExecution(
                device=wish.device,
                ranks=tuple(range(first, first + wish.tensor)),
                threads=threads,
                ops=tuple(names),
                cuts={name: cut_of(choices[name]) for name in names if name in choices},
            )
        )
        start = end
    return tuple(found)


def _tell_whole(part: Path, execution: Sequence[StageExecution], work: Workspace) -> None:
    """Large weights that every rank keeps whole: its parts are timed so, and need their memory."""
    _, (graph,) = read(part)
    shared = {name for stage in execution for name in stage.cuts}
    sizes = {
        op.name: sum(t.size_bytes for n in op.inputs if n and (t := graph.tensors[n]).is_constant)
        for op in graph.ops
        if op.name not in shared
    }
    large = {name: size for name, size in sizes.items() if size >= _LARGE_BYTES}
    if large:
        first = max(large, key=lambda name: large[name])
        also = f" and {len(large) - 1} more" if len(large) > 1 else ""
        work.reporter.note(
            f"every rank keeps the weights of {first!r}{also} whole: "
            f"{format_size(sum(large.values()))} on each"
        )


def cut_choices(
    graph: Graph, known: Mapping[str, Sequence[Index]], wish: Wish
) -> Mapping[str, Index]:
    """Along what each operator is cut; those that are not named stay whole.

    Raises:
        EnvironmentMismatchError: nothing is worth sharing.
    """
    if wish.tensor == 1:
        return {}

    def price(choices: Mapping[str, Index]) -> float:
        sizes = talk_sizes(graph, choices)
        return sum(_TYPICAL_LINK_US + size / _TYPICAL_BYTES_PER_US for _, size in sizes)

    choices = tensor_cuts(graph, known, wish.tensor, price)
    if not choices:
        raise EnvironmentMismatchError(
            f"no operator of this model is worth sharing by {wish.tensor} ranks",
            fix="its products are too small or do not divide evenly: use --pipeline",
        )
    return choices


def _parts(plan: Plan, part: Path, work: Workspace) -> tuple[Part | Talk, ...]:
    proto, graphs = read(part, [shape.shapes for shape in plan.workload])
    cuts = stage_cuts(proto, graphs, plan.execution)
    return partition(proto, graphs, cuts, work.scratch / "spread", plan.settings, part.parent)


def _times(
    plan: Plan,
    part: Path,
    parts: Sequence[Part | Talk],
    shape: WorkloadShape,
    files: Files,
    library: str,
    work: Workspace,
) -> PartTimes:
    kept = files.inputs_path(shape.shapes)
    inputs, _ = tensor_specs(make_session(part, SessionSettings()))
    feeds = read_tensors(kept) if kept.exists() else synthetic(shape, files, inputs, work)
    if any(stage.device == "cuda" for stage in plan.execution):  # CUDA does not fit into a sandbox
        found = time_chains(parts, dict(feeds), plan.ranks, lambda: CudaBoard(Driver()))
        return found or time_parts(parts, dict(feeds), plan.ranks)
    bounds = MANY_RUNS.for_size(plan.model.size_bytes)
    sandbox = Sandbox("timing the parts", str(part), bounds)
    times: PartTimes = sandbox.call(time_parts, parts, dict(feeds), plan.ranks, library == MPI)
    return times


def predicted(times: PartTimes, outputs: Sequence[str], links: Links) -> Estimate:
    """One after the other: parts until their slowest rank is done, what ranks say, the driver."""
    handed = times.fed_bytes + sum(times.sizes.get(name, 0) for name in outputs)
    spans = [links.driven_us(handed), *times.parts_us]
    spans += [links.time_us(kind, size) for kind, size in times.talks]
    spans += [links.time_us("send", size) for size in times.crossings]
    low, expected, high = (sum(span[n] for span in spans) for n in range(3))
    return Estimate(
        low=low * (1 - _MODEL_SHARE),
        expected=expected,
        high=high * (1 + _MODEL_SHARE),
        source="interpolated",
    )
