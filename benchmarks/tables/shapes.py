"""Configurations of models: stated by a row, or public by name."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.tables.rows import Row, UnpredictableError


@dataclass(frozen=True, slots=True)
class Transformer:
    """What a transformer's cost depends on."""

    kind: str
    """`encoder` or `decoder`."""
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    is_gated: bool = False
    """Two products into the inner layer, as in Llama."""
    head_dim: int = 0
    """0: hidden / heads."""

    @property
    def width(self) -> int:
        """Of one head."""
        return self.head_dim or self.hidden // self.heads

    @property
    def layer_parameters(self) -> float:
        """Weights of one layer's products."""
        attention = self.hidden * self.width * (2 * self.heads + 2 * self.kv_heads)
        return attention + (3 if self.is_gated else 2) * self.hidden * self.ffn

    @property
    def parameters(self) -> float:
        """Weights of all products and of one embedding."""
        return self.layers * self.layer_parameters + self.vocab * self.hidden


def _gpt(layers: int, hidden: int, heads: int, vocab: int = 51200) -> Transformer:
    return Transformer("decoder", layers, hidden, heads, heads, 4 * hidden, vocab)


def _bert(layers: int, hidden: int, heads: int) -> Transformer:
    return Transformer("encoder", layers, hidden, heads, heads, 4 * hidden, 30522)


def _llama(
    layers: int, hidden: int, heads: int, kv_heads: int, ffn: int, vocab: int = 32000
) -> Transformer:
    return Transformer("decoder", layers, hidden, heads, kv_heads, ffn, vocab, is_gated=True)


_PUBLIC: tuple[tuple[str, Transformer], ...] = (
    (r"distilbert", _bert(6, 768, 12)),
    (r"minilm", _bert(6, 384, 12)),
    (r"bert[-_ ]?large|bertlarge", _bert(24, 1024, 16)),
    (r"bert", _bert(12, 768, 12)),
    (r"vit[-_ ]?l", Transformer("encoder", 24, 1024, 16, 16, 4096, 0)),
    (r"vit|deit", Transformer("encoder", 12, 768, 12, 12, 3072, 0)),
    (r"gpt-?2[-_ ]?xl", _gpt(48, 1600, 25, 50257)),
    (r"gpt-?2[-_ ]?large", _gpt(36, 1280, 20, 50257)),
    (r"gpt-?2[-_ ]?medium", _gpt(24, 1024, 16, 50257)),
    (r"gpt-?2", _gpt(12, 768, 12, 50257)),
    (r"gpt-?neox|neox-20b", _gpt(44, 6144, 64, 50432)),
    (r"gpt-?j", _gpt(28, 4096, 16, 50400)),
    (r"gpt.*530b|mt-nlg|megatron.*530", _gpt(105, 20480, 128)),
    (r"gpt.*175b|gpt-?3\b(?!.*\d+(\.\d+)?b)", _gpt(96, 12288, 96)),
    (r"gpt.*89b", _gpt(48, 12288, 96)),
    (r"gpt.*39b", _gpt(48, 8192, 64)),
    (r"gpt.*20b", _gpt(44, 6144, 64)),
    (r"gpt.*18b", _gpt(40, 6144, 48)),
    (r"gpt.*13b", _gpt(40, 5120, 40)),
    (r"gpt.*6\.7b", _gpt(32, 4096, 32)),
    (r"gpt.*2\.7b", _gpt(32, 2560, 32)),
    (r"gpt.*1\.3b", _gpt(24, 2048, 32)),
    (r"gpt.*760m", _gpt(24, 1536, 16)),
    (r"gpt.*350m|gpt.*345m", _gpt(24, 1024, 16)),
    (r"gpt.*125m", _gpt(12, 768, 12)),
    (r"opt-?175b", _gpt(96, 12288, 96, 50272)),
    (r"opt-?66b", _gpt(64, 9216, 72, 50272)),
    (r"opt-?30b", _gpt(48, 7168, 56, 50272)),
    (r"opt-?13b", _gpt(40, 5120, 40, 50272)),
    (r"opt-?6\.7b", _gpt(32, 4096, 32, 50272)),
    (r"opt-?2\.7b", _gpt(32, 2560, 32, 50272)),
    (r"opt-?1\.3b", _gpt(24, 2048, 32, 50272)),
    (r"opt-?350m", _gpt(24, 1024, 16, 50272)),
    (r"opt-?125m", _gpt(12, 768, 12, 50272)),
    (r"bloom-?176b|bloom$", _gpt(70, 14336, 112, 250880)),
    (r"llama-?3.*70b", _llama(80, 8192, 64, 8, 28672, 128256)),
    (r"llama-?3.*405b", _llama(126, 16384, 128, 8, 53248, 128256)),
    (r"llama-?3.*8b", _llama(32, 4096, 32, 8, 14336, 128256)),
    (r"codellama-?34b|llama.*34b", _llama(48, 8192, 64, 8, 22016)),
    (r"llama-?2.*70b", _llama(80, 8192, 64, 8, 28672)),
    (r"llama.*(65|70)b", _llama(80, 8192, 64, 64, 22016)),
    (r"llama.*(30|33)b", _llama(60, 6656, 52, 52, 17920)),
    (r"(llama|vicuna).*13b", _llama(40, 5120, 40, 40, 13824)),
    (r"(llama|vicuna).*7b", _llama(32, 4096, 32, 32, 11008)),
    (r"mistral.*7b", _llama(32, 4096, 32, 8, 14336)),
    (r"qwen2?\.?5?.*72b", _llama(80, 8192, 64, 64, 24576, 152064)),
    (r"qwen.*7b", _llama(32, 4096, 32, 32, 11008, 151936)),
    (r"phi-?2", _gpt(32, 2560, 32, 51200)),
    (r"falcon-?7b", Transformer("decoder", 32, 4544, 71, 1, 18176, 65024)),
)
"""Name -> configuration, from the models' own publications; the first that matches holds."""
_KEYS = {
    "layers": ("layers", "n_layer", "num_layers"),
    "hidden": ("hidden", "n_embd", "hidden_size", "d_model"),
    "heads": ("heads", "n_head", "num_heads"),
    "kv_heads": ("kv_heads", "n_kv_head"),
    "ffn": ("ffn", "intermediate", "d_ff"),
    "vocab": ("vocab", "vocab_size"),
    "head_dim": ("head_dim",),
}


def transformer_of(row: Row) -> Transformer | None:
    """The transformer a row means: public by name, overridden by what it states; or None."""
    name = row.model.lower()
    public = next((shape for pattern, shape in _PUBLIC if re.search(pattern, name)), None)
    stated = _stated(row)
    if public is not None:
        known: dict[str, Any] = {key: value for key, value in stated.items() if value}
        if "heads" in known and "kv_heads" not in known and public.kv_heads == public.heads:
            known["kv_heads"] = known["heads"]
        return replace(public, **known)
    if not {"layers", "hidden", "heads"} <= stated.keys():
        return None
    heads, hidden = stated["heads"], stated["hidden"]
    return Transformer(
        kind="encoder" if re.search(r"enc", f"{name} {row.params}".lower()) else "decoder",
        layers=stated["layers"],
        hidden=hidden,
        heads=heads,
        kv_heads=stated.get("kv_heads", heads),
        ffn=stated.get("ffn", 4 * hidden),
        vocab=stated.get("vocab", 0),
        is_gated="gated=true" in row.params.lower() or "llama" in name,
        head_dim=stated.get("head_dim", 0),
    )


def _stated(row: Row) -> dict[str, int]:
    text = row.params.lower().split(" unless ")[0]
    found = {}
    for key, names in _KEYS.items():
        for name in names:
            match = re.search(rf"\b{name}\s*=\s*(\d+)", text)
            if match:
                found[key] = int(match[1])
                break
    return found


def residual_depths(row: Row) -> tuple[tuple[int, int, int, int], bool] | None:
    """Blocks per stage of a ResNet and whether blocks are bottlenecks, or None."""
    text = f"{row.model} {row.params}".lower()
    found = re.search(r"(?:resnet|rn)[-_ ]?v?(\d{2,3})", text)
    if found is None:
        return None
    depths = {
        18: ((2, 2, 2, 2), False),
        34: ((3, 4, 6, 3), False),
        50: ((3, 4, 6, 3), True),
        101: ((3, 4, 23, 3), True),
        152: ((3, 8, 36, 3), True),
    }
    if int(found[1]) not in depths:
        raise UnpredictableError(f"ResNet-{found[1]} is unknown")
    return depths[int(found[1])]
