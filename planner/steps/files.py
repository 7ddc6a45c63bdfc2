"""The bound and the simplified file of a model, kept between runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from planner import __version__
from planner.compress.base import Array
from planner.compress.measure import runner
from planner.compress.synthetic import synthetic_samples
from planner.errors import DataError, InfoptError, ModelError
from planner.graph.bind import bind, complete_shapes
from planner.graph.build import build_graph
from planner.graph.judge import second_opinion
from planner.graph.model import BoundModel, LoadedModel
from planner.graph.sandbox import Bounds, Sandbox
from planner.graph.simplify import simplify
from planner.runtime import dtypes
from planner.runtime.fingerprint import convolution_block, read_cpu
from planner.runtime.tensors import write_tensors
from planner.spec.manifest import TensorSpec
from planner.spec.plan import Plan
from planner.spec.session import SessionSettings
from planner.steps.refine import Refined, refine
from planner.steps.shapes import sizes
from planner.steps.workspace import Workspace, digest

_BOUND = "bound.onnx"
_SIMPLIFIED = "simplified.onnx"
_METHOD_VERSION = 11
"""Raised whenever these files, or what is noted of them, would come out otherwise."""
_FACTS = "facts.json"
_ONE_RUN = Bounds(wall_s=120.0)
_INPUTS_FIX = "give typical inputs: --calibration FILE.npz (without, synthetic ones are tried)"
Shapes = Mapping[str, tuple[int, ...]]
"""Input name -> dimensions."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where the files are, and what simplifying found."""

    bound_path: Path
    """The user's model with its operators named and those dimensions fixed in which its shapes
    agree; otherwise as it came."""
    model_path: Path
    """The same, simplified, and refined for the CPU where asked for; equal to `bound_path` where
    that changed the outputs."""
    plain_path: Path
    """What plain ONNX Runtime runs: the user's own file, or the bound one where ONNX Runtime does
    not take that as it is (operators that share a name, say), or cannot tell how many dimensions an
    input has: it shows those as scalars, and an engine would take nothing else."""
    is_simplified: bool
    random_outputs: tuple[str, ...]
    """Outputs that differ from run to run by the model's own design."""
    notes: tuple[str, ...]
    folder: Path

    def inputs_path(self, shapes: Shapes) -> Path:
        """Inputs of one run out of the user's own data; missing where there never was any."""
        return self.folder / f"inputs-{digest(sorted(shapes.items()))[:16]}.npz"


def input_specs(loaded: LoadedModel, given: Shapes) -> tuple[TensorSpec, ...]:
    """The inputs that are fed, with every dimension bound.

    Raises:
        ModelError: dimensions left unbound, unknown inputs, contradictions.
    """
    _refuse_other_than_tensors(loaded)
    try:
        shapes = complete_shapes(loaded, given)
    except ModelError as error:
        raise ModelError(error.what, where=str(loaded.path), fix=error.fix) from None
    return tuple(
        TensorSpec(name=port.name, dtype=port.dtype, shape=shapes[port.name])
        for port in (*loaded.inputs, *loaded.defaults)
        if port.name in shapes
    )


def _refuse_other_than_tensors(loaded: LoadedModel) -> None:
    for port in (port for port in loaded.inputs if not port.is_tensor):
        raise ModelError(
            f"the input {port.name!r} is of type {port.dtype}: only tensors can be fed",
            where=str(loaded.path),
            fix="export the model with tensors as inputs",
        )
    for port in (*loaded.inputs, *loaded.outputs):
        if dtypes.is_packed(port.dtype):
            raise ModelError(
                f"{port.name!r} is of type {port.dtype}, which ONNX Runtime's Python interface "
                "can neither take nor hand out",
                where=str(loaded.path),
                fix="put a Cast to int8, uint8 or float32 at that border of the model",
            )


def bound_files(
    loaded: LoadedModel,
    given: Sequence[Shapes],
    work: Workspace,
    feeds: Sequence[Mapping[str, Array] | None],
    *,
    for_cpu: bool = False,
) -> Files:
    """Binds and simplifies, or finds both done.

    Args:
        given: one set of shapes per entry of the workload.
        feeds: for each, what the simplified model is checked on; None: synthetic inputs.
        for_cpu: refined for the CPU provider (`planner.steps.refine`).
    """
    specs = [input_specs(loaded, shapes) for shapes in given]
    shapes = [sizes(own) for own in specs]

    def make(folder: Path) -> None:
        bound = bind(loaded, given, folder / _BOUND)
        checked_on = [
            known or synthetic_samples(own, 1, graph=build_graph(bound.path)).feeds(0)
            for own, known in zip(specs, feeds, strict=True)
        ]
        _simplify(bound, checked_on, folder, loaded, for_cpu=for_cpu)

    work.reporter.stage("simplify")
    folder = work.kept_folder(
        digest(
            "bound and simplified",
            __version__,
            _METHOD_VERSION,
            loaded.sha256,
            [sorted(own.items()) for own in shapes],
            *(["for the CPU", convolution_block(read_cpu())] if for_cpu else []),
        ),
        make,
    )
    facts = json.loads((folder / _FACTS).read_text())
    has_ranks = all(port.dims is not None for port in (*loaded.inputs, *loaded.defaults))
    return Files(
        bound_path=folder / _BOUND,
        model_path=folder / facts["file"],
        plain_path=loaded.path if facts["runs_as_given"] and has_ranks else folder / _BOUND,
        is_simplified=facts["is_simplified"],
        random_outputs=tuple(facts["random_outputs"]),
        notes=tuple(facts["notes"]),
        folder=folder,
    )


def files_of(plan: Plan, loaded: LoadedModel, work: Workspace) -> Files:
    """The files that a plan was made from, made again where they are gone."""
    given = [shape.shapes for shape in plan.workload]
    on_cpu = plan.fusion is None and plan.settings.provider == "cpu"
    return bound_files(loaded, given, work, [None] * len(given), for_cpu=on_cpu)


def keep_inputs(files: Files, shapes: Shapes, feeds: Mapping[str, Array]) -> None:
    """Keeps inputs of one real run: engines built later are checked on them."""
    path = files.inputs_path(shapes)
    scratch = path.with_name(f".{os.getpid()}-{path.name}")
    write_tensors(scratch, feeds)
    scratch.replace(path)


def _simplify(
    bound: BoundModel,
    samples: Sequence[Mapping[str, Array]],
    folder: Path,
    loaded: LoadedModel,
    *,
    for_cpu: bool,
) -> None:
    report = simplify(bound, samples, folder / _SIMPLIFIED)
    if not report.has_run:
        for feeds in samples:
            _refuse_what_does_not_run(bound, feeds, loaded)
    refined = Refined(report.path, ())
    if for_cpu and report.has_run:
        refined = refine(bound, report.path, samples, loaded)
    refusal = _refusal_as_given(loaded)
    notes = [] if refusal is None else [f"ONNX Runtime takes it only in normal form: {refusal}"]
    facts = {
        "file": refined.path.name,
        "runs_as_given": refusal is None,
        "is_simplified": refined.path != bound.path,
        "random_outputs": report.random_outputs,
        "notes": [
            *notes,
            *bound.notes,
            *([] if report.is_simplified else [report.reason]),
            *refined.notes,
        ],
    }
    (folder / _FACTS).write_text(json.dumps(facts))


def _refusal_as_given(loaded: LoadedModel) -> str | None:
    """Why ONNX Runtime does not load the user's own file; asked where loading found it unusual."""
    if not loaded.notes:
        return None
    bounds = Bounds().for_size(loaded.size_bytes)
    return Sandbox("loading the model", str(loaded.path), bounds).call(second_opinion, loaded.path)


def _refuse_what_does_not_run(
    bound: BoundModel, feeds: Mapping[str, Array], loaded: LoadedModel
) -> None:
    """Everything later is measured, so a model must run here, once, within bounds.

    Raises:
        ModelError: ONNX Runtime cannot load it, or a run does not end.
        DataError: it refuses the inputs.
        EnvironmentMismatchError: the memory does not suffice.
    """
    where = str(loaded.path)
    sandbox = Sandbox("running the model once", where, _ONE_RUN.for_size(loaded.size_bytes))
    try:
        sandbox.call(_run_once, bound.path, feeds)
    except DataError as error:
        what = f"{error.what} ({_text(feeds)})"
        is_open = any(port.shape is None for port in loaded.inputs)
        fix = f"bind other sizes (--shapes), or {_INPUTS_FIX}" if is_open else _INPUTS_FIX
        raise DataError(what, where=where, fix=fix) from None
    except InfoptError as error:
        raise type(error)(error.what, where=where, fix=error.fix) from None


def _text(feeds: Mapping[str, Array]) -> str:
    """`x 1x16x64, flag scalar`."""
    shapes = {name: "x".join(map(str, value.shape)) for name, value in feeds.items()}
    return ", ".join(f"{name} {shape or 'scalar'}" for name, shape in shapes.items())


def _run_once(path: Path, feeds: Mapping[str, Array]) -> None:
    runner(path, SessionSettings())(feeds)
