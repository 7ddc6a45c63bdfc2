"""The models of the suite, by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol

import onnx

from benchmarks.small import language, ranking, sequence, speech, vision


class Builder(Protocol):
    """Makes a model in a dtype (`float32`, `float16`)."""

    def __call__(self, dtype: str, *, batch: int = 1) -> onnx.ModelProto:
        """`batch`: independent requests; rankings and chains take as many times their rows."""
        ...


SUITE: Mapping[str, Builder] = {
    "conformer-chunk": speech.conformer_chunk,
    "conformer-chunk-16": partial(speech.conformer_chunk, frames=16),
    "conformer-chunk-64": partial(speech.conformer_chunk, frames=64),
    "conformer-512": partial(
        speech.conformer_chunk, layers=12, width=512, heads=8, hidden=2048, kernel=31, frames=64
    ),
    "deepspeech2": sequence.deepspeech2,
    "lstm-10x100x256": sequence.lstm_stack,
    "seq2seq": sequence.seq2seq,
    "crnn": sequence.crnn,
    "bert-base-128": partial(language.bert, tokens=128, layers=12, width=768, heads=12),
    "bert-base-384": partial(language.bert, tokens=384, layers=12, width=768, heads=12),
    "minilm-32": partial(language.bert, tokens=32, layers=6, width=384, heads=12),
    "vit-s-32": language.vit,
    "mobilenet-v2": vision.mobilenet_v2,
    "efficientnet-b0": vision.efficientnet_b0,
    "squeezenet": vision.squeezenet,
    "mmoe": ranking.mmoe,
    "dlrm-64": ranking.dlrm,
    "nerf-7x64": ranking.nerf,
    "lora": ranking.lora,
    "gated-mlp": ranking.gated_mlp,
    "voice-activity": sequence.voice_activity,
    "unet-denoiser": vision.unet_denoiser,
}
"""The flagship first."""
