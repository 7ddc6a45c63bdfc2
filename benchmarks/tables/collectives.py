"""Rows that time one collective: its kind, its message, its ranks, the software that ran it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchmarks.tables import metrics
from benchmarks.tables.hardware import counted_devices
from benchmarks.tables.rows import Row, UnpredictableError, refuse_empty
from benchmarks.tables.sizes import named_bytes, stated_bytes

_KINDS = {
    "all_?reduce": "all_reduce",
    "all_?gather": "all_gather",
    "reduce_?scatter": "reduce_scatter",
    "all_?to_?all": "all_to_all",
    "send_?recv|p2p": "send_recv",
}


@dataclass(frozen=True, slots=True)
class Collective:
    """One collective as a row describes it."""

    kind: str
    size_bytes: float
    """The whole tensor, as `Predictor.collective` counts it."""
    ranks: int
    ranks_per_node: int
    implementation: str

    @property
    def bus_share(self) -> float:
        """What a link carries of the tensor: bus over algorithm bandwidth of nccl-tests."""
        if self.kind == "send_recv":
            return 1.0
        share = (self.ranks - 1) / self.ranks
        return 2 * share if self.kind == "all_reduce" else share


def collective_of(row: Row) -> Collective | None:
    """The collective that a row times, or None.

    Raises:
        UnpredictableError: its message or its ranks are not stated.
    """
    name = re.sub(r"[\s-]+", "_", row.model.split(":")[-1].strip().lower())
    kinds = (k for word, k in _KINDS.items() if re.search(rf"(?:^|_)(?:{word})(?:_|$)", name))
    kind = next(kinds, None)
    if kind is None:
        return None
    ranks = counted_devices(row) or row.number("tp", 1)
    if ranks < 2:
        raise UnpredictableError("a collective of one rank")
    per_node = re.search(r"devices_per_node=(\d+)", f"{row.params} {row.notes}")
    held = int(per_node[1]) if per_node else min(ranks, 8)
    size = _message_bytes(row)
    refuse_empty(size, held)
    return Collective(kind, size, ranks, held, implementation_of(row))


def collective_us(row: Row, collective: Collective) -> float:
    """The measured latency in microseconds, from a latency or a bandwidth.

    Raises:
        UnpredictableError: the metric is neither.
    """
    kind = metrics.bandwidth_kind(row.metric)
    if kind is None:
        return metrics.latency_us(row)
    share = collective.bus_share if kind == "bus" else 1.0
    rate = row.measured * metrics.bandwidth_scale(row.metric) * 1e3
    return share * collective.size_bytes / rate


def _message_bytes(row: Row) -> float:
    stated = stated_bytes(row.params)
    if stated is not None:
        return stated
    elements = re.search(r"message_size=(\d+)(?![\d.,\w])", row.params)
    if elements:
        return 2.0 * float(elements[1])
    hidden = re.search(r"hidden=(\d+)", row.params)
    if hidden:
        tokens = row.number("batch") * (1 if row.seq_out else row.number("seq_in", 1))
        return 2.0 * tokens * float(hidden[1])
    named = named_bytes(row.model)
    if named is None:
        raise UnpredictableError("no message size")
    return named


def implementation_of(row: Row) -> str:
    """Software that runs a collective: its start differs fivefold."""
    text = row.text
    if "kernel=trtllm" in text or "kernel=vllm" in text or "custom" in text:
        return "custom"
    return "nccl-tests" if "nccl-tests" in text else "nccl"
