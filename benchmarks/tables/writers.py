"""Decoders that are public by name."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.tables.architectures import Latent, Transformer


def gpt(layers: int, hidden: int, heads: int, vocab: int = 51200) -> Transformer:
    """Brown et al. 2020, table 2.1."""
    return _plain(layers, hidden, heads, heads, 4 * hidden, vocab)


def llama(
    layers: int, hidden: int, heads: int, kv_heads: int, ffn: int, vocab: int = 32000
) -> Transformer:
    """Touvron et al. 2023: gated inner layers."""
    return replace(_plain(layers, hidden, heads, kv_heads, ffn, vocab), is_gated=True)


def _plain(
    layers: int, hidden: int, heads: int, kv_heads: int, ffn: int, vocab: int
) -> Transformer:
    return Transformer("decoder", layers, hidden, heads, kv_heads, ffn, vocab)


def sparse(shape: Transformer, experts: int, active: int, head_dim: int = 0) -> Transformer:
    """The same with experts to choose from."""
    return replace(shape, experts=experts, active_experts=active, head_dim=head_dim)


def _dense_first(shape: Transformer, layers: int, ffn: int, shared: int = 1) -> Transformer:
    """The same with layers without experts, and with experts that all tokens go through."""
    return replace(shape, dense_layers=layers, dense_ffn=ffn, shared_experts=shared)


def mixtral(layers: int, hidden: int, heads: int, ffn: int) -> Transformer:
    """Jiang et al. 2024."""
    return sparse(llama(layers, hidden, heads, 8, ffn), 8, 2)


_V3 = replace(
    _dense_first(sparse(llama(61, 7168, 128, 128, 2048, 129280), 256, 8), 3, 18432),
    latent=Latent(keys=512, queries=1536),
)
_V2 = replace(
    _dense_first(sparse(llama(60, 5120, 128, 128, 1536, 102400), 160, 6), 1, 12288, 2),
    latent=Latent(keys=512, queries=1536),
)
_V2_LITE = replace(
    _dense_first(sparse(llama(27, 2048, 16, 16, 1408, 102400), 64, 6), 1, 10944, 2),
    latent=Latent(keys=512, queries=0),
)
_DEEPSEEK_MOE = _dense_first(sparse(llama(28, 2048, 16, 16, 1408, 102400), 64, 6), 1, 10944, 2)
"""DeepSeek-AI 2024 (V2: appendix B; V3: section 4.2); Dai et al. 2024, table 1."""
_GLM = sparse(llama(92, 5120, 96, 8, 1536, 151552), 160, 8, 128)
_GLM_AIR = sparse(llama(46, 4096, 96, 8, 1408, 151552), 128, 8, 128)
"""Zhipu AI 2025, table 1."""

WRITERS: tuple[tuple[str, Transformer | None], ...] = (
    (r"llava|internvl|\bvl\b|[-_]vl[-_]|vision(?!ary)|\bvlm?\b|minicpm|linformer", None),
    (r"audio|omni\b|glm-?4(?:\.\d)?v|glm-?4\.\d.*flash|recurrentgemma|t5-?gemma", None),
    (r"olmoe|mistral.*large[-_ ]?3(?!\d)|qwen-?3[-_ ]?next|qwen-?3\.5", None),
    (r"distill.*llama.*70b", llama(80, 8192, 64, 8, 28672, 128256)),
    (r"distill.*llama.*8b", llama(32, 4096, 32, 8, 14336, 128256)),
    (r"distill.*qwen.*32b|\bqwq.*32b", llama(64, 5120, 40, 8, 27648, 152064)),
    (r"distill.*qwen.*14b", llama(48, 5120, 40, 8, 13824, 152064)),
    (r"distill.*qwen.*7b", llama(28, 3584, 28, 4, 18944, 152064)),
    (r"distill.*qwen.*1\.5b", llama(28, 1536, 12, 2, 8960, 151936)),
    (r"deepseek[-_ ]?(?:coder[-_ ]?)?v2[-_ ]?(?:chat[-_ ]?)?lite", _V2_LITE),
    (r"deepseek[-_ ]?(?:coder[-_ ]?)?v2(?![\d])", _V2),
    (r"deepseek[-_ ]?v3\.2", None),
    (r"deepseek[-_ ]?(?:v3|r1)", _V3),
    (
        r"kimi[-_ ]?k2",
        replace(_V3, heads=64, kv_heads=64, experts=384, dense_layers=1, vocab=163840),
    ),
    (r"deepseek[-_ ]?moe", _DEEPSEEK_MOE),
    (r"deepseek.*67b", llama(95, 8192, 64, 8, 22016, 102400)),
    (r"deepseek.*33b", llama(62, 7168, 56, 8, 19200, 32256)),
    (r"deepseek.*6\.7b", llama(32, 4096, 32, 32, 11008, 32256)),
    (r"deepseek.*7b", llama(30, 4096, 32, 32, 11008, 102400)),
    (r"deepseek.*1\.3b", llama(24, 2048, 16, 16, 5504, 32256)),
    (r"deepseek", None),
    (r"gpt-?oss.*120b", sparse(llama(36, 2880, 64, 8, 2880, 201088), 128, 4, 64)),
    (r"gpt-?oss", sparse(llama(24, 2880, 64, 8, 2880, 201088), 32, 4, 64)),
    (r"distil-?gpt-?2", gpt(6, 768, 12, 50257)),
    (r"gpt-?2[-_ ]?xl|gpt-?2\b.*1\.5b", gpt(48, 1600, 25, 50257)),
    (r"gpt-?2[-_ ]?large|gpt-?2\b.*7[67]\dm", gpt(36, 1280, 20, 50257)),
    (r"gpt-?2[-_ ]?medium|gpt-?2\b.*3[45]\dm", gpt(24, 1024, 16, 50257)),
    (r"gpt-?2(?![\d.])", gpt(12, 768, 12, 50257)),
    (r"gpt-?neo[-_ ]?125m", gpt(12, 768, 12, 50257)),
    (r"gpt-?neo[-_ ]?1\.3b", gpt(24, 2048, 16, 50257)),
    (r"gpt-?neo[-_ ]?2\.7b", gpt(32, 2560, 20, 50257)),
    (r"gpt-?neox|neox-20b", gpt(44, 6144, 64, 50432)),
    (r"gpt-?j", gpt(28, 4096, 16, 50400)),
    (r"gpt.*530b|nlg.*530b|mt-nlg|megatron.*530", gpt(105, 20480, 128)),
    (r"gpt.*175b|gpt[-_ ]?3\b(?!\.\d|.*(?:\db|\dm|xl|small|medium|large))", gpt(96, 12288, 96)),
    (r"gpt.*89b", gpt(48, 12288, 96)),
    (r"gpt.*39b", gpt(48, 8192, 64)),
    (r"gpt.*20b", gpt(44, 6144, 64)),
    (r"gpt.*18b", gpt(40, 6144, 48)),
    (r"gpt.*13b", gpt(40, 5120, 40)),
    (r"gpt.*6\.7b", gpt(32, 4096, 32)),
    (r"gpt.*2\.7b", gpt(32, 2560, 32)),
    (r"gpt.*(?:1\.3b|3[-_ ]?xl)", gpt(24, 2048, 32)),
    (r"gpt[-_ ]?3[-_ ]?small", gpt(12, 768, 12)),
    (r"gpt[-_ ]?3[-_ ]?medium", gpt(24, 1024, 16)),
    (r"gpt[-_ ]?3[-_ ]?large", gpt(24, 1536, 16)),
    (r"gpt.*760m", gpt(24, 1536, 16)),
    (r"gpt.*350m|gpt.*345m", gpt(24, 1024, 16)),
    (r"gpt.*125m", gpt(12, 768, 12)),
    (r"\bopt[-_ ]?175b", gpt(96, 12288, 96, 50272)),
    (r"\bopt[-_ ]?66b", gpt(64, 9216, 72, 50272)),
    (r"\bopt[-_ ]?30b", gpt(48, 7168, 56, 50272)),
    (r"\bopt[-_ ]?13b", gpt(40, 5120, 40, 50272)),
    (r"\bopt[-_ ]?6\.7b", gpt(32, 4096, 32, 50272)),
    (r"\bopt[-_ ]?2\.7b", gpt(32, 2560, 32, 50272)),
    (r"\bopt[-_ ]?1\.3b", gpt(24, 2048, 32, 50272)),
    (r"\bopt[-_ ]?350m", gpt(24, 1024, 16, 50272)),
    (r"\bopt[-_ ]?125m", gpt(12, 768, 12, 50272)),
    (r"\bpythia.*160m", gpt(12, 768, 12, 50304)),
    (r"\bpythia.*410m", gpt(24, 1024, 16, 50304)),
    (r"\bpythia.*\b1b", gpt(16, 2048, 8, 50304)),
    (r"\bpythia.*1\.4b", gpt(24, 2048, 16, 50304)),
    (r"\bpythia.*2\.8b", gpt(32, 2560, 32, 50304)),
    (r"\bpythia.*6\.9b", gpt(32, 4096, 32, 50432)),
    (r"\bpythia.*12b", gpt(36, 5120, 40, 50688)),
    (r"\bbloom[-_ z]*560m", gpt(24, 1024, 16, 250880)),
    (r"\bbloom[-_ z]*1b1", gpt(24, 1536, 16, 250880)),
    (r"\bbloom[-_ z]*1b7", gpt(24, 2048, 16, 250880)),
    (r"\bbloom[-_ z]*3b", gpt(30, 2560, 32, 250880)),
    (r"codegen.*16b", gpt(34, 6144, 24, 51200)),
    (r"codegen.*6b", gpt(33, 4096, 16, 51200)),
    (r"codegen.*2b", gpt(32, 2560, 32, 51200)),
    (r"bloom-?7b1?", gpt(30, 4096, 32, 250880)),
    (r"bloom-?176b|bloom$", gpt(70, 14336, 112, 250880)),
    (r"llama[-_ ]?3.*70b", llama(80, 8192, 64, 8, 28672, 128256)),
    (r"llama[-_ ]?3.*405b", llama(126, 16384, 128, 8, 53248, 128256)),
    (r"llama[-_ ]?3.*8b", llama(32, 4096, 32, 8, 14336, 128256)),
    (r"llama[-_ ]?3.*\b1b", llama(16, 2048, 32, 8, 8192, 128256)),
    (r"llama[-_ ]?3.*\b3b", llama(28, 3072, 24, 8, 8192, 128256)),
    (r"vicuna.*33b", llama(60, 6656, 52, 52, 17920)),
    (r"smollm2?.*1\.7b", llama(24, 2048, 32, 32, 8192, 49152)),
    (r"smollm2?.*360m", llama(32, 960, 15, 5, 2560, 49152)),
    (r"smollm2?.*135m", llama(30, 576, 9, 3, 1536, 49152)),
    (r"codellama[-_ ]?34b|llama.*34b", llama(48, 8192, 64, 8, 22016)),
    (r"llama[-_ ]?2.*70b", llama(80, 8192, 64, 8, 28672)),
    (r"llama.*65b", llama(80, 8192, 64, 64, 22016)),
    (r"llama.*70b", llama(80, 8192, 64, 8, 28672)),
    (r"llama.*(30|33)b", llama(60, 6656, 52, 52, 17920)),
    (r"(llama|vicuna).*13b", llama(40, 5120, 40, 40, 13824)),
    (r"(llama|vicuna).*7b", llama(32, 4096, 32, 32, 11008)),
    (r"mixtral.*8x22b", mixtral(56, 6144, 48, 16384)),
    (r"tinyllama", llama(22, 2048, 32, 4, 5632)),
    (r"mixtral", mixtral(32, 4096, 32, 14336)),
    (r"phi[-_ ]?3\.5.*moe", sparse(llama(32, 4096, 32, 8, 6400, 32064), 16, 2)),
    (r"\bgrok-?1(?![.\d])", sparse(llama(64, 6144, 48, 8, 32768, 131072), 8, 2)),
    (r"glm-?4\.[567].*air", _dense_first(_GLM_AIR, 1, 10944)),
    (r"glm-?4\.[56]", _dense_first(_GLM, 3, 12288)),
    (r"dbrx", sparse(llama(40, 6144, 48, 8, 10752, 100352), 16, 4)),
    (r"mistral.*large", llama(88, 12288, 96, 8, 28672, 32768)),
    (r"mistral.*nemo", replace(llama(40, 5120, 32, 8, 14336, 131072), head_dim=128)),
    (r"(?:mistral|codestral).*22b", llama(56, 6144, 48, 8, 16384, 32768)),
    (r"ministral.*8b", llama(36, 4096, 32, 8, 12288, 131072)),
    (r"mathstral.*7b", llama(32, 4096, 32, 8, 14336, 32768)),
    (r"mistral.*24b", replace(llama(40, 5120, 32, 8, 32768, 131072), head_dim=128)),
    (r"mistral.*7b", llama(32, 4096, 32, 8, 14336)),
    (r"qwen-?3.*480b", sparse(llama(62, 6144, 96, 8, 2560, 151936), 160, 8, 128)),
    (
        r"qwen-?2.*57b-?a14b",
        replace(sparse(llama(28, 3584, 28, 4, 2560, 151936), 64, 8), shared_experts=8),
    ),
    (
        r"qwen-?1\.5.*moe.*a2\.7b",
        replace(sparse(llama(24, 2048, 16, 16, 1408, 151936), 60, 4), shared_experts=4),
    ),
    (r"qwen-?3.*30b-?a3b", sparse(llama(48, 2048, 32, 4, 768, 151936), 128, 8, 128)),
    (r"qwen-?3.*235b", sparse(llama(94, 4096, 64, 4, 1536, 151936), 128, 8, 128)),
    (r"qwen-?3.*14b", llama(40, 5120, 40, 8, 17408, 151936)),
    (r"qwen-?2\.5.*32b", llama(64, 5120, 40, 8, 27648, 152064)),
    (r"qwen-?2\.5.*14b", llama(48, 5120, 40, 8, 13824, 152064)),
    (r"qwen-?2(?:\.5)?.*1\.5b", llama(28, 1536, 12, 2, 8960, 151936)),
    (r"qwen-?2(?:\.5)?.*0\.5b", llama(24, 896, 14, 2, 4864, 151936)),
    (r"qwen-?2\.5.*\b3b", llama(36, 2048, 16, 2, 11008, 151936)),
    (r"qwen-?3.*0\.6b", replace(llama(28, 1024, 16, 8, 3072, 151936), head_dim=128)),
    (r"qwen-?3.*1\.7b", llama(28, 2048, 16, 8, 6144, 151936)),
    (r"qwen-?3.*\b4b", replace(llama(36, 2560, 32, 8, 9728, 151936), head_dim=128)),
    (r"qwen-?2.*72b", llama(80, 8192, 64, 8, 29568, 152064)),
    (r"qwen-?2.*7b", llama(28, 3584, 28, 4, 18944, 152064)),
    (r"qwen-?3.*32b", replace(llama(64, 5120, 64, 8, 25600, 151936), head_dim=128)),
    (r"qwen-?3.*8b", llama(36, 4096, 32, 8, 12288, 151936)),
    (r"qwen-?1\.5.*110b", llama(80, 8192, 64, 8, 49152, 152064)),
    (r"qwen-?1\.5.*32b", llama(64, 5120, 40, 8, 27392, 152064)),
    (r"qwen-?(?:1\.5)?.*14b", llama(40, 5120, 40, 40, 13696, 152064)),
    (r"qwen-?1\.5.*\b4b", llama(40, 2560, 20, 20, 6912, 151936)),
    (r"qwen-?(?:1\.5)?.*1\.8b", llama(24, 2048, 16, 16, 5504, 151936)),
    (r"qwen-?1\.5.*0\.5b", llama(24, 1024, 16, 16, 2816, 151936)),
    (r"qwen2?\.?5?.*72b", llama(80, 8192, 64, 64, 24576, 152064)),
    (r"qwen.*7b", llama(32, 4096, 32, 32, 11008, 151936)),
    (r"phi-?1\.5|phi-?1_5", gpt(24, 2048, 32, 51200)),
    (r"phi[-_ ]?4.*mini", llama(32, 3072, 24, 8, 8192, 200064)),
    (r"phi[-_ ]?4(?!.*multimodal)", llama(40, 5120, 40, 10, 17920, 100352)),
    (r"phi-?2", gpt(32, 2560, 32, 51200)),
    (r"phi[-_ ]?3.*mini", llama(32, 3072, 32, 32, 8192, 32064)),
    (r"phi[-_ ]?3.*medium", llama(40, 5120, 40, 10, 17920, 32064)),
    (r"gemma[-_ ]?2[-_ ]2b", replace(llama(26, 2304, 8, 4, 9216, 256000), head_dim=256)),
    (r"gemma[-_ ]?3[-_ ]1b", replace(llama(26, 1152, 4, 1, 6912, 262144), head_dim=256)),
    (r"gemma[-_ ]?3[-_ ]4b", replace(llama(34, 2560, 8, 4, 10240, 262144), head_dim=256)),
    (r"gemma[-_ ]?3[-_ ]12b", replace(llama(48, 3840, 16, 8, 15360, 262144), head_dim=256)),
    (r"gemma[-_ ]?3[-_ ]27b", replace(llama(62, 5376, 32, 16, 21504, 262144), head_dim=128)),
    (r"gemma[-_ ]?2[-_ ]9b", replace(llama(42, 3584, 16, 8, 14336, 256000), head_dim=256)),
    (r"gemma[-_ ]?2[-_ ]27b", replace(llama(46, 4608, 32, 16, 36864, 256000), head_dim=128)),
    (r"gemma[-_ ]?2b", replace(llama(18, 2048, 8, 1, 16384, 256000), head_dim=256)),
    (r"gemma[-_ ]?7b", replace(llama(28, 3072, 16, 16, 24576, 256000), head_dim=256)),
    (r"falcon[-_ ]?180b", _plain(80, 14848, 232, 8, 59392, 65024)),
    (r"falcon[-_ ]?40b", _plain(60, 8192, 128, 8, 32768, 65024)),
    (r"\byi-?(?:1\.5[-_ ])?34b", llama(60, 7168, 56, 8, 20480, 64000)),
    (r"\byi-?(?:1\.5[-_ ])?9b", llama(48, 4096, 32, 4, 11008, 64000)),
    (r"\byi-?(?:1\.5[-_ ])?6b", llama(32, 4096, 32, 4, 11008, 64000)),
    (r"\bmpt-?30b", gpt(48, 7168, 64, 50432)),
    (r"\bmpt-?7b", gpt(32, 4096, 32, 50432)),
    (r"starcoder-?2.*3b", _plain(30, 3072, 24, 2, 12288, 49152)),
    (r"starcoder-?2.*7b", _plain(32, 4608, 36, 4, 18432, 49152)),
    (r"starcoder-?2.*15b", _plain(40, 6144, 48, 4, 24576, 49152)),
    (
        r"starcoder(?!-?2)(?:base|plus)?(?![\w-]*\d+b)|starcoder.*15(?:\.5)?b",
        _plain(40, 6144, 48, 1, 24576, 49152),
    ),
    (r"glm-?4.*9b", llama(40, 4096, 32, 2, 13696, 151552)),
    (r"chatglm[23].*6b", llama(28, 4096, 32, 2, 13696, 65024)),
    (r"baichuan(?!-?2).*7b", llama(32, 4096, 32, 32, 11008, 64000)),
    (r"baichuan-?2.*13b", llama(40, 5120, 40, 40, 13696, 125696)),
    (r"baichuan-?2.*7b", llama(32, 4096, 32, 32, 11008, 125696)),
    (r"internlm-?2.*7b", llama(32, 4096, 32, 8, 14336, 92544)),
    (r"internlm.*7b", llama(32, 4096, 32, 32, 11008, 103168)),
    (r"internlm-?2.*20b", llama(48, 6144, 48, 8, 16384, 92544)),
    (r"internlm-?20b", llama(60, 5120, 40, 40, 13824, 103168)),
    (r"falcon[-_ ]?7b", _plain(32, 4544, 71, 1, 18176, 65024)),
    (r"command[-_ ]?r[-_ ]?(?:plus|\+)", llama(64, 12288, 96, 8, 33792, 256000)),
    (r"command[-_ ]?r(?![-_\d ]*7b)", llama(40, 8192, 64, 64, 22528, 256000)),
    (r"\bsolar.*10\.7b", llama(48, 4096, 32, 8, 14336)),
    (r"\bolmo(?!-?2).*7b", llama(32, 4096, 32, 32, 11008, 50304)),
    (r"stablelm.*3b", llama(32, 2560, 32, 32, 6912, 50304)),
    (r"nemotron-?4.*340b", _plain(96, 18432, 96, 8, 73728, 256000)),
    (r"nemotron-?4.*15b", _plain(32, 6144, 48, 8, 24576, 256000)),
)
"""Name -> configuration, from the models' own publications; the first that matches holds. None:
another architecture, told apart from a name that it contains."""
