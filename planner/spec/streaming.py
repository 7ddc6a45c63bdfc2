"""The `streaming` section of plan.json: what of a model on one device is kept in memory, and what
is fetched for each run. Which operators stand in which part is in `execution`."""

from __future__ import annotations

from planner.spec.base import Document


class Recomputed(Document):
    """A tensor that is not kept from its early readers to its late ones: it is made again."""

    tensor: str
    ops: tuple[str, ...]
    """That make it from what is there, in order."""
    readers: tuple[str, ...]
    """That read the copy, in order."""


class StreamingPlan(Document):
    """Bytes of the whole process that runs the engine, and what not keeping all of them costs."""

    runtime_size_bytes: int
    """Of the process before it has loaded anything: interpreter, libraries."""
    resident_size_bytes: int
    """Weights that stay."""
    buffer_size_bytes: int
    """Most of the weights that are there only for a while: of two parts in a row."""
    activation_size_bytes: int
    """Tensors between and within operators: what of them is there when most is taken."""
    streamed_size_bytes: int
    """Weights that come with every run, out of their files."""
    table_size_bytes: int = 0
    """Weights of which only rows are looked up: read where they lie."""
    parts: int
    """That run one after the other."""
    streamed_parts: int
    resident_us: dict[str, float]
    """Predicted p50 of the same parts with all weights in memory, by workload shape."""
    recomputed: tuple[Recomputed, ...] = ()
    """What is made again where memory is short."""
    recompute_us: dict[str, float] | None = None
    """What that adds to the time, by workload shape."""
    whole_size_bytes: int
    """What keeping all weights would take, predicted alike."""

    @property
    def size_bytes(self) -> int:
        """Of the process, at its fullest."""
        kept = self.runtime_size_bytes + self.resident_size_bytes
        return kept + self.buffer_size_bytes + self.activation_size_bytes
