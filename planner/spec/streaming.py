"""The `streaming` section of plan.json: what of a model on one device is kept in memory, and what
is fetched for each run. Which operators stand in which part is in `execution`."""

from __future__ import annotations

from planner.spec.base import Document


class StreamingPlan(Document):
    """Bytes of the whole process that runs the engine, and what not keeping all of them costs."""

    runtime_size_bytes: int
    """Of the process before it has loaded anything: interpreter, libraries."""
    resident_size_bytes: int
    """Weights that stay."""
    buffer_size_bytes: int
    """Most of the weights that are there only for a while: of two parts in a row."""
    activation_size_bytes: int
    """Tensors between and within operators, at their fullest."""
    streamed_size_bytes: int
    """Weights that come with every run, out of their files."""
    table_size_bytes: int = 0
    """Weights of which only rows are looked up: read where they lie."""
    parts: int
    """That run one after the other."""
    streamed_parts: int
    resident_us: dict[str, float]
    """Predicted p50 of the same parts with all weights in memory, by workload shape."""
    whole_size_bytes: int
    """What keeping all weights would take, predicted alike."""

    @property
    def size_bytes(self) -> int:
        """Of the process, at its fullest."""
        kept = self.runtime_size_bytes + self.resident_size_bytes
        return kept + self.buffer_size_bytes + self.activation_size_bytes
