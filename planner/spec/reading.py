"""What was read of a model whose weights are absent: for people and as JSON."""

from __future__ import annotations

from planner.spec.base import Document


class ShapeWork(Document):
    """Arithmetic and traffic of one workload entry, nothing fused."""

    name: str
    """The workload entry."""
    flops: float
    """A multiply-add is two."""
    activation_bytes: int
    """Bytes of activations that operators read and write."""
    weight_bytes: int
    """Bytes of weights that operators read."""
    peak_activation_bytes: int
    """Most bytes of activations alive at once, in the file's order."""
    unknown_ops: int
    """Operators whose work is unknown because a shape is: the figures leave them out."""


class RepeatedBlock(Document):
    """A block that occurs again."""

    instances: int
    ops: int
    """Operators of one instance."""
    parameters: int
    """Elements of the weights that one instance reads."""
    first: str
    """Name of the first operator of the first instance."""


class Reading(Document):
    """A model without its weights."""

    op_counts: dict[str, int]
    """Operator kind -> how many are left after simplification."""
    weights: int
    """Stored tensors that operators read."""
    shared_weights: int
    """Those that several operators read."""
    format_bytes: dict[str, int]
    """Format -> bytes of all weights in it, scales of integer formats not counted."""
    work: tuple[ShapeWork, ...]
    blocks: tuple[RepeatedBlock, ...]
