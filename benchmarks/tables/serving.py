"""Rows of engines that serve many clients at once: what of them can be told, and what runs.

Requests come and go (continuous batching: Yu et al. 2022). Where each client sends its next request
as soon as the last is answered, as many run as there are clients, or as many as their caches fit;
prompts are read one by one between steps that write a token for all. So in the time in which one
answer is written, every other client's prompt is read once.
"""

from __future__ import annotations

import re
from dataclasses import replace

from benchmarks.tables import metrics, weigh
from benchmarks.tables.architectures import Transformer
from benchmarks.tables.rows import Row, UnpredictableError
from benchmarks.tables.software import SERVING

OPEN_LOOP, CLIENTS = "open loop", "concurrency"
"""What `headings.py` notes of columns: requests that come whatever is answered; clients."""
_UTILISED = 0.9
"""Of a device's memory, for weights and caches (vLLM's default of gpu_memory_utilization)."""
_SERVED = re.compile(r"ttft|tpot|(?<![a-z])itl(?![a-z])|e2e|first_?token|inter_?token")
_TAIL = re.compile(
    r"(?<![a-z\d])(?:p|percentile_?)9\d|9\d(?:\.\d+)?(?:th|%)|(?<![a-z])tail(?![a-z])"
)
_MEDIAN = re.compile(r"median|(?<![a-z\d])p50(?!\d)|50th")
_SPECULATIVE = re.compile(
    r"speculat|eagle|medusa|(?<![a-z])mtp(?![a-z])|draft[-_ ]?model|lookahead"
)


def has_clients(row: Row) -> bool:
    """Whether each of several clients waits for its answers."""
    return "concurren" in f"{row.params} {row.notes}".lower()


def refuse_untold(row: Row, runtime: str) -> None:
    """Rows of servers whose value depends on what they do not state.

    Raises:
        UnpredictableError: such a row.
    """
    text = f"{row.model} {row.params} {row.notes}".lower()
    metric = row.metric.lower()
    if _SPECULATIVE.search(text):
        raise UnpredictableError("speculative decoding is not modelled")
    if _TAIL.search(metric) and (_SERVED.search(metric) or has_clients(row)):
        raise UnpredictableError("tails of a server's latencies are not predicted")
    if row.batch:
        return
    is_rate = metrics.is_rate(row.metric) and not metrics.is_of_one_user(row.metric)
    if OPEN_LOOP in text or (is_rate and runtime in SERVING):
        raise UnpredictableError("no batch")


def refuse_clients(row: Row, model: Transformer | None) -> None:
    """Models that answer at once, whose clients become a batch only if a server waits for them.

    Raises:
        UnpredictableError: such a model, of which clients are all that is stated.
    """
    is_at_once = model is None or model.kind == "encoder"
    if is_at_once and "concurrency as batch" in row.notes and row.number("batch", 1) > 1:
        raise UnpredictableError("no batch")


def running(row: Row, model: Transformer, format: str, clients: int) -> int:
    """Requests that run at once: those whose caches fit beside the weights.

    Raises:
        UnpredictableError: the time until a first token, where requests wait for others to end.
    """
    if clients <= 1 or not has_clients(row):
        return clients
    weights, cache, _ = weigh.parts(model, _halfway(row), format)
    left = _UTILISED * weigh.capacity_gb(row) - weights
    most = int(left / cache) if cache > 0 else clients
    if not 0 < most < clients:
        return clients
    if re.search(r"ttft|first_?token", row.metric.lower()):
        raise UnpredictableError("more requests than memory holds wait for each other")
    return most


def prompts_between(row: Row, clients: int, answer: int) -> float:
    """Prompts of other clients that are read for each token of an answer, on average over all
    tokens of an answer; none between most neighbours, which is what a median of gaps tells."""
    metric = row.metric.lower()
    is_gap = re.search(r"(?<![a-z])itl(?![a-z])|inter_?token", metric) is not None
    if not has_clients(row) or not answer or (is_gap and _MEDIAN.search(metric)):
        return 0.0
    return (clients - 1) / answer


def _halfway(row: Row) -> Row:
    """One request in the middle of its answer."""
    return replace(row, batch="1", seq_out=str(row.number("seq_out", 0) // 2))
