"""Error at the model's outputs if exactly one operator takes a format, for many (operator, format).

Nothing is built per choice. Each candidate operator alone, without weights, is a tiny session of
its own: for a choice the method rounds the operator's recorded inputs and weights in NumPy, the
tiny session computes its output from them, and the switchboard runs the rest of the model with
that output's difference. On the models tried this agrees with really built ones to a few percent.

Memory: the model, once for its sessions and once for the candidates' weights (mapped into memory
where they lie beside the file), plus recorded activations within a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto

from planner.compress import surgery
from planner.compress.base import NATIVE, Array, Calibration, Format
from planner.compress.groups import groups_within
from planner.compress.methods import method_of
from planner.compress.probe import size_of
from planner.compress.samples import Samples
from planner.compress.switchboard import Switchboard, switchboard
from planner.compress.unit import Unit, UnitBench, units_of
from planner.compress.upgrade import upgrade_opset
from planner.compress.work import cost_of
from planner.graph import weights
from planner.ir.graph import Graph
from planner.progress import Reporter, Silent
from planner.spec.session import SessionSettings

Choice = tuple[str, Format]
_ADDITION_OPSET = 7
"""The first whose `Add` ONNX Runtime has a kernel for: it disturbs what is measured."""
_SAME_VALUES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")


@dataclass(frozen=True, slots=True)
class SensitivitySettings:
    """What sensitivities depend on besides model, samples and ranges."""

    max_runs: int = 64
    """Runs of the samples used at most, spread evenly; fewer where the model is costly."""
    max_multiplications: float = 2e11
    """Limit on the work of all choices together (about 5 s on two cores): bounds the runs used.
    Counted, not timed, so that the same request always measures the same."""
    memory_size_bytes: int = 128 << 20
    """Recorded activations held at once, and as much again at the borders of segments."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Where values measured before are found and new ones are kept; keys are (operator, format)."""

    lookup: Callable[[Choice], float | None] = lambda choice: None
    store: Callable[[Choice, float], None] = lambda choice, value: None


def sensitivities(
    model_path: Path,
    graph: Graph,
    choices: Sequence[Choice],
    samples: Samples,
    calibration: Calibration,
    session: SessionSettings,
    settings: SensitivitySettings = SensitivitySettings(),
    memory: Memory = Memory(),
    reporter: Reporter = Silent(),  # noqa: B008 (stateless)
) -> dict[Choice, float]:
    """Output NMSE (the worst output's) of each choice alone, everything else native.

    Raises:
        UsageError: an operator or format that does not exist.
        ModelError: a model older than ONNX Runtime's additions, which cannot be converted.
    """
    found: dict[Choice, float] = {c: 0.0 for c in choices if c[1] == NATIVE}
    for choice in choices:
        known = memory.lookup(choice) if choice not in found else None
        if known is not None:
            found[choice] = known
    same = _same_error(graph)
    asked = {choice: (_source(choice, same), choice[1]) for choice in choices}
    missing = dict.fromkeys(asked[choice] for choice in choices if choice not in found)
    used = samples.whole_runs().first(affordable_runs(graph, len(missing), settings))
    measured: dict[Choice, float] = {}
    if missing:
        for choice, value in _measure(
            model_path, graph, list(missing), used, calibration, session, settings
        ):
            measured[choice] = value
            reporter.progress(len(measured), len(missing), choice[0])
            for alias in [c for c in choices if asked[c] == choice and c not in found]:
                found[alias] = value
                memory.store(alias, value)
    return {choice: found[choice] for choice in choices}


def _same_error(graph: Graph) -> dict[str, str]:
    """Operator -> the one before it that moves the very same values to nobody else: rounding either
    is the same rounding."""
    consumers, producer = graph.consumers(), graph.producer()
    same: dict[str, str] = {}
    for op in graph.ops:
        before = producer.get(op.inputs[0]) if op.inputs else None
        if before is None or not {op.kind, before.kind} <= set(_SAME_VALUES):
            continue
        if len(consumers[op.inputs[0]]) == 1 and op.inputs[0] not in graph.outputs:
            same[op.name] = before.name
    return same


def _source(choice: Choice, same: Mapping[str, str]) -> str:
    op, form = choice
    while form == Format.INT8_STATIC and op in same:
        op = same[op]
    return op


def affordable_runs(graph: Graph, choices: int, settings: SensitivitySettings) -> int:
    """Runs of samples that the work limit allows, at least 1."""
    per_choice = sum(cost_of(op, graph) for op in graph.ops) / 2
    allowed = int(settings.max_multiplications / max(per_choice * choices, 1.0))
    return max(1, min(settings.max_runs, allowed))


def _measure(
    model_path: Path,
    graph: Graph,
    choices: Sequence[Choice],
    samples: Samples,
    calibration: Calibration,
    session: SessionSettings,
    settings: SensitivitySettings,
) -> Iterator[tuple[Choice, float]]:
    formats: dict[str, list[Format]] = {}
    for op_name, form in choices:
        formats.setdefault(op_name, []).append(form)
    onnx_model = onnx.load(model_path, load_external_data=False)
    onnx_model = upgrade_opset(onnx_model, _ADDITION_OPSET)
    units = {unit.op.name: unit for unit in units_of(onnx_model, graph, formats)}
    constants = _constants(onnx_model, units.values(), model_path.parent)
    costs = {op.name: cost_of(op, graph) for op in graph.ops}
    per_run = size_of(graph.tensors)

    def held(name: str) -> int:
        return samples.runs * sum(per_run(tensor) for tensor in units[name].recorded)

    with switchboard(
        onnx_model,
        graph,
        {name: unit.made for name, unit in units.items()},
        {name: unit.recorded for name, unit in units.items()},
        samples,
        session,
        lambda name: costs.get(name, 0.0),
        settings.memory_size_bytes,
        model_path.parent,
    ) as board:
        for group in groups_within(list(units), held, settings.memory_size_bytes):
            together = [units[name] for name in group]
            records = _recorded(board, together, samples.runs)
            for unit in together:
                bench = UnitBench(unit, board, records, constants, calibration, session)
                yield from _errors(unit, bench, samples.runs)


def _errors(unit: Unit, bench: UnitBench, runs: int) -> Iterator[tuple[Choice, float]]:
    return (((unit.op.name, form), bench.error_of(method_of(form), runs)) for form in unit.formats)


def _constants(onnx_model: ModelProto, units: Iterable[Unit], folder: Path) -> dict[str, Array]:
    """Those that the units read, by name."""
    read = {name for unit in units for name in unit.op.inputs}
    return {
        name: weights.to_array(tensor, folder)
        for name, tensor in surgery.initialisers(onnx_model).items()
        if name in read
    }


def _recorded(board: Switchboard, units: Sequence[Unit], runs: int) -> list[dict[str, Array]]:
    """Per run: the values the units read and make; one run of each segment they lie in."""
    wanted: dict[int, dict[str, None]] = {}
    for unit in units:
        segment = board.segment_of[unit.op.name]
        wanted.setdefault(segment, {}).update(dict.fromkeys(unit.recorded))
    records: list[dict[str, Array]] = [{} for _ in range(runs)]
    for segment, names in wanted.items():
        for run, record in enumerate(records):
            record.update(board.recorded(segment, run, list(names)))
    return records
