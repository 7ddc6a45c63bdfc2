"""What may be chosen for every operator, and what may not: asked of each format's method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from planner.compress.base import NATIVE, Calibration, Format, Offer, Rejection
from planner.compress.calibrate import calibrate
from planner.compress.methods import offers
from planner.compress.samples import Samples
from planner.compress.smoothing import SmoothingSettings, smoothing
from planner.graph.sandbox import MANY_RUNS, Sandbox
from planner.ir.graph import Graph
from planner.spec.constraints import Constraints
from planner.spec.session import SessionSettings
from planner.steps.pinned import Bound
from planner.steps.prepare import Prepared
from planner.steps.workspace import Workspace, digest

CPU_FORMATS = (
    Format.INT8_DYNAMIC,
    Format.INT8_DYNAMIC_SMOOTH,
    Format.INT8_STATIC,
    Format.INT8_WO,
    Format.INT4_WO,
)
"""Tried where the user names none. Half precision is tried only when named: ONNX Runtime's CPU
provider casts it to fp32 around every operator."""
_REFINES: Mapping[Format, tuple[Format, ...]] = {
    Format.INT8_DYNAMIC_SMOOTH: (Format.INT8_DYNAMIC,),
}
"""What the other operators of a uniform variant take: its way is a way of that format."""
_SMOOTHING = SmoothingSettings()
_NOT_SMOOTHER = (
    "moving scales of its channels into its weights lowers its error by less than a third"
)
_NO_RANGE = "an activation becomes NaN or infinite on the calibration samples"


@dataclass(frozen=True, slots=True)
class Choices:
    """What may be chosen for every operator, and what may not, with the reason."""

    offers: tuple[Offer, ...]
    rejections: tuple[Rejection, ...]
    ranges: Mapping[str, tuple[float, float]]
    smoothing: Mapping[str, str] = field(default_factory=dict)
    """Operator -> what its channels are divided by where it is smoothed (`compress/shifts`)."""

    @property
    def calibration(self) -> Calibration:
        """What builds and simulations are given."""
        return Calibration(self.ranges, self.smoothing)

    @property
    def formats(self) -> tuple[Format, ...]:
        """Formats that at least one operator may take, native first."""
        return tuple(dict.fromkeys([NATIVE, *(offer.format for offer in self.offers)]))

    @property
    def bound(self) -> Bound:
        """Operators that may not stay native."""
        found: dict[str, set[Format]] = {}
        for offer in self.offers:
            found.setdefault(offer.op, set()).add(offer.format)
        return {op: frozenset(forms) for op, forms in found.items() if NATIVE not in forms}

    def uniform(self, wanted: Format) -> dict[str, Format]:
        """Every operator that may take the format in it, else in what the format refines; pinned
        ones in theirs. Native is the model as it is, pins or not: all is compared with it."""
        if wanted == NATIVE:
            return {}
        assigned: dict[str, Format] = {}
        allowed: dict[str, list[Format]] = {}
        for offer in self.offers:
            allowed.setdefault(offer.op, []).append(offer.format)
        for op, found in allowed.items():
            ways = (wanted, *_REFINES.get(wanted, ()))
            taken = next((form for form in ways if form in found), None)
            if taken is not None:
                assigned[op] = taken
            elif NATIVE not in found:
                assigned[op] = found[0]
        return {op: form for op, form in assigned.items() if form != NATIVE}


def choices(constraints: Constraints, prepared: Prepared, work: Workspace) -> Choices:
    """What every operator may take, with the ranges that static formats need."""
    allowed = (NATIVE, *(constraints.compression.formats or CPU_FORMATS))
    answers = offers(prepared.graph, allowed, constraints.compression.pin)
    made = tuple(answer for answer in answers if isinstance(answer, Offer))
    refused = tuple(answer for answer in answers if isinstance(answer, Rejection))
    tensors = sorted({name for offer in made for name in offer.ranged_tensors})
    ranges = _ranges(prepared, tensors, work) if tensors else {}
    unranged = tuple(offer for offer in made if not ranges.keys() >= set(offer.ranged_tensors))
    if unranged:
        work.reporter.note(f"{len(unranged)} operators cannot be {Format.INT8_STATIC}: {_NO_RANGE}")
    refused += tuple(Rejection(offer.op, offer.format, _NO_RANGE) for offer in unranged)
    found = _smoothing(prepared, made, work)
    rough = tuple(offer for offer in made if _is_smooth(offer) and offer.op not in found)
    refused += tuple(Rejection(offer.op, offer.format, _NOT_SMOOTHER) for offer in rough)
    kept = tuple(offer for offer in made if offer not in {*unranged, *rough})
    return Choices(_all_offered(prepared.graph, kept), refused, ranges, found)


def smoothing_of(found: Mapping[str, str], formats: Mapping[str, Format]) -> dict[str, str]:
    """Only what operators in these formats are divided by."""
    smooth = {op for op, form in formats.items() if form == Format.INT8_DYNAMIC_SMOOTH}
    return {op: text for op, text in sorted(found.items()) if op in smooth}


def _is_smooth(offer: Offer) -> bool:
    return offer.format == Format.INT8_DYNAMIC_SMOOTH


def _smoothing(prepared: Prepared, made: Sequence[Offer], work: Workspace) -> dict[str, str]:
    """What channels are divided by, for the products that gain from it."""
    ops = sorted(offer.op for offer in made if _is_smooth(offer))
    if not ops:
        return {}
    work.reporter.stage("calibrate")
    samples = prepared.samples
    key = digest(
        "smoothing", prepared.sha256, *(each.digest for each in samples), ops, asdict(_SMOOTHING)
    )
    bounds = MANY_RUNS.for_size(prepared.loaded.size_bytes)
    sandbox = Sandbox("calibrating channels", str(prepared.loaded.path), bounds)
    model_path, graph = prepared.model_path, prepared.graph
    found: dict[str, str] = work.once(
        "smoothing",
        key,
        lambda: sandbox.call(
            smoothing, model_path, graph, ops, samples, SessionSettings(), _SMOOTHING
        ),
    )
    return found


def _all_offered(graph: Graph, made: Sequence[Offer]) -> tuple[Offer, ...]:
    """The offers; an operator left without any stays native."""
    offered = {offer.op for offer in made}
    return (*made, *(Offer(op.name, NATIVE) for op in graph.ops if op.name not in offered))


def _ranges(
    prepared: Prepared, tensors: Sequence[str], work: Workspace
) -> dict[str, tuple[float, float]]:
    """Ranges that hold for the samples of every shape."""
    work.reporter.stage("calibrate")
    found = [_ranges_on(samples, prepared, tensors, work) for samples in prepared.samples]
    return {
        name: (min(each[name][0] for each in found), max(each[name][1] for each in found))
        for name in found[0]
    }


def _ranges_on(
    samples: Samples, prepared: Prepared, tensors: Sequence[str], work: Workspace
) -> dict[str, tuple[float, float]]:
    key = digest("ranges", prepared.sha256, samples.digest, tensors)
    bounds = MANY_RUNS.for_size(prepared.loaded.size_bytes)
    sandbox = Sandbox("calibrating activations", str(prepared.loaded.path), bounds)

    def compute() -> dict[str, list[float]]:
        found = sandbox.call(
            calibrate,
            prepared.model_path,
            prepared.graph,
            tensors,
            samples,
            SessionSettings(),
        )
        return {name: list(ends) for name, ends in found.items()}

    payload = work.once("ranges", key, compute)
    return {name: (low, high) for name, (low, high) in payload.items()}
