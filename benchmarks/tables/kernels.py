"""Rows that time one kernel: products, attention, layer operators, collectives."""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchmarks.tables.precision import format_of
from benchmarks.tables.rows import Row, UnpredictableError
from planner.cost.work import Attention, Flow, Product, Traffic, Work

_UNITS_US = {"latency_us": 1.0, "latency_ms": 1e3, "latency_s": 1e6}
COLLECTIVES = {
    "all_reduce": "all_reduce",
    "allreduce": "all_reduce",
    "all_gather": "all_gather",
    "allgather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "reducescatter": "reduce_scatter",
    "alltoall": "all_to_all",
    "all_to_all": "all_to_all",
    "send_recv": "send_recv",
    "sendrecv": "send_recv",
    "p2p": "send_recv",
}


@dataclass(frozen=True, slots=True)
class Collective:
    """One collective as a row describes it."""

    kind: str
    size_bytes: float
    ranks: int
    ranks_per_node: int
    implementation: str


def latency_us(row: Row) -> float:
    """The measured latency in microseconds.

    Raises:
        UnpredictableError: the metric is no latency.
    """
    metric = row.metric.lower()
    for unit, scale in _UNITS_US.items():
        if unit in metric:
            return row.measured * scale
    raise UnpredictableError(f"metric {row.metric!r} is no latency")


def is_rate(row: Row) -> bool:
    """Whether the row's value is a rate of arithmetic."""
    return row.metric.lower() in ("tflops", "tops")


def kernel_us(row: Row, work: Work) -> float:
    """The measured latency of a kernel in microseconds, from a latency or a rate.

    Raises:
        UnpredictableError: the metric is neither.
    """
    return work.flops / (row.measured * 1e6) if is_rate(row) else latency_us(row)


def collective_of(row: Row) -> Collective | None:
    """The collective that a row times, or None."""
    name = row.model.split(":")[-1].strip().lower()
    kind = COLLECTIVES.get(name) or COLLECTIVES.get(re.sub(r"_(mha|ffn)$", "", name))
    if kind is None:
        return None
    ranks = row.number("n_gpus", row.number("tp", 1))
    per_node = re.search(r"devices_per_node=(\d+)", row.notes)
    size = _message_bytes(row)
    return Collective(
        kind, size, ranks, int(per_node[1]) if per_node else min(ranks, 8), implementation_of(row)
    )


def _message_bytes(row: Row) -> float:
    for pattern in (r"size_bytes=(\d+)", r"=\s*(\d+)\s*bytes", r"bytes=(\d+)", r"(\d+)\s*bytes"):
        found = re.search(pattern, row.params)
        if found:
            return float(found[1])
    elements = re.search(r"message_size=(\d+)", row.params)
    if elements:
        return 2.0 * float(elements[1])
    hidden = re.search(r"hidden=(\d+)", row.params)
    if hidden:
        tokens = row.number("batch") * (1 if row.seq_out else row.number("seq_in", 1))
        return 2.0 * tokens * float(hidden[1])
    raise UnpredictableError("no message size")


def implementation_of(row: Row) -> str:
    """Software that runs a collective: its start differs fivefold."""
    text = row.text
    if "kernel=trtllm" in text or "kernel=vllm" in text or "custom" in text:
        return "custom"
    return "nccl-tests" if "nccl-tests" in text else "nccl"


def kernel_of(row: Row) -> Work | None:
    """The kernel that a row times, or None where it times something larger.

    Raises:
        UnpredictableError: a kernel whose description is incomplete.
    """
    name = row.model
    sizes = {key.lower(): int(value) for key, value in re.findall(r"\b(\w+)=(\d+)", name)}
    if re.match(r"(?i)(gemm|matmul|linear|bmm|mm)\b", name) and {"m", "n", "k"} <= sizes.keys():
        format = format_of(row.precision, row.sparsity)
        return Product(
            sizes["m"] * (sizes.get("b", 1) if name.lower().startswith("linear") else 1),
            sizes["n"],
            sizes["k"],
            sizes.get("b", 1) if not name.lower().startswith("linear") else 1,
            format,
        )
    best = re.search(r"shape\D*(\d+)\s*x\s*(\d+)\s*x\s*(\d+)", row.params.lower())
    if best and "matmul" in name.lower():
        m, n, k = (int(size) for size in best.groups())
        return Product(m, n, k, format=format_of(row.precision, row.sparsity))
    if "attention" in name.lower() and "heads" in sizes:
        return _attention(row, sizes)
    if ":" in row.model and "n_embd" in row.params:
        return _layer_operator(row)
    if "one layer" in name.lower() and ":" in name:
        return _layer_part(row)
    return None


def _attention(row: Row, sizes: dict[str, int]) -> Attention:
    is_decode = re.search(r"generation|decode", row.model.lower()) is not None
    keys = row.number("seq_in")
    heads = sizes["heads"]
    format = format_of(row.precision, "")
    return Attention(
        batch=row.number("batch"),
        heads=heads,
        kv_heads=sizes.get("kv_heads", heads) or heads,
        head_dim=sizes.get("head_dim", 128),
        queries=1 if is_decode else keys,
        keys=keys,
        is_causal=True,
        format=format,
    )


def _layer_operator(row: Row) -> Work:
    """One operator of a decoder layer on one tensor-parallel rank."""
    operator = row.model.rsplit(":", 1)[1]
    value = dict(re.findall(r"(\w+)=(\w+)", row.params))
    tokens, degree = row.number("batch"), row.number("tp", 1)
    try:
        heads, kv_heads, width, inner = (
            int(value[name]) for name in ("n_head", "n_kv_head", "n_embd", "ffn")
        )
    except (KeyError, ValueError):
        raise UnpredictableError("incomplete model configuration") from None
    dim = int(value.get("head_dim", width // heads))
    heads, kv_heads, inner = heads // degree, max(1, kv_heads // degree), inner // degree
    gates = 2 if value.get("gated") == "True" else 1
    format = format_of(row.precision, row.sparsity)
    size = 4 if format in ("fp32", "tf32") else 2
    products = {
        "attn_pre_proj": ((heads + 2 * kv_heads) * dim, width),
        "attn_post_proj": (width, heads * dim),
        "mlp_up_proj": (gates * inner, width),
        "mlp_down_proj": (width, inner),
    }
    line = tokens * width * size
    rotated = tokens * (heads + kv_heads) * dim * size
    acted = tokens * inner * size
    flows = {
        "mlp_act": Traffic(gates * acted, acted, Flow.ACTIVATION, rows=tokens),
        "attn_rope": Traffic(rotated, rotated, Flow.COPY, rows=tokens),
        "add": Traffic(2 * line, line, Flow.ELEMENTWISE),
    }
    if operator in products:
        n, k = products[operator]
        return Product(tokens, n, k, format=format)
    if operator in flows:
        return flows[operator]
    if "norm" in operator:
        return Traffic(line, line, Flow.NORMALISATION, rows=tokens)
    raise UnpredictableError(f"layer operator {operator!r} is unknown")


def _layer_part(row: Row) -> Work:
    """One operator of one GPT layer, unfused, on one tensor-parallel rank."""
    part = row.model.rsplit(":", 1)[1].strip().lower()
    value = {key: int(number) for key, number in re.findall(r"(\w+)=(\d+)", row.params)}
    if not {"hidden", "heads", "ffn"} <= value.keys():
        raise UnpredictableError("incomplete model configuration")
    degree, batch = row.number("tp", 1), row.number("batch")
    hidden, heads, inner = value["hidden"], value["heads"] // degree, value["ffn"] // degree
    dim = hidden // value["heads"]
    is_decode = "decode" in row.notes
    queries = 1 if is_decode else row.number("seq_in")
    keys = row.number("seq_in") + (row.number("seq_out", 0) if is_decode else 0)
    tokens, format = batch * queries, format_of(row.precision, row.sparsity)
    products = {
        "q_k_v": (tokens, 3 * heads * dim, hidden, 1),
        "wo_proj": (tokens, hidden, heads * dim, 1),
        "w1_proj": (tokens, inner, hidden, 1),
        "w2_proj": (tokens, hidden, inner, 1),
        "q_mul_k": (queries, keys, dim, batch * heads),
        "a_mul_v": (queries, dim, keys, batch * heads),
    }
    if part in products:
        m, n, k, lanes = products[part]
        return Product(m, n, k, lanes, format)
    rows, width, flow = tokens, hidden, Flow.NORMALISATION
    if part == "softmax":
        rows, width, flow = tokens * heads, keys, Flow.SOFTMAX
    elif part.startswith("gelu"):
        rows, width, flow = 0, tokens * inner, Flow.ELEMENTWISE
    elif not part.startswith("layernorm"):
        raise UnpredictableError(f"layer operator {part!r} is unknown")
    moved = 2.0 * max(rows, 1) * width
    return Traffic(moved, moved, flow, rows=rows)
