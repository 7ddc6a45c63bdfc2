"""Rows that time one kernel: products and attention; operators of a layer are in layers.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from benchmarks.tables import metrics
from benchmarks.tables.convolutions import convolution_of
from benchmarks.tables.experts import expert_layer
from benchmarks.tables.latent import DEEPSEEK, prompt_core, step_core
from benchmarks.tables.layers import layer_operator, layer_part, row_kernel
from benchmarks.tables.precision import format_of
from benchmarks.tables.rows import Row, UnpredictableError, refuse_empty
from planner.cost.work import Attention, Product, Work

_PRODUCT = re.compile(
    r"(?i)gemm|matmul|linear|proj|(?<![a-z])(?:fc|b?mm|baddbmm|addmm|dense|mlp)(?![a-z])"
)
_SEVERAL = re.compile(r"(?i)group|moe|expert|conv|fused|\bmla|attention")
"""Words of what is more than one product, or another thing, though it states three sizes."""
_BATCHED = re.compile(r"(?i)(?<![a-z])(?:badd)?bmm|batch(?:ed)?[_ -]?(?:gemm|matmul)|strided")
"""Names of many products at once: as many as a row's batch, if it says no more."""
_ATTENTION = re.compile(r"(?i)attention|attn|sdpa|fmha|flash_?decod|(?<![a-z])(?:mla|mha|gqa)")
_LATENT = re.compile(r"(?i)(?<![a-z])(?:flash_?)?mla(?![a-z])|latent")
_LATENT_WIDTHS: Mapping[str, tuple[str, ...]] = {
    "keys": ("kv_lora_rank", "kv_rank", "d_latent"),
    "queries": ("q_lora_rank",),
    "plain": ("qk_nope_head_dim", "nope_dim"),
    "rotated": ("qk_rope_head_dim", "rope_dim", "d_rope"),
    "values": ("v_head_dim", "head_dim_v"),
}
_INPUT_FIRST = ("linear", "bmm")
"""Operators whose sizes are listed as an input [B, M, N] times [N, K]: K is the output's width (a
vocabulary of 30522, a fused 3 x 768), unlike BLAS, where K is summed over."""
_SIZE = re.compile(r"\b([A-Za-z]\w*?)\s*[=:]\s*(\d+)")
_JOINED = re.compile(r"(?i)(?:^|[_ ,])([mnkb])(\d+)(?=$|[_ ,])")
"""A size without a sign: `gemm_m128_n4096_k4096`."""
_BY = r"\s*[x,\u00d7]\s*"
_THREE = (
    r"(?<![\dx\u00d7])(?<![x\u00d7] )"
    rf"(\d+){_BY}(\d+){_BY}(\d+)(?!\d|\s*[x\u00d7]\s*\d)"
)
"""M x N x K, as products are mostly listed; of four sizes nobody knows which is the batch."""
_SHAPE = re.compile(rf"(?:^[\[( ]*|shape\D*){_THREE}")
"""The same in a row's parameters: all of them, or where they speak of a shape."""


def kernel_us(row: Row, work: Work) -> float:
    """The measured latency of a kernel in microseconds, from a latency or a rate.

    Raises:
        UnpredictableError: the metric is neither.
    """
    scale = metrics.arithmetic_scale(row.metric)
    if scale is not None and work.flops > 0:
        return work.flops / (row.measured * scale / 1e6)
    if metrics.bandwidth_kind(row.metric) is not None:
        unit = metrics.bandwidth_scale(row.metric)
        return work.size_bytes / (row.measured * unit * 1e3)
    return metrics.latency_us(row)


def kernel_of(row: Row) -> Work | None:
    """The kernel that a row times, or None where it times something larger.

    Raises:
        UnpredictableError: a kernel whose description is incomplete.
    """
    name = row.model
    sizes = {key.lower(): int(value) for key, value in _SIZE.findall(name)}
    if _PRODUCT.search(name) and not _SEVERAL.search(name):
        sizes = _product_sizes(row, sizes)
        if {"m", "n", "k"} <= sizes.keys():
            return _product(row, sizes)
    if _ATTENTION.search(name) and "heads" in sizes:
        return _attention(row, sizes)
    other = expert_layer(row, sizes) or convolution_of(row, sizes)
    if other is not None:
        return other
    if ":" in name and "n_embd" in row.params:
        return layer_operator(row)
    if "one layer" in name.lower() and ":" in name:
        return layer_part(row)
    return row_kernel(row, sizes)


def _product_sizes(row: Row, sizes: dict[str, int]) -> dict[str, int]:
    """The sizes that a product's name states, however it writes them, or its parameters."""
    if {"m", "n", "k"} <= sizes.keys():
        return sizes
    joined = {key.lower(): int(value) for key, value in _JOINED.findall(row.model)}
    listed = re.search(_THREE, row.model) or _SHAPE.search(row.params.lower())
    if not joined and listed:
        joined = dict(zip("mnk", map(int, listed.groups()), strict=True))
    return {**joined, **sizes}


def _product(row: Row, sizes: dict[str, int]) -> Product:
    if re.search(r"(?i)spars", row.model) and not row.sparsity.strip():
        raise UnpredictableError("a sparse product does not say how sparse")
    lanes = row.number("batch", 1) if _BATCHED.search(row.model) else 1
    m, n, k, lanes = sizes["m"], sizes["n"], sizes["k"], sizes.get("b", lanes)
    refuse_empty(m, n, k, lanes)
    format = format_of(row.precision, row.sparsity)
    if "b" in sizes and row.model.lower().startswith(_INPUT_FIRST):
        n, k = k, n
    if row.model.lower().startswith("linear"):
        return Product(m * lanes, n, k, format=format)
    return Product(m, n, k, lanes, format)


def _attention(row: Row, sizes: dict[str, int]) -> Attention:
    name = row.model.lower()
    is_step = re.search(r"generation|decod|paged|flash_?mla", name) is not None
    keys = sizes.get("kv_len") or row.number("seq_in", sizes.get("q_len"))
    queries = sizes.get("q_len") or (1 if is_step else keys)
    heads, is_decode = sizes["heads"], queries == 1
    if _LATENT.search(name):
        return _latent(row, sizes, (queries, keys))
    window = sizes.get("window_size", sizes.get("window", 0))
    if 0 < window < keys and not is_decode:
        raise UnpredictableError("prefill in sliding windows is not modelled")
    shared, width = sizes.get("kv_heads", heads) or heads, sizes.get("head_dim", 128)
    refuse_empty(heads, width, heads - shared + 1, keys - queries + 1)
    return Attention(
        batch=row.number("batch"),
        heads=heads,
        kv_heads=shared,
        head_dim=width,
        queries=queries,
        keys=min(keys, window) if window > 0 else keys,
        is_causal=re.search(r"bidirectional|non.?causal|causal=(0|f|no)", name) is None,
        format=format_of(row.precision, ""),
    )


def _latent(row: Row, sizes: dict[str, int], lengths: tuple[int, int]) -> Attention:
    """Attention over latent vectors, whose widths are DeepSeek's where none are stated: of a prompt
    whose keys and values are made, or of one position to what is cached."""
    stated = {
        width: next((sizes[name] for name in names if name in sizes), 0)
        for width, names in _LATENT_WIDTHS.items()
    }
    latent = replace(DEEPSEEK, **{width: size for width, size in stated.items() if size})
    queries, keys = lengths
    batch, heads, format = row.number("batch"), sizes["heads"], format_of(row.precision, "")
    refuse_empty(heads, keys - queries + 1)
    if queries == 1:
        return replace(step_core(latent, batch, heads, keys), format=format)
    return replace(prompt_core(latent, batch, heads, lengths), format=format)
