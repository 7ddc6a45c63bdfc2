"""Configurations of models that are public by name."""

from __future__ import annotations

import re
from dataclasses import replace

from benchmarks.tables.architectures import Transformer, Windows


def _gpt(layers: int, hidden: int, heads: int, vocab: int = 51200) -> Transformer:
    return Transformer("decoder", layers, hidden, heads, heads, 4 * hidden, vocab)


def _bert(layers: int, hidden: int, heads: int) -> Transformer:
    return Transformer("encoder", layers, hidden, heads, heads, 4 * hidden, 30522)


def _llama(
    layers: int, hidden: int, heads: int, kv_heads: int, ffn: int, vocab: int = 32000
) -> Transformer:
    return Transformer("decoder", layers, hidden, heads, kv_heads, ffn, vocab, is_gated=True)


def _t5(layers: int, hidden: int, heads: int, ffn: int, head_dim: int = 64) -> Transformer:
    shared = (heads, heads, ffn, 32128)
    kind = "encoder-decoder"
    return Transformer(kind, layers, hidden, *shared, head_dim=head_dim, decoder_layers=layers)


def _bart(layers: int, hidden: int, heads: int) -> Transformer:
    kind, shared = "encoder-decoder", (heads, heads, 4 * hidden, 50265)
    return Transformer(kind, layers, hidden, *shared, decoder_layers=layers)


def _vit(layers: int, hidden: int, heads: int) -> Transformer:
    return Transformer("encoder", layers, hidden, heads, heads, 4 * hidden, 0)


def _sparse(shape: Transformer, experts: int, active: int, head_dim: int = 0) -> Transformer:
    return replace(shape, experts=experts, active_experts=active, head_dim=head_dim)


def _mixtral(layers: int, hidden: int, heads: int, ffn: int) -> Transformer:
    shape = _llama(layers, hidden, heads, 8, ffn)
    return replace(shape, experts=8, active_experts=2)


PUBLIC: tuple[tuple[str, Transformer | None], ...] = (
    (r"mt5|ul2|\b(?:mobile|squeeze|de|hu|visual|vil|rem)bert", None),
    (r"xlnet[-_ ]?large", _bert(24, 1024, 16)),
    (r"xlnet", _bert(12, 768, 12)),
    (r"(?:flan-?)?t5[-_ ]?small", _t5(6, 512, 8, 2048)),
    (r"(?:flan-?)?t5[-_ ]?base", _t5(12, 768, 12, 3072)),
    (r"(?:flan-?)?t5[-_ ]?large", _t5(24, 1024, 16, 4096)),
    (r"(?:flan-?)?t5[-_ ]?(?:3b|xl\b)", _t5(24, 1024, 32, 16384, 128)),
    (r"(?:flan-?)?t5[-_ ]?(?:11b|xxl)", _t5(24, 1024, 128, 65536, 128)),
    (r"bart[-_ ]?base", _bart(6, 768, 12)),
    (r"bart[-_ ]?large|\bbart\b", _bart(12, 1024, 16)),
    (r"tinybert", _bert(4, 312, 12)),
    (r"distil(?:ro)?bert", _bert(6, 768, 12)),
    (r"minilm.*l-?12", _bert(12, 384, 12)),
    (r"minilm", _bert(6, 384, 12)),
    (r"albert[-_ ]?xx-?large", _bert(12, 4096, 64)),
    (r"albert[-_ ]?x-?large", _bert(24, 2048, 16)),
    (r"megatron.*bert.*3\.9b", _bert(48, 2560, 40)),
    (r"megatron.*bert.*1\.3b", _bert(24, 2048, 32)),
    (r"megatron.*bert", _bert(24, 1024, 16)),
    (r"\bbert.*1\.3b", _bert(24, 2048, 32)),
    (r"\bbert.*2\.[67]b", _bert(32, 2560, 32)),
    (r"\bbert.*6\.7b", _bert(32, 4096, 32)),
    (r"bert(?:a|a-v2|weet)?[-_ ]?large|berta?[-_ ]l\b", _bert(24, 1024, 16)),
    (r"bert[-_ ]?tiny", _bert(2, 128, 2)),
    (r"bert[-_ ]?mini\b", _bert(4, 256, 4)),
    (r"bert[-_ ]?small", _bert(4, 512, 8)),
    (r"bert[-_ ]?medium", _bert(8, 512, 8)),
    (r"bert", _bert(12, 768, 12)),
    (r"\b(?:vit|beit)[-_ ]?h", _vit(32, 1280, 16)),
    (r"\b(?:vit|beit)[-_ ]?l", _vit(24, 1024, 16)),
    (r"\b(?:vit|deit)[-_ ]?t", _vit(12, 192, 3)),
    (r"\b(?:vit|deit)[-_ ]?s", _vit(12, 384, 6)),
    (r"\b(?:vit|deit|beit)", _vit(12, 768, 12)),
    (r"gpt-?oss.*120b", _sparse(_llama(36, 2880, 64, 8, 2880, 201088), 128, 4, 64)),
    (r"gpt-?oss", _sparse(_llama(24, 2880, 64, 8, 2880, 201088), 32, 4, 64)),
    (r"gpt-?2[-_ ]?xl|gpt-?2\b.*1\.5b", _gpt(48, 1600, 25, 50257)),
    (r"gpt-?2[-_ ]?large|gpt-?2\b.*7[67]\dm", _gpt(36, 1280, 20, 50257)),
    (r"gpt-?2[-_ ]?medium|gpt-?2\b.*3[45]\dm", _gpt(24, 1024, 16, 50257)),
    (r"gpt-?2(?![\d.])", _gpt(12, 768, 12, 50257)),
    (r"gpt-?neox|neox-20b", _gpt(44, 6144, 64, 50432)),
    (r"gpt-?j", _gpt(28, 4096, 16, 50400)),
    (r"gpt.*530b|nlg.*530b|mt-nlg|megatron.*530", _gpt(105, 20480, 128)),
    (r"gpt.*175b|gpt[-_ ]?3\b(?!.*(?:\db|\dm|xl|small|medium|large))", _gpt(96, 12288, 96)),
    (r"gpt.*89b", _gpt(48, 12288, 96)),
    (r"gpt.*39b", _gpt(48, 8192, 64)),
    (r"gpt.*20b", _gpt(44, 6144, 64)),
    (r"gpt.*18b", _gpt(40, 6144, 48)),
    (r"gpt.*13b", _gpt(40, 5120, 40)),
    (r"gpt.*6\.7b", _gpt(32, 4096, 32)),
    (r"gpt.*2\.7b", _gpt(32, 2560, 32)),
    (r"gpt.*(?:1\.3b|3[-_ ]?xl)", _gpt(24, 2048, 32)),
    (r"gpt[-_ ]?3[-_ ]?small", _gpt(12, 768, 12)),
    (r"gpt[-_ ]?3[-_ ]?medium", _gpt(24, 1024, 16)),
    (r"gpt[-_ ]?3[-_ ]?large", _gpt(24, 1536, 16)),
    (r"gpt.*760m", _gpt(24, 1536, 16)),
    (r"gpt.*350m|gpt.*345m", _gpt(24, 1024, 16)),
    (r"gpt.*125m", _gpt(12, 768, 12)),
    (r"\bopt[-_ ]?175b", _gpt(96, 12288, 96, 50272)),
    (r"\bopt[-_ ]?66b", _gpt(64, 9216, 72, 50272)),
    (r"\bopt[-_ ]?30b", _gpt(48, 7168, 56, 50272)),
    (r"\bopt[-_ ]?13b", _gpt(40, 5120, 40, 50272)),
    (r"\bopt[-_ ]?6\.7b", _gpt(32, 4096, 32, 50272)),
    (r"\bopt[-_ ]?2\.7b", _gpt(32, 2560, 32, 50272)),
    (r"\bopt[-_ ]?1\.3b", _gpt(24, 2048, 32, 50272)),
    (r"\bopt[-_ ]?350m", _gpt(24, 1024, 16, 50272)),
    (r"\bopt[-_ ]?125m", _gpt(12, 768, 12, 50272)),
    (r"bloom-?7b1?", _gpt(30, 4096, 32, 250880)),
    (r"bloom-?176b|bloom$", _gpt(70, 14336, 112, 250880)),
    (r"llama[-_ ]?3.*70b", _llama(80, 8192, 64, 8, 28672, 128256)),
    (r"llama[-_ ]?3.*405b", _llama(126, 16384, 128, 8, 53248, 128256)),
    (r"llama[-_ ]?3.*8b", _llama(32, 4096, 32, 8, 14336, 128256)),
    (r"llama[-_ ]?3.*\b1b", _llama(16, 2048, 32, 8, 8192, 128256)),
    (r"llama[-_ ]?3.*\b3b", _llama(28, 3072, 24, 8, 8192, 128256)),
    (r"codellama[-_ ]?34b|llama.*34b", _llama(48, 8192, 64, 8, 22016)),
    (r"llama[-_ ]?2.*70b", _llama(80, 8192, 64, 8, 28672)),
    (r"llama.*65b", _llama(80, 8192, 64, 64, 22016)),
    (r"llama.*70b", _llama(80, 8192, 64, 8, 28672)),
    (r"llama.*(30|33)b", _llama(60, 6656, 52, 52, 17920)),
    (r"(llama|vicuna).*13b", _llama(40, 5120, 40, 40, 13824)),
    (r"(llama|vicuna).*7b", _llama(32, 4096, 32, 32, 11008)),
    (r"mixtral.*8x22b", _mixtral(56, 6144, 48, 16384)),
    (r"tinyllama", _llama(22, 2048, 32, 4, 5632)),
    (r"mixtral", _mixtral(32, 4096, 32, 14336)),
    (r"dbrx", _sparse(_llama(40, 6144, 48, 8, 10752, 100352), 16, 4)),
    (r"mistral.*large", _llama(88, 12288, 96, 8, 28672, 32768)),
    (r"mistral.*nemo", replace(_llama(40, 5120, 32, 8, 14336, 131072), head_dim=128)),
    (r"mistral.*24b", replace(_llama(40, 5120, 32, 8, 32768, 131072), head_dim=128)),
    (r"mistral.*7b", _llama(32, 4096, 32, 8, 14336)),
    (r"qwen-?3.*30b-?a3b", _sparse(_llama(48, 2048, 32, 4, 768, 151936), 128, 8, 128)),
    (r"qwen-?3.*235b", _sparse(_llama(94, 4096, 64, 4, 1536, 151936), 128, 8, 128)),
    (r"qwen-?3.*14b", _llama(40, 5120, 40, 8, 17408, 151936)),
    (r"qwen-?2\.5.*32b", _llama(64, 5120, 40, 8, 27648, 152064)),
    (r"qwen-?2\.5.*14b", _llama(48, 5120, 40, 8, 13824, 152064)),
    (r"qwen-?2(?:\.5)?.*1\.5b", _llama(28, 1536, 12, 2, 8960, 151936)),
    (r"qwen-?2(?:\.5)?.*0\.5b", _llama(24, 896, 14, 2, 4864, 151936)),
    (r"qwen-?2\.5.*\b3b", _llama(36, 2048, 16, 2, 11008, 151936)),
    (r"qwen-?3.*0\.6b", replace(_llama(28, 1024, 16, 8, 3072, 151936), head_dim=128)),
    (r"qwen-?3.*1\.7b", _llama(28, 2048, 16, 8, 6144, 151936)),
    (r"qwen-?3.*\b4b", replace(_llama(36, 2560, 32, 8, 9728, 151936), head_dim=128)),
    (r"qwen-?2.*72b", _llama(80, 8192, 64, 8, 29568, 152064)),
    (r"qwen-?2.*7b", _llama(28, 3584, 28, 4, 18944, 152064)),
    (r"qwen-?3.*32b", replace(_llama(64, 5120, 64, 8, 25600, 151936), head_dim=128)),
    (r"qwen-?3.*8b", _llama(36, 4096, 32, 8, 12288, 151936)),
    (r"qwen2?\.?5?.*72b", _llama(80, 8192, 64, 64, 24576, 152064)),
    (r"qwen.*7b", _llama(32, 4096, 32, 32, 11008, 151936)),
    (r"phi-?2", _gpt(32, 2560, 32, 51200)),
    (r"phi[-_ ]?3.*mini", _llama(32, 3072, 32, 32, 8192, 32064)),
    (r"phi[-_ ]?3.*medium", _llama(40, 5120, 40, 10, 17920, 32064)),
    (r"gemma[-_ ]?2[-_ ]9b", replace(_llama(42, 3584, 16, 8, 14336, 256000), head_dim=256)),
    (r"gemma[-_ ]?2[-_ ]27b", replace(_llama(46, 4608, 32, 16, 36864, 256000), head_dim=128)),
    (r"gemma[-_ ]?2b", replace(_llama(18, 2048, 8, 1, 16384, 256000), head_dim=256)),
    (r"gemma[-_ ]?7b", replace(_llama(28, 3072, 16, 16, 24576, 256000), head_dim=256)),
    (r"falcon[-_ ]?180b", Transformer("decoder", 80, 14848, 232, 8, 59392, 65024)),
    (r"falcon[-_ ]?40b", Transformer("decoder", 60, 8192, 128, 8, 32768, 65024)),
    (r"\byi-?34b", _llama(60, 7168, 56, 8, 20480, 64000)),
    (r"\byi-?6b", _llama(32, 4096, 32, 4, 11008, 64000)),
    (r"\bmpt-?30b", _gpt(48, 7168, 64, 50432)),
    (r"\bmpt-?7b", _gpt(32, 4096, 32, 50432)),
    (r"starcoder-?2?.*15b", Transformer("decoder", 40, 6144, 48, 4, 24576, 49152)),
    (r"chatglm[23].*6b", _llama(28, 4096, 32, 2, 13696, 65024)),
    (r"baichuan-?2.*13b", _llama(40, 5120, 40, 40, 13696, 125696)),
    (r"baichuan-?2.*7b", _llama(32, 4096, 32, 32, 11008, 125696)),
    (r"internlm-?2.*20b", _llama(48, 6144, 48, 8, 16384, 92544)),
    (r"internlm-?20b", _llama(60, 5120, 40, 40, 13824, 103168)),
    (r"falcon[-_ ]?7b", Transformer("decoder", 32, 4544, 71, 1, 18176, 65024)),
)
"""Name -> configuration, from the models' own publications; the first that matches holds. None:
another architecture, told apart from a name that it contains."""


_NAMED_SIZE = re.compile(r"(?<![\d.a-z])(\d+(?:\.\d+)?)\s?([bm])(?![a-z\d])")
"""Millions or thousands of millions of weights: the whole of `350m`, nothing of `8x7b` or `a3b`."""
_ROUNDED = 1.4
"""Factor within which names tell sizes: a Gemma 2B has 2.5 thousand million weights."""


def public_model(name: str) -> Transformer | None:
    """The model that a name in lower case means, or None. A number behind any text is a whole one:
    a 57B or a 1.7B is no 7B. BERTs named by their sizes (`L-4_H-512_A-8`) have these; and no model
    is meant whose weights are not as many as the name says."""
    sized = re.search(r"bert.*[-_]l-(\d+)(?:_h-(\d+)_a-(\d+))?", name)
    if sized:
        return _bert(*map(int, sized.groups())) if sized[2] else None
    whole = ((re.sub(r"\.\*(?=\(?\d)", r".*(?<![\\d.])", each), shape) for each, shape in PUBLIC)
    found = next((shape for pattern, shape in whole if re.search(pattern, name)), None)
    return found if found is None or _is_of_size(found, name) else None


def _is_of_size(model: Transformer, name: str) -> bool:
    """Whether a model has the number of weights that a name states, if it states one."""
    stated = _NAMED_SIZE.search(name)
    if stated is None:
        return True
    size = float(stated[1]) * {"m": 1e6, "b": 1e9}[stated[2]]
    return 1 / _ROUNDED < model.parameters / size < _ROUNDED


SWIN = {
    "tiny": Windows(96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": Windows(96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": Windows(128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": Windows(192, (2, 2, 18, 2), (6, 12, 24, 48)),
}
"""Word in the name -> configuration (Liu et al. 2021, table 7)."""
