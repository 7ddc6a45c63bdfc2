"""What a row's value is: a latency, a rate of arithmetic or of messages, a size; with its unit.

Names of metrics are free text with a unit at the end (`op_latency_ms_median`, `busbw_GB/s`,
`throughput_img/s`): each is read by its unit, and what has none that is known is refused.
"""

from __future__ import annotations

import re
from typing import NoReturn

from benchmarks.tables.rows import Row, UnpredictableError

_LATENCY = re.compile(
    r"(?<![a-z])(ns|us|[\u00b5\u03bc]s|ms|msecs?|usecs?)(?![a-z])"
    r"|(nano|micro|milli)(?:second|sec)s?(?![a-z])"
    r"|(?:latency|time|duration|elapsed|ttft|tpot|itl|e2el?)[ _(\[-]*(?:in[ _])?"
    r"(s|secs?|seconds?)(?![a-z])"
    r"|^(s|secs?|seconds?)$"
)
_MICROSECONDS = {"n": 1e-3, "u": 1.0, "\u00b5": 1.0, "\u03bc": 1.0, "mi": 1.0, "m": 1e3, "s": 1e6}
"""First letters of a unit -> microseconds; `mi` is micro."""
_ARITHMETIC = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15, "e": 1e18}
_OPERATIONS = re.compile(r"(?<![a-z])([kmgtpe])(?:fl)?op(?:s|/s|_per_s)")
_RATE = re.compile(
    r"throughput|\btput|(?<![a-z])tps(?![a-z])|interactivity|_per_s(?![a-z])|_per_sec|/s(?:ec|econd)?(?![a-z])|\bips\b|\bqps\b|per_second"
)
_UNTOLD = re.compile(
    r"(?:mean_|avg_|median_)?(?:latency|time|duration|ttft|tpot|itl)(?:_(?:mean|avg))?"
)
_BATCHES = re.compile(r"(?<![a-z])(?:it|iters?|iterations?|batch(?:es)?|steps?)(?:/|_per_)s")
_TRAINING = re.compile(r"(?<![a-z])(?:train(?:ing)?|fine-?tun\w*|backward|bwd)(?![a-z])")
_TOKENS = re.compile(
    r"tok|(?<![a-z])tps(?![a-z])|(?<![a-z])t/s|interactivity"
    r"|(?:input|output|prompt|prefill|decode|generation|total)_throughput"
)
_ALL_TOKENS = re.compile(
    r"total_?(?:num_?)?tok|tok\w*_total|in(?:put)?[+&]out|(?:total|overall)_(?:throughput|tput)"
)
_READ_TOKENS = re.compile(r"(?:input|prompt)_(?:tok|throughput)")
_OF_ONE_USER = re.compile(r"(?:/|per_|_)(?:user|client|request)(?![a-z])|interactivity")
_INPUTS = re.compile(
    r"seq|sent|sample|im(?:g|age)|frame|\bfps|quer|(?<![a-z])q[/p]s|req|prompt|input|infer|item"
)
_BYTES = {"b": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_BINARY = {"k": 2.0**10, "m": 2.0**20, "g": 2.0**30, "t": 2.0**40}
_SIZE = re.compile(r"(?<![a-z])([kmgt])(i?)b(?:ytes)?(?![a-z])|(?<![a-z])bytes(?![a-z])")
_BANDWIDTH = re.compile(r"(?<![A-Za-z])([kmgtKMGT])(i?)((?i:bits?|bytes?)|[bB])(/s|ps|_per_s)")
"""Prefix, `i`, bits or bytes, and how a second is written: by their case `Gbps` are bits."""


def latency_scale(metric: str) -> float | None:
    """Microseconds of one unit of a latency, or None where the metric is none."""
    text = metric.lower()
    found = None if _OPERATIONS.search(text) else _LATENCY.search(text)
    unit = next(filter(None, found.groups()), "") if found else ""
    if not unit:
        return None
    if unit == "milli":
        return _MICROSECONDS["m"]
    return _MICROSECONDS["mi" if unit == "micro" else unit[0]]


def latency_us(row: Row) -> float:
    """The measured latency in microseconds.

    Raises:
        UnpredictableError: the metric is no latency.
    """
    scale = latency_scale(row.metric)
    if scale is None:
        raise UnpredictableError(_untold(row.metric) or f"metric {row.metric!r} is no latency")
    return row.measured * scale


def refuse(metric: str) -> NoReturn:
    """A metric that nothing is predicted of.

    Raises:
        UnpredictableError: always.
    """
    raise UnpredictableError(_untold(metric) or f"metric {metric!r} is not predicted")


def _untold(metric: str) -> str:
    """Why a latency is none: it names no unit."""
    is_latency = _UNTOLD.fullmatch(metric.lower()) is not None
    return f"the unit of {metric!r} is not stated" if is_latency else ""


def arithmetic_scale(metric: str) -> float | None:
    """Operations per second of one unit of an arithmetic rate, or None."""
    found = _OPERATIONS.search(metric.lower())
    return _ARITHMETIC[found[1]] if found else None


def bandwidth_kind(metric: str) -> str | None:
    """`bus` or `algorithm` of a bandwidth as benchmarks of collectives print it; or None."""
    text = metric.lower()
    if not re.search(
        r"[gm]i?b/s|[gm]i?bps|[kmgt]i?(?:bit|byte)s?(?:/s|ps|_per_s)|bandwidth|busbw|algbw", text
    ):
        return None
    return "bus" if "bus" in text else "algorithm"


def is_latency_without_unit(metric: str) -> bool:
    """Whether a name means a latency and no unit."""
    return bool(_untold(metric))


def is_rate(metric: str) -> bool:
    """Whether a larger value is faster."""
    if latency_scale(metric) is not None:
        return False
    text = metric.lower()
    return (
        arithmetic_scale(metric) is not None
        or bandwidth_kind(metric) is not None
        or _RATE.search(text) is not None
    )


def size_scale(metric: str) -> float:
    """10^9 bytes of one unit of a size; what names no unit is in these."""
    found = _SIZE.search(metric.lower())
    if found is None:
        return 1.0
    if found[1] is None:
        return 1e-9
    return (_BINARY if found[2] else _BYTES)[found[1]] / 1e9


def bandwidth_scale(metric: str) -> float:
    """10^9 bytes per second of one unit of a bandwidth; what names no unit is in these, as NVIDIA's
    nccl-tests print it.

    Raises:
        UnpredictableError: `gbps`, which are bits or bytes.
    """
    found = _BANDWIDTH.search(metric)
    if found is None:
        return size_scale(metric.split("/")[0])
    prefix, binary, unit, per_second = found.groups()
    if unit == "b" and prefix.islower() and per_second == "ps":
        raise UnpredictableError(f"{found[0]!r} may be bits or bytes")
    is_bits = "bit" in unit.lower() or (unit == "b" and prefix.isupper())
    scale = (_BINARY if binary else _BYTES)[prefix.lower()] / 1e9
    return scale / 8 if is_bits else scale


def counts_batches(metric: str) -> bool:
    """Whether a throughput counts runs of the model, not their inputs."""
    return _BATCHES.search(metric.lower()) is not None


def is_of_training(text: str) -> bool:
    """Whether a text says that more than a forward pass was measured."""
    return _TRAINING.search(text.lower()) is not None


def counts_tokens(metric: str) -> bool:
    """Whether a throughput counts tokens, not whole inputs."""
    return _TOKENS.search(metric.lower()) is not None


def counts_all_tokens(metric: str) -> bool:
    """Whether it counts those read as well as those written."""
    return _ALL_TOKENS.search(metric.lower()) is not None


def counts_read_tokens(metric: str) -> bool:
    """Whether it counts tokens that are read, over all of a run's time."""
    return _READ_TOKENS.search(metric.lower()) is not None


def is_of_one_user(metric: str) -> bool:
    """Whether a throughput of tokens is what one of several clients sees: how fast its answer is
    written."""
    return counts_tokens(metric) and _OF_ONE_USER.search(metric.lower()) is not None


def says_what_it_counts(metric: str) -> bool:
    """Whether a throughput names tokens, inputs or runs."""
    text = metric.lower()
    return counts_tokens(text) or counts_batches(text) or _INPUTS.search(text) is not None
