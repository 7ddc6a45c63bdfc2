"""From the user's file to a graph: checked, shape-bound, simplified, with inputs to run it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from planner.compress.samples import Samples
from planner.compress.synthetic import synthetic_samples
from planner.compress.workload import Specs, calibrations
from planner.graph import weights
from planner.graph.model import LoadedModel
from planner.graph.store import data_path
from planner.ir.graph import Graph
from planner.runtime.tensors import write_tensors
from planner.spec.budget import is_function
from planner.spec.constraints import Constraints
from planner.steps.files import Files, bound_files, input_specs, keep_inputs
from planner.steps.functions import refuse_absent_functions
from planner.steps.reading import kept_graph, known_model
from planner.steps.request import refuse_absent, unmet_wishes
from planner.steps.shapes import BoundShape, activation_size_bytes, sizes
from planner.steps.workspace import Workspace, digest, file_digest

SYNTHETIC_RUNS = 8


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model ready to be planned for every shape of its workload."""

    loaded: LoadedModel
    shapes: tuple[BoundShape, ...]
    bound_path: Path
    """The user's model with its operators named and those dimensions fixed in which its shapes
    agree; otherwise as it came."""
    model_path: Path
    """The same, simplified, and refined for the CPU if that is the target; equal to `bound_path`
    where that changed the outputs."""
    plain_path: Path
    """What plain ONNX Runtime runs: the user's file wherever it takes that as it is."""
    is_simplified: bool
    sha256: str
    """Digest of the file at `model_path` and of the weights that it refers to."""
    random_outputs: tuple[str, ...]
    """Outputs that differ from run to run by the model's own design."""
    notes: tuple[str, ...]

    @property
    def graph(self) -> Graph:
        """The simplified model; tensors have the sizes of the shape that moves most bytes."""
        graphs = (shape.graph for shape in self.shapes)
        return max(graphs, key=activation_size_bytes)

    @property
    def samples(self) -> tuple[Samples, ...]:
        """What errors are measured on: all data there is, else synthetic inputs of every shape."""
        real = tuple(shape.samples for shape in self.shapes if not shape.samples.is_synthetic)
        return real or tuple(shape.samples for shape in self.shapes)

    @property
    def is_calibrated(self) -> bool:
        """Whether errors are measured on data rather than on synthetic inputs."""
        return not any(samples.is_synthetic for samples in self.samples)


def prepare(constraints: Constraints, work: Workspace) -> Prepared:
    """The model, checked, bound and simplified.

    Raises:
        ModelError: damaged, unsupported or unbound model.
        DataError: calibration data that fits none of the workload's shapes.
        UsageError: wishes that nothing here can meet, functions that nobody has.
        EnvironmentMismatchError: a target that is not here.
    """
    refuse_absent(constraints)
    return _prepared(constraints, work, is_here=True)


def prepare_elsewhere(constraints: Constraints, work: Workspace) -> Prepared:
    """The same for a target that need not be here: only the model and the data are looked at.

    Raises: as `prepare`, but for the target.
    """
    return _prepared(constraints, work, is_here=False)


def _prepared(constraints: Constraints, work: Workspace, *, is_here: bool) -> Prepared:
    work.reporter.stage("load")
    refuse_absent_functions(constraints.accuracy)
    loaded = known_model(constraints.model, work)
    specs = {entry.name: input_specs(loaded, entry.shapes) for entry in constraints.workload}
    given = _given_samples(constraints, specs)
    feeds = {name: samples.feeds(0) for name, samples in given.items()}
    files = bound_files(
        loaded,
        [entry.shapes for entry in constraints.workload],
        work,
        [feeds.get(entry.name) for entry in constraints.workload],
        for_cpu=is_here,
    )
    for name, values in feeds.items():
        keep_inputs(files, sizes(specs[name]), values)
    shapes = _shapes(constraints, specs, given, files, work)
    unmet = unmet_wishes(constraints, [op.name for op in shapes[0].graph.ops])
    return Prepared(
        loaded=loaded,
        shapes=shapes,
        bound_path=files.bound_path,
        model_path=files.model_path,
        plain_path=files.plain_path,
        is_simplified=files.is_simplified,
        sha256=_digest(files, loaded),
        random_outputs=files.random_outputs,
        notes=(*loaded.notes, *files.notes, *unmet, *_unmeasured(specs, given)),
    )


def _digest(files: Files, loaded: LoadedModel) -> str:
    """Two fine-tunes of a large model differ in nothing but the weights beside their files, which
    the digest of the user's own files covers."""
    if not data_path(files.bound_path).exists():
        return file_digest(files.model_path)
    return digest("weights beside", weights.digest(files.model_path), loaded.sha256)


def _shapes(
    constraints: Constraints,
    specs: Specs,
    given: Mapping[str, Samples],
    files: Files,
    work: Workspace,
) -> tuple[BoundShape, ...]:
    total = sum(entry.weight for entry in constraints.workload)
    found = []
    for number, entry in enumerate(constraints.workload):
        own = specs[entry.name]
        samples = given.get(entry.name) or synthetic_samples(
            own, SYNTHETIC_RUNS, graph=kept_graph(files.bound_path, work)
        )
        feeds_path = work.scratch / f"feeds-{number}.npz"
        write_tensors(feeds_path, samples.feeds(0))
        found.append(
            BoundShape(
                name=entry.name,
                weight=entry.weight,
                share=entry.weight / total,
                specs=tuple(own),
                graph=kept_graph(files.model_path, work, sizes(own)),
                samples=samples,
                feeds_path=feeds_path,
                feeds_digest=samples.first(1).digest,
            )
        )
    return tuple(found)


def _given_samples(constraints: Constraints, specs: Specs) -> dict[str, Samples]:
    """The calibration file's inputs, else the evaluation file's, for each shape that they fit."""
    accuracy = constraints.accuracy
    if accuracy.calibration is not None:
        return calibrations(accuracy.calibration, specs)
    if accuracy.evaluation is not None and not is_function(accuracy.evaluation):
        return calibrations(Path(accuracy.evaluation), specs)
    return {}


def _unmeasured(specs: Specs, given: Mapping[str, Samples]) -> tuple[str, ...]:
    """Shapes that there is no data for although there is data: what that means for the errors."""
    without = [repr(name) for name in specs if name not in given]
    if not given or not without:
        return ()
    with_data = ", ".join(map(repr, given))
    return (
        f"no data fits the shape {', '.join(without)}: errors are those of {with_data}"
        " (arrays named SHAPE/INPUT hold data of one shape)",
    )
