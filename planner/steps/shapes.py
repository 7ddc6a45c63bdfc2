"""The workload's shapes: what each fixes, how often it occurs, and inputs to run it on.

One engine serves all of them. Whatever is timed is timed per shape, so everything that holds times
holds them in the order of the workload; a workload of one shape is nothing special.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.compress.samples import Samples
from planner.ir.graph import Graph
from planner.spec.manifest import TensorSpec
from planner.spec.plan import Estimate, WorkloadShape


@dataclass(frozen=True, slots=True)
class BoundShape:
    """One entry of the workload, every dimension known."""

    name: str
    weight: float
    """As the user gave it."""
    share: float
    """Of all runs; the shares of a workload add up to 1."""
    specs: tuple[TensorSpec, ...]
    """Every input that is fed."""
    graph: Graph
    """The simplified model, with the sizes that tensors have under this shape."""
    samples: Samples
    """Calibration inputs that fit, or synthetic ones (`samples.is_synthetic`)."""
    feeds_path: Path
    """One run's inputs, for everything that is timed."""
    feeds_digest: str

    @property
    def recorded(self) -> WorkloadShape:
        """As plans record it."""
        return WorkloadShape(name=self.name, shapes=sizes(self.specs), weight=self.weight)


def sizes(specs: Sequence[TensorSpec]) -> dict[str, tuple[int, ...]]:
    """The dimensions that are known, by input."""
    return {spec.name: tuple(dim for dim in spec.shape if dim is not None) for spec in specs}


def activation_size_bytes(graph: Graph) -> int:
    """Bytes of everything that flows through a graph."""
    return sum(tensor.size_bytes for tensor in graph.tensors.values() if not tensor.is_constant)


def weighted(shapes: Sequence[BoundShape], estimates: Sequence[Estimate]) -> Estimate:
    """The mean over all runs of what was estimated per shape; sources are alike."""
    pairs = [(shape.share, found) for shape, found in zip(shapes, estimates, strict=True)]
    return Estimate(
        low=sum(share * found.low for share, found in pairs),
        expected=sum(share * found.expected for share, found in pairs),
        high=sum(share * found.high for share, found in pairs),
        source=estimates[0].source,
    )
