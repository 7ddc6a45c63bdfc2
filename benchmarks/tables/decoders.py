"""Kinds of decoders, and those that several names mean."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.tables.architectures import Latent, Transformer


def gpt(layers: int, hidden: int, heads: int, vocab: int = 51200) -> Transformer:
    """Brown et al. 2020, table 2.1."""
    return plain(layers, hidden, heads, heads, 4 * hidden, vocab)


def llama(
    layers: int, hidden: int, heads: int, kv_heads: int, ffn: int, vocab: int = 32000
) -> Transformer:
    """Touvron et al. 2023: gated inner layers."""
    return replace(plain(layers, hidden, heads, kv_heads, ffn, vocab), is_gated=True)


def plain(layers: int, hidden: int, heads: int, kv_heads: int, ffn: int, vocab: int) -> Transformer:
    return Transformer("decoder", layers, hidden, heads, kv_heads, ffn, vocab)


def sparse(shape: Transformer, experts: int, active: int, head_dim: int = 0) -> Transformer:
    """The same with experts to choose from."""
    return replace(shape, experts=experts, active_experts=active, head_dim=head_dim)


def parallel(shape: Transformer) -> Transformer:
    """The same with inner layers beside attention (Wang and Komatsuzaki 2021)."""
    return replace(shape, is_parallel=True)


def dense_first(shape: Transformer, layers: int, ffn: int, shared: int = 1) -> Transformer:
    """The same with layers without experts, and with experts that all tokens go through."""
    return replace(shape, dense_layers=layers, dense_ffn=ffn, shared_experts=shared)


def mixtral(layers: int, hidden: int, heads: int, ffn: int) -> Transformer:
    """Jiang et al. 2024."""
    return sparse(llama(layers, hidden, heads, 8, ffn), 8, 2)


V3 = replace(
    dense_first(sparse(llama(61, 7168, 128, 128, 2048, 129280), 256, 8), 3, 18432),
    latent=Latent(keys=512, queries=1536),
)
V2 = replace(
    dense_first(sparse(llama(60, 5120, 128, 128, 1536, 102400), 160, 6), 1, 12288, 2),
    latent=Latent(keys=512, queries=1536),
)
V2_LITE = replace(
    dense_first(sparse(llama(27, 2048, 16, 16, 1408, 102400), 64, 6), 1, 10944, 2),
    latent=Latent(keys=512, queries=0),
)
DEEPSEEK_MOE = dense_first(sparse(llama(28, 2048, 16, 16, 1408, 102400), 64, 6), 1, 10944, 2)
"""DeepSeek-AI 2024 (V2: appendix B; V3: section 4.2); Dai et al. 2024, table 1."""
GLM = sparse(llama(92, 5120, 96, 8, 1536, 151552), 160, 8, 128)
GLM_AIR = sparse(llama(46, 4096, 96, 8, 1408, 151552), 128, 8, 128)
"""Zhipu AI 2025, table 1."""
SCOUT = sparse(llama(48, 5120, 40, 8, 8192, 202048), 16, 1)
"""Llama 4 (Meta 2025): one shared expert; of Maverick's layers half have no others."""
