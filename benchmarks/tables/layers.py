"""Rows that time one operator of a layer, or one operator that works by rows."""

from __future__ import annotations

import math
import re

from benchmarks.tables.precision import format_of
from benchmarks.tables.public import public_model
from benchmarks.tables.rows import Row, UnpredictableError, refuse_empty
from benchmarks.tables.sizes import stated_bytes, stated_elements
from planner.cost.work import Attention, Flow, Product, Traffic, Work

_ROW_FLOWS = (
    (r"(?:masked_?|log_?)?softmax", Flow.SOFTMAX, 1),
    (r"rms_?norm(?:ali[sz]ation)?", Flow.RMS_NORMALISATION, 1),
    (r"(?:layer|batch|group)_?norm(?:ali[sz]ation)?|ln", Flow.NORMALISATION, 1),
    (r"(?:silu|gelu)_and_mul|swiglu|geglu", Flow.ACTIVATION, 2),
    (r"(?:vec(?:tor)?_?)?(?:add|mul|div|sub)(?:ition|tiply)?", Flow.ELEMENTWISE, 2),
    (r"(?:vec(?:tor)?_?)?(?:gelu|relu|silu|tanh|exp|pow|sqrt|elu|sigmoid)", Flow.ELEMENTWISE, 1),
    (r"dropout|scale|cast", Flow.ELEMENTWISE, 1),
    (r"(?:mem)?copy|memcpy|transpose|permute|rope|rotary_embedding", Flow.COPY, 1),
)
"""First word of a kernel's name -> its flow and how many operands it reads."""
_TENSOR = re.compile(r"(?<![\w=.])[(\[]?(\d+(?:\s*[x,\u00d7]\s*\d+)+)[)\]]?(?![\w.])")
_BY_ROW = frozenset({Flow.SOFTMAX, Flow.NORMALISATION, Flow.RMS_NORMALISATION, Flow.ACTIVATION})
_ROW_SIZES = (
    *(("b", "h"), ("m", "n"), ("batch", "hidden"), ("tokens", "hidden"), ("batch", "dim")),
    *(("rows", name) for name in ("cols", "columns", "width", "hidden", "dim")),
)


def row_kernel(row: Row, sizes: dict[str, int]) -> Traffic | None:
    """A softmax, normalisation or elementwise kernel over a matrix: `softmax B=64 H=512`; or None.

    Raises:
        UnpredictableError: such a kernel without its sizes.
    """
    word = re.match(r"[a-z_]+", row.model.lower())
    name = word[0].strip("_") if word else ""
    known = next((f for f in _ROW_FLOWS if re.fullmatch(f[0], name)), None)
    if known is None:
        return None
    _, flow, operands = known
    format = format_of(row.precision, row.sparsity)
    element = 4 if format in ("fp32", "tf32") else 2
    pair = next((p for p in _ROW_SIZES if sizes.keys() >= set(p)), None)
    listed = None if pair else _listed(row)
    if listed:
        sizes, pair = {**sizes, "rows": listed[0], "width": listed[1]}, ("rows", "width")
    if pair is None and flow not in _BY_ROW:
        moved = _moved_bytes(row, element, name)
        return Traffic(operands * moved, moved, flow)
    if pair is None:
        raise UnpredictableError(f"the size of {name!r} is not stated")
    rows, width = (sizes[each] for each in pair)
    refuse_empty(rows, width)
    moved = float(rows * width * element)
    return Traffic(operands * moved, moved, flow, rows=rows if flow in _BY_ROW else 0)


def _listed(row: Row) -> tuple[int, int] | None:
    """Rows and width of a tensor whose sizes are listed: `4096x8192`, `(8, 128, 768)`."""
    found = _TENSOR.search(row.model) or _TENSOR.fullmatch(row.params.strip())
    if found is None:
        return None
    *rows, width = map(int, re.findall(r"\d+", found[1]))
    return math.prod(rows), width


def _moved_bytes(row: Row, element: int, name: str) -> float:
    """Of a tensor whose rows do not matter.

    Raises:
        UnpredictableError: its size is not stated.
    """
    text = f"{row.model} {row.params}".lower()
    elements, size = stated_elements(text), stated_bytes(text)
    if elements is not None:
        size = float(elements * element)
    if size is None:
        raise UnpredictableError(f"the size of {name!r} is not stated")
    refuse_empty(size)
    return size


def layer_operator(row: Row) -> Work:
    """One operator of a decoder layer on one tensor-parallel rank."""
    operator = row.model.rsplit(":", 1)[1]
    value = dict(re.findall(r"(\w+)=(\w+)", row.params))
    tokens, degree = row.number("batch"), row.number("tp", 1)
    value = {"n_kv_head": value.get("n_head", ""), **value}
    try:
        heads, kv_heads, width, inner = (
            int(value[name]) for name in ("n_head", "n_kv_head", "n_embd", "ffn")
        )
    except (KeyError, ValueError):
        raise UnpredictableError("incomplete model configuration") from None
    refuse_empty(heads, kv_heads, width, inner)
    dim = int(value.get("head_dim", width // heads))
    heads, kv_heads = max(1, heads // degree), max(1, kv_heads // degree)
    inner = max(1, inner // degree)
    is_gated = value.get("gated") == "True"
    gates = 2 if is_gated else 1
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
        "mlp_act": Traffic(2 * acted, acted, Flow.ACTIVATION, rows=tokens)
        if is_gated
        else Traffic(acted, acted, Flow.ELEMENTWISE),
        "attn_rope": Traffic(rotated, rotated, Flow.COPY, rows=tokens),
        "add": Traffic(2 * line, line, Flow.ELEMENTWISE),
    }
    if operator in products:
        n, k = products[operator]
        return Product(tokens, n, k, format=format)
    if operator in flows:
        return flows[operator]
    if "norm" in operator:
        # layers with gates came with norms without means (Llama), plain ones with both (GPT)
        flow = Flow.RMS_NORMALISATION if is_gated else Flow.NORMALISATION
        return Traffic(line, line, flow, rows=tokens)
    if operator in ("attn_prefill", "attn_decode"):
        return _layer_attention(row, (heads, kv_heads, dim), format)
    raise UnpredictableError(f"layer operator {operator!r} is unknown")


def kernels_of(row: Row) -> int:
    """Kernels that one operator of a layer is: what attention and an inner layer beside it make is
    added one after the other."""
    model, _, operator = row.model.lower().rpartition(":")
    public = public_model(model) if operator == "add" else None
    return 2 if public is not None and public.is_parallel else 1


def _layer_attention(row: Row, heads: tuple[int, int, int], format: str) -> Attention:
    """The attention of one layer: of one new position to those in the cache, or of a prompt, or a
    part of one behind a cache."""
    stated = dict(re.findall(r"(kv_cache_size|prefill_chunk_size)=(\d+)", row.params))
    is_step = row.model.endswith("attn_decode")
    cached = int(stated.get("kv_cache_size", 0))
    if is_step:
        queries, keys = 1, cached or row.number("seq_in")
    else:
        queries = int(stated.get("prefill_chunk_size", 0)) or row.number("seq_in")
        keys = cached + queries
    refuse_empty(queries, keys)
    return Attention(row.number("batch"), *heads, queries, keys, format=format)


def layer_part(row: Row) -> Work:
    """One operator of one GPT layer, unfused, on one tensor-parallel rank."""
    part = row.model.rsplit(":", 1)[1].strip().lower()
    value = {key: int(number) for key, number in re.findall(r"(\w+)=(\d+)", row.params)}
    if not {"hidden", "heads", "ffn"} <= value.keys():
        raise UnpredictableError("incomplete model configuration")
    refuse_empty(value["hidden"], value["heads"], value["ffn"])
    degree, batch = row.number("tp", 1), row.number("batch")
    hidden, heads = value["hidden"], max(1, value["heads"] // degree)
    inner = max(1, value["ffn"] // degree)
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
