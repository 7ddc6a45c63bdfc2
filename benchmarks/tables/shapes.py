"""Configurations of models: stated by a row, or public by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from benchmarks.tables.architectures import Residual, Transformer, Windows
from benchmarks.tables.public import SWIN, public_model
from benchmarks.tables.rows import Row, UnpredictableError, refuse_empty

_KEYS = {
    "layers": ("layers", "n_layer", "num_layers", "num_hidden_layers"),
    "hidden": ("hidden", "n_embd", "hidden_size", "d_model"),
    "heads": ("heads", "n_head", "num_heads", "num_attention_heads"),
    "kv_heads": ("kv_heads", "n_kv_head", "num_kv_heads", "num_key_value_heads"),
    "ffn": ("ffn", "intermediate", "intermediate_size", "d_ff"),
    "vocab": ("vocab", "vocab_size"),
    "head_dim": ("head_dim", "head_size"),
    "decoder_layers": ("decoder_layers", "num_decoder_layers"),
    "experts": ("experts", "num_experts", "n_experts"),
    "active_experts": ("active_experts", "top_k", "topk", "experts_per_token"),
}


_AROUND = re.compile(
    r"ssd|r-?cnn|retina|deeplab|fcn|\bfpn|yolo|u-?net|detr|clip|pose|\bfacenet"
    r"|[it]resnet|resnet[-_ ]?\d+[cdst](?![a-z\d])"
)
"""Networks that hold a ResNet and more, or that begin or shrink in another way: `resnet50d`."""
_DEPTHS = {
    18: Residual((2, 2, 2, 2), is_bottleneck=False),
    34: Residual((3, 4, 6, 3), is_bottleneck=False),
    50: Residual((3, 4, 6, 3), is_bottleneck=True),
    101: Residual((3, 4, 23, 3), is_bottleneck=True),
    152: Residual((3, 8, 36, 3), is_bottleneck=True),
}
"""Layers -> network (He et al. 2015, table 1)."""


_ENCODERS = re.compile(r"bert|xlnet|electra|\b(?:vit|deit|beit|bge|gte|e5)\b|wav2vec")
"""Families that read and do not write, whatever a row says of their sizes."""
_NOT_DENSE = re.compile(r"longformer|big-?bird|reformer|linformer|performer|mamba|rwkv|retnet")
"""Families that attend to some positions only, or do not attend."""

_SQUARE = re.compile(
    r"(?<!\d)(\d{3,4})\s*[x\u00d7]\s*\1(?!\d)"
    r"|(?:resolution|(?:image|img)(?:[-_ ]?(?:size|sz|side|res|width|height|dim))?)[= ](\d{3,4})\b"
)
"""A side of an image; the 2012 of `ImageNet 2012` is none."""


def transformer_of(row: Row) -> Transformer | None:
    """The transformer a row means: public by name, overridden by what it states; or None.

    Raises:
        UnpredictableError: its name is that of another architecture, or its sizes do not fit.
    """
    name = row.model.lower()
    if _NOT_DENSE.search(name):
        raise UnpredictableError(f"model {row.model!r} does not attend to all positions")
    public = public_model(name)
    stated = _stated(row)
    if public is not None:
        return _sound(_overridden(public, stated))
    if not {"layers", "hidden", "heads"} <= stated.keys():
        return None
    heads, hidden = stated["heads"], stated["hidden"]
    refuse_empty(heads)
    shape = Transformer(
        kind=_kind(name, row.params.lower(), stated),
        layers=stated["layers"],
        hidden=hidden,
        heads=heads,
        kv_heads=stated.get("kv_heads", heads),
        ffn=stated.get("ffn", 4 * hidden),
        vocab=stated.get("vocab", 0),
        is_gated="gated=true" in row.params.lower() or "llama" in name,
        head_dim=stated.get("head_dim", 0),
        decoder_layers=stated.get("decoder_layers", 0),
        experts=stated.get("experts", 0),
        active_experts=stated.get("active_experts", 1),
    )
    return _sound(shape)


def _sound(model: Transformer) -> Transformer:
    """The model, whose sizes fit each other.

    Raises:
        UnpredictableError: they do not.
    """
    refuse_empty(model.layers, model.hidden, model.heads, model.kv_heads, model.ffn, model.width)
    refuse_empty(model.heads - model.kv_heads + 1)
    if model.experts:
        refuse_empty(model.active_experts, model.experts - model.active_experts + 1)
    return model


def _kind(name: str, params: str, stated: Mapping[str, int]) -> str:
    if stated.get("decoder_layers"):
        return "encoder-decoder"
    is_encoder = re.search(r"\benc", f"{name} {params}") or _ENCODERS.search(name)
    return "encoder" if is_encoder else "decoder"


def _overridden(public: Transformer, stated: Mapping[str, int]) -> Transformer:
    """What a row states holds; what follows from it follows as in the public model."""
    known: dict[str, Any] = {key: value for key, value in stated.items() if value}
    if "heads" in known and "kv_heads" not in known and public.kv_heads == public.heads:
        known["kv_heads"] = known["heads"]
    if "hidden" in known and "ffn" not in known:
        known["ffn"] = round(public.ffn / public.hidden * known["hidden"])
    if "layers" in known and public.decoder_layers and "decoder_layers" not in known:
        known["decoder_layers"] = known["layers"]
    return replace(public, **known)


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


def residual_of(row: Row) -> Residual | None:
    """The residual network that a row means, or None.

    Raises:
        UnpredictableError: one of a depth that is none.
    """
    text = f"{row.model} {row.params}".lower()
    found = re.search(r"(?:res(?:net|next)|\brn)[-_ ]?v?(\d{2,3})", text)
    if found is None or _AROUND.search(row.model.lower()):
        return None
    known = _DEPTHS.get(int(found[1]))
    if known is None:
        raise UnpredictableError(f"ResNet-{found[1]} is unknown")
    model = replace(known, squeezes=re.search(r"\bse[-_]?res", text) is not None)
    if "wide" in text:
        return replace(model, group_width=128)
    if "resnext" not in text:
        return model
    named = re.search(r"(\d{2})\s*x\s*(\d{1,2})d", text)
    groups, width = (int(named[1]), int(named[2])) if named else (32, 4)
    return replace(model, groups=groups, group_width=width)


def windows_of(row: Row) -> Windows | None:
    """The Swin transformer that a row means, or None."""
    name = row.model.lower()
    if "swin" not in name:
        return None
    short = re.search(r"swin(?:-?v1)?[-_]?([tsbl])(?![a-z0-9])", name)
    words = (word for word in SWIN if word in name or (short and word[0] == short[1]))
    known = next((SWIN[word] for word in words), None)
    if known is None:
        raise UnpredictableError(f"model {row.model!r} is unknown")
    side = resolution_of(row) or known.resolution
    if side % 32:
        raise UnpredictableError(f"images of {side} x {side} do not divide into windows")
    return replace(known, resolution=side, window=side // 32)


_PATCH = re.compile(
    r"patch[-_ ]?(\d+)|/(\d+)\b|[-_](14|16|32)(?!\d)|vit[-_ ]?[a-z]{1,5}[-_ ]?(8|14|16|32)(?!\d)"
)
"""Side of a patch in a name: the largest networks have 14 where they say nothing."""


def image_tokens(row: Row) -> int | None:
    """Positions of a vision transformer: one a patch and one for the class; None of others."""
    name = row.model.lower()
    if not re.search(r"\b(?:vit|deit|beit|dinov2)", name):
        return None
    patch = _PATCH.search(name)
    fine = re.search(r"dinov2|\bvit[-_ ]?(?:h|g)", name) is not None
    side = int(next(filter(None, patch.groups()))) if patch else 14 if fine else 16
    return ((resolution_of(row) or 224) // side) ** 2 + 1


def resolution_of(row: Row) -> int | None:
    """Side of a square image, where the row states it."""
    text = f"{row.params} {row.model} {row.notes}".lower()
    found = _SQUARE.search(text)
    named = re.search(r"[-_](224|256|299|336|384|512)(?!\d)", row.model)
    named = named or re.search(r"(?i)mobilenet.*[-_](128|160|192)(?!\d)", row.model)
    if found:
        return int(found[1] or found[2])
    return int(named[1]) if named else None
