"""Encoders and encoder-decoders that are public by name."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.tables.architectures import Transformer

_TOKENS = 30522
"""Of BERT's vocabulary."""


def bert(layers: int, hidden: int, heads: int, ffn: int = 0, vocab: int = _TOKENS) -> Transformer:
    """An encoder; its inner layers are four times as wide unless said otherwise."""
    return Transformer("encoder", layers, hidden, heads, heads, ffn or 4 * hidden, vocab)


def _albert(layers: int, hidden: int, heads: int) -> Transformer:
    """Lan et al. 2020, table 1: one layer's weights serve all, and embeddings of 128 weigh as much
    as fewer whole ones."""
    return replace(bert(layers, hidden, heads, vocab=30000 * 128 // hidden), is_shared=True)


def _deberta(layers: int, hidden: int, heads: int, vocab: int, positions: int) -> Transformer:
    """He et al. 2021: up to twice `positions` distances between words."""
    return replace(bert(layers, hidden, heads, vocab=vocab), relative_positions=2 * positions)


def _t5(
    layers: int, hidden: int, heads: int, ffn: int, head_dim: int = 64, vocab: int = 32128
) -> Transformer:
    """Raffel et al. 2020, section 3.7."""
    shared = (heads, heads, ffn, vocab)
    kind = "encoder-decoder"
    return Transformer(kind, layers, hidden, *shared, head_dim=head_dim, decoder_layers=layers)


def _later_t5(layers: int, hidden: int, heads: int, ffn: int, vocab: int = 32128) -> Transformer:
    """T5 1.1 and what was trained from it: gated inner layers."""
    return replace(_t5(layers, hidden, heads, ffn, 64, vocab), is_gated=True)


def _translator(
    layers: int, hidden: int, heads: int, ffn: int = 0, vocab: int = 50265, decoders: int = 0
) -> Transformer:
    kind, shared = "encoder-decoder", (heads, heads, ffn or 4 * hidden, vocab)
    return Transformer(kind, layers, hidden, *shared, decoder_layers=decoders or layers)


def _whisper(
    layers: int, hidden: int, heads: int, decoders: int = 0, bands: int = 80
) -> Transformer:
    """Radford et al. 2022, table 1: 30 seconds of speech are 1,500 positions."""
    shape = _translator(layers, hidden, heads, vocab=51865, decoders=decoders)
    return replace(shape, positions=1500, bands=bands)


def _vit(layers: int, hidden: int, heads: int, ffn: int = 0) -> Transformer:
    return bert(layers, hidden, heads, ffn, vocab=0)


_VIT = r"\b(?:vit|deit3?|beit|dinov2)"
_IMAGES = r"\b(?:dinov2[-_ ]?)?(?:vit|deit3?|beit|dinov2)[-_ ]?"
_OTHER_SIZES = r"(?:x-?small|medium|little|wee|pwee|betwixt|so\d+)"
"""Of vision transformers whose shapes are none of the papers'."""
_V1, _V2 = 50265, 128100
"""Of DeBERTa's vocabularies."""

READERS: tuple[tuple[str, Transformer | None], ...] = (
    (r"\b(?:mobile|squeeze|hu|visual|vil|rem|modern|nomic|nv)[-_ ]?bert|flaubert", None),
    (r"distil-?whisper.*large|whisper.*distil.*large", _whisper(32, 1280, 20, 2)),
    (r"distil-?whisper", None),
    (r"whisper.*turbo", _whisper(32, 1280, 20, 4, bands=128)),
    (r"whisper.*large.*v3", _whisper(32, 1280, 20, bands=128)),
    (r"whisper.*large", _whisper(32, 1280, 20)),
    (r"whisper.*medium", _whisper(24, 1024, 16)),
    (r"whisper.*small", _whisper(12, 768, 12)),
    (r"whisper.*base", _whisper(6, 512, 8)),
    (r"whisper.*tiny", _whisper(4, 384, 6)),
    (r"deberta[-_ ]?v3[-_ ]?x-?small", _deberta(12, 384, 6, _V2, 256)),
    (r"deberta[-_ ]?v3[-_ ]?small", _deberta(6, 768, 12, _V2, 256)),
    (r"mdeberta[-_ ]?v3[-_ ]?base", _deberta(12, 768, 12, 251000, 256)),
    (r"deberta[-_ ]?v3[-_ ]?base", _deberta(12, 768, 12, _V2, 256)),
    (r"deberta[-_ ]?v3[-_ ]?large", _deberta(24, 1024, 16, _V2, 256)),
    (r"deberta[-_ ]?v2[-_ ]?xx-?large", _deberta(48, 1536, 24, _V2, 256)),
    (r"deberta[-_ ]?v2[-_ ]?x-?large", _deberta(24, 1536, 24, _V2, 256)),
    (r"deberta[-_ ]?v[23]", None),
    (r"deberta[-_ ]?x-?large", _deberta(48, 1024, 16, _V1, 512)),
    (r"deberta[-_ ]?large", _deberta(24, 1024, 16, _V1, 512)),
    (r"deberta[-_ ]?(?:base|$)", _deberta(12, 768, 12, _V1, 512)),
    (r"deberta", None),
    (r"electra[-_ ]?large", bert(24, 1024, 16)),
    (r"electra[-_ ]?small", bert(12, 256, 4, vocab=_TOKENS // 2)),
    (r"electra", bert(12, 768, 12)),
    (r"xlnet[-_ ]?large", bert(24, 1024, 16)),
    (r"xlnet", bert(12, 768, 12)),
    (r"(?:sentence|gtr|st)[-_ ]t5", None),  # encoders of T5 alone
    (r"m-?t5[-_ ]?small", _later_t5(8, 512, 6, 1024, 250112)),
    (r"m-?t5[-_ ]?base", _later_t5(12, 768, 12, 2048, 250112)),
    (r"m-?t5[-_ ]?large", _later_t5(24, 1024, 16, 2816, 250112)),
    (r"m-?t5[-_ ]?xxl", _later_t5(24, 4096, 64, 10240, 250112)),
    (r"m-?t5[-_ ]?xl", _later_t5(24, 2048, 32, 5120, 250112)),
    (r"m-?t5|by-?t5|long-?t5", None),
    (r"\bul2|flan[-_ ]?ul2", replace(_t5(32, 4096, 16, 16384, 256), is_gated=True)),
    (r"(?:flan-?t5|t5[-_ ]?v?1[._]1)[-_ ]?small", _later_t5(8, 512, 6, 1024)),
    (r"(?:flan-?t5|t5[-_ ]?v?1[._]1)[-_ ]?base", _later_t5(12, 768, 12, 2048)),
    (r"(?:flan-?t5|t5[-_ ]?v?1[._]1)[-_ ]?large", _later_t5(24, 1024, 16, 2816)),
    (r"(?:flan-?t5|t5[-_ ]?v?1[._]1)[-_ ]?(?:xxl|11b)", _later_t5(24, 4096, 64, 10240)),
    (r"(?:flan-?t5|t5[-_ ]?v?1[._]1)[-_ ]?(?:xl|3b)", _later_t5(24, 2048, 32, 5120)),
    (r"(?<![a-z\d])t5[-_ ]?small", _t5(6, 512, 8, 2048)),
    (r"(?<![a-z\d])t5[-_ ]?base", _t5(12, 768, 12, 3072)),
    (r"(?<![a-z\d])t5[-_ ]?large", _t5(24, 1024, 16, 4096)),
    (r"(?<![a-z\d])t5[-_ ]?(?:3b|xl\b)", _t5(24, 1024, 32, 16384, 128)),
    (r"(?<![a-z\d])t5[-_ ]?(?:11b|xxl)", _t5(24, 1024, 128, 65536, 128)),
    (r"mbart", _translator(12, 1024, 16, vocab=250027)),
    (r"distilbart[-_ ]?\w*[-_ ]12[-_ ]6", _translator(12, 1024, 16, decoders=6)),
    (r"distilbart", None),
    (r"\bbart[-_ ]?base", _translator(6, 768, 12)),
    (r"\bbart[-_ ]?large|\bbart\b", _translator(12, 1024, 16)),
    (r"pegasus[-_ ]?(?:large|xsum|cnn)", _translator(16, 1024, 16, vocab=96103)),
    (r"opus-?mt|marian-?mt|\bmarian\b", _translator(6, 512, 8, vocab=58101)),
    (r"m2m-?100[-_ ]?418m", _translator(12, 1024, 16, vocab=128112)),
    (r"m2m-?100[-_ ]?1\.2b", _translator(24, 1024, 16, 8192, 128112)),
    (r"nllb.*600m", _translator(12, 1024, 16, vocab=256206)),
    (r"nllb.*1\.3b", _translator(24, 1024, 16, 8192, 256206)),
    (r"nllb.*3\.3b", _translator(24, 2048, 16, 8192, 256206)),
    (r"\btransformer[-_ ]?big", _translator(6, 1024, 16, vocab=32768)),
    (r"tinybert.*6l|tinybert.*6[-_ ]", bert(6, 768, 12)),
    (r"tinybert", bert(4, 312, 12, 1200)),
    (r"distil(?:ro)?bert", bert(6, 768, 12)),
    (r"minilm.*l-?6[-_ ]h-?768", bert(6, 768, 12)),
    (r"minilm.*l-?3(?!\d)", bert(3, 384, 12)),
    (r"minilm.*(?:l-?12|12-?l)", bert(12, 384, 12)),
    (r"minilm", bert(6, 384, 12)),
    (r"\bbert-99", bert(24, 1024, 16)),  # as MLPerf calls it
    (r"albert[-_ ]?xx-?large", _albert(12, 4096, 64)),
    (r"albert[-_ ]?x-?large", _albert(24, 2048, 16)),
    (r"albert[-_ ]?large", _albert(24, 1024, 16)),
    (r"\balbert", _albert(12, 768, 12)),
    (r"megatron.*bert.*3\.9b", bert(48, 2560, 40)),
    (r"megatron.*bert.*1\.3b", bert(24, 2048, 32)),
    (r"megatron.*bert", bert(24, 1024, 16)),
    (r"\bbert.*1\.3b", bert(24, 2048, 32)),
    (r"\bbert.*2\.[67]b", bert(32, 2560, 32)),
    (r"\bbert.*6\.7b", bert(32, 4096, 32)),
    (r"xlm-?r\w*[-_ ]xx-?l", bert(48, 4096, 32, vocab=250880)),
    (r"xlm-?r\w*[-_ ]x-?l", bert(36, 2560, 32, vocab=250880)),
    (r"xlm-?r\w*[-_ ]?large|\bbge-?m3", bert(24, 1024, 16, vocab=250002)),
    (r"xlm-?r", bert(12, 768, 12, vocab=250002)),
    (r"bert(?:a|a-v2|weet)?[-_ ]?large|berta?[-_ ]l\b", bert(24, 1024, 16)),
    (r"roberta[-_ ]?(?:tiny|mini|small|medium)|bert[-_ ]?(?:x+-?l|huge|giant)", None),
    (r"bert[-_ ]?tiny", bert(2, 128, 2)),
    (r"bert[-_ ]?mini\b", bert(4, 256, 4)),
    (r"bert[-_ ]?small", bert(4, 512, 8)),
    (r"bert[-_ ]?medium", bert(8, 512, 8)),
    (r"bert", bert(12, 768, 12)),
    (r"\bmultilingual-e5-large", bert(24, 1024, 16, vocab=250002)),
    (r"\b(?:bge|e5|gte)[-_ ]small", bert(12, 384, 12)),
    (r"\b(?:bge|e5|gte)[-_ ]base|mpnet[-_ ]base", bert(12, 768, 12)),
    (r"\b(?:bge|e5|gte|mxbai-embed|arctic-embed)[-_ ]l(?:arge)?\b", bert(24, 1024, 16)),
    (r"clip.*text|text.*clip|so400m|siglip|\bvit(?:pose|det|str|mae)", None),
    (rf"{_IMAGES}(?:big-?g|gigantic)", _vit(48, 1664, 16, 8192)),
    (r"dinov2[-_ ]?(?:vit)?(?:g(?![a-z])|giant)", replace(_vit(40, 1536, 24, 4096), is_gated=True)),
    (rf"{_IMAGES}(?:g(?![a-z])|giant)", _vit(40, 1408, 16, 6144)),
    (rf"{_IMAGES}{_OTHER_SIZES}", None),
    (rf"{_IMAGES}(?:h(?![a-z])|huge)", _vit(32, 1280, 16)),
    (rf"{_IMAGES}(?:l(?![a-z])|large)", _vit(24, 1024, 16)),
    (rf"{_IMAGES}(?:ti?(?![a-z])|tiny)", _vit(12, 192, 3)),
    (rf"{_IMAGES}(?:s(?![a-z])|small)", _vit(12, 384, 6)),
    (_VIT, _vit(12, 768, 12)),
)
"""Name -> configuration, from the models' own publications; the first that matches holds. None:
another architecture, told apart from a name that it contains."""
