"""Every model of the zoo: how it is built, how many parameters it has by its source, and the input
shapes it serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onnx import ModelProto

from benchmarks.zoo_families import encoder, gpt, speech, t5, vision

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Entry:
    """Input shapes that are run `weight` times for one query."""

    name: str
    weight: int
    shapes: Shapes
    """One shape binds a symbolic dimension for all inputs that share it."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the zoo."""

    build: Callable[[str, str], ModelProto]
    """(name, dtype of weights) -> graph."""
    published: float
    """Parameters, by the source named in the family's file."""
    workload: tuple[Entry, ...]


PROMPT = 512
"""Tokens of a prompt."""
ANSWER = 128
"""Tokens generated for it."""


def _decoder(name: str) -> tuple[Entry, ...]:
    size = gpt.SIZES[name]

    def shapes(tokens: int, past: int) -> Shapes:
        cache = (1, size.heads, past, size.head_width)
        return {"input_ids": (1, tokens), "past_key_0": cache}

    middle = PROMPT + ANSWER // 2
    return (Entry("prefill", 1, shapes(PROMPT, 0)), Entry("decode", ANSWER, shapes(1, middle)))


def _encoder_decoder(name: str) -> tuple[Entry, ...]:
    size = t5.SIZES[name]

    def shapes(source: int, past: int, past_source: int) -> Shapes:
        return {
            "input_ids": (1, source),
            "decoder_input_ids": (1, 1),
            "past_key_self_0": (1, size.heads, past, size.head_width),
            "past_key_cross_0": (1, size.heads, past_source, size.head_width),
        }

    decode = shapes(0, ANSWER // 2, PROMPT)
    return (Entry("prefill", 1, shapes(PROMPT, 0, 0)), Entry("decode", ANSWER - 1, decode))


_SENTENCE = (Entry("sentence", 1, {"input_ids": (1, 128)}),)
_PICTURE = (Entry("picture", 1, {"pixels": (1, 3, vision.PIXELS, vision.PIXELS)}),)
_CHUNK = (Entry("chunk", 1, {"frames": (1, 1, 64, speech.MELS)}),)
_UTTERANCE = (Entry("utterance", 1, {"spectrogram": (1, 1, speech.BINS, 1000)}),)

_PUBLISHED = {
    "bert-base": 110e6,
    "bert-large": 340e6,
    "encoder-6b": 6e9,
    "gpt2": 124e6,
    "gpt2-medium": 355e6,
    "gpt2-large": 774e6,
    "gpt2-xl": 1558e6,
    "gpt3-125m": 125e6,
    "gpt3-350m": 350e6,
    "gpt3-760m": 760e6,
    "gpt3-1.3b": 1.3e9,
    "gpt3-2.7b": 2.7e9,
    "gpt3-6.7b": 6.7e9,
    "gpt3-13b": 13.0e9,
    "gpt3-175b": 175.0e9,
    "m6-10b": 10e9,
    "mt-nlg-530b": 530e9,
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "t5-3b": 2_851_598_336,
    "t5-11b": 11_307_321_344,
    "switch-base": 7.5e9,
    "switch-large": 26e9,
    "switch-xxl": 395e9,
    "switch-c": 1571e9,
    "vit-b16": 86e6,
    "vit-l16": 307e6,
    "swin-t": 28_288_354,
    "swin-b": 87_768_224,
    "resnet-50": 25.6e6,
    "conformer-l-streaming": 118.8e6,
    "deepspeech2": 100e6,
}

_SPEECH = {"conformer-l-streaming": _CHUNK, "deepspeech2": _UTTERANCE}
_VISION = (*vision.VITS, *vision.SWINS, *vision.RESNETS)

MODELS: Mapping[str, Model] = {
    **{n: Model(encoder.build, _PUBLISHED[n], _SENTENCE) for n in encoder.SIZES},
    **{n: Model(gpt.build, _PUBLISHED[n], _decoder(n)) for n in gpt.SIZES},
    **{n: Model(t5.build, _PUBLISHED[n], _encoder_decoder(n)) for n in t5.SIZES},
    **{n: Model(vision.build, _PUBLISHED[n], _PICTURE) for n in _VISION},
    **{n: Model(speech.build, _PUBLISHED[n], _SPEECH[n]) for n in speech.NAMES},
}
"""Name -> model."""


def constraints_text(name: str) -> str:
    """A constraints file that plans the model beside it for its workload, without weights."""
    lines = ["schema_version: 1", f"model: {name}.onnx", "no_weights: true", "workload:"]
    for entry in MODELS[name].workload:
        shapes = ", ".join(f"{feed}: {list(dims)}" for feed, dims in entry.shapes.items())
        lines.append(f"  - {{name: {entry.name}, weight: {entry.weight}, shapes: {{{shapes}}}}}")
    return "\n".join(lines) + "\n"
