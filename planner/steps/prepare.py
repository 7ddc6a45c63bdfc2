"""From the user's file to a graph: checked, shape-bound, simplified, with inputs to run it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from planner.compress.samples import Samples, load_calibration, synthetic_samples
from planner.errors import UsageError
from planner.graph.model import LoadedModel
from planner.ir.graph import Graph
from planner.runtime.tensors import write_tensors
from planner.spec.budget import is_function
from planner.spec.constraints import Constraints
from planner.spec.manifest import TensorSpec
from planner.steps.files import bound_files, input_specs, keep_inputs
from planner.steps.reading import kept_graph, known_model
from planner.steps.request import refuse_absent, unmet_wishes
from planner.steps.workspace import Workspace, file_digest

SYNTHETIC_RUNS = 8


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model ready to be planned, for one workload shape."""

    loaded: LoadedModel
    shape_name: str
    shapes: Mapping[str, tuple[int, ...]]
    """Every input's shape."""
    bound_path: Path
    """The user's model with its shapes fixed and its operators named; otherwise as it came."""
    model_path: Path
    """The same, simplified; equal to `bound_path` where that changed the outputs."""
    plain_path: Path
    """What plain ONNX Runtime runs: the user's file wherever it takes that as it is."""
    is_simplified: bool
    sha256: str
    """Digest of the file at `model_path`."""
    graph: Graph
    specs: tuple[TensorSpec, ...]
    samples: Samples
    """Calibration inputs, or synthetic ones (`samples.is_synthetic`)."""
    feeds_path: Path
    """One run's inputs, for everything that is timed."""
    feeds_digest: str
    random_outputs: tuple[str, ...]
    """Outputs that differ from run to run by the model's own design."""
    notes: tuple[str, ...]


def prepare(constraints: Constraints, work: Workspace) -> Prepared:
    """The model, checked, bound and simplified.

    Raises:
        ModelError: damaged, unsupported or unbound model.
        DataError: calibration data that does not fit it.
        UsageError: several workload shapes, or wishes that nothing here can meet.
        EnvironmentMismatchError: a target that is not here.
    """
    refuse_absent(constraints)
    if len(constraints.workload) > 1:
        raise UsageError(
            "a plan for the CPU serves one set of shapes",
            where="workload",
            fix="plan each set of shapes for itself",
        )
    work.reporter.stage("load")
    loaded = known_model(constraints.model, work)
    entry = constraints.workload[0]
    specs = input_specs(loaded, entry.shapes)
    given = _given_samples(constraints, specs)
    files = bound_files(loaded, entry.shapes, work, given.feeds(0) if given else None)
    if given is not None:
        keep_inputs(files, given.feeds(0))
    samples = given or synthetic_samples(
        specs, SYNTHETIC_RUNS, graph=kept_graph(files.bound_path, work)
    )
    feeds_path = work.scratch / "feeds.npz"
    write_tensors(feeds_path, samples.feeds(0))
    graph = kept_graph(files.model_path, work)
    unmet = unmet_wishes(constraints, [op.name for op in graph.ops])
    return Prepared(
        loaded=loaded,
        shape_name=entry.name,
        shapes={spec.name: _fixed(spec) for spec in specs},
        bound_path=files.bound_path,
        model_path=files.model_path,
        plain_path=files.plain_path,
        is_simplified=files.is_simplified,
        sha256=file_digest(files.model_path),
        graph=graph,
        specs=specs,
        samples=samples,
        feeds_path=feeds_path,
        feeds_digest=samples.first(1).digest,
        random_outputs=files.random_outputs,
        notes=(*loaded.notes, *files.notes, *unmet),
    )


def _fixed(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(dim for dim in spec.shape if dim is not None)


def _given_samples(constraints: Constraints, specs: tuple[TensorSpec, ...]) -> Samples | None:
    """The calibration file's inputs, else the evaluation file's; None where there is neither."""
    accuracy = constraints.accuracy
    if accuracy.calibration is not None:
        return load_calibration(accuracy.calibration, specs)
    if accuracy.evaluation is not None and not is_function(accuracy.evaluation):
        return load_calibration(Path(accuracy.evaluation), specs)
    return None
