"""Which format a `precision` text means.

Weights of 8 bits that are unpacked before they multiply cost the same as integers and as floats;
so do products of 8 bits with 2:4 sparsity, whose rates are equal wherever both exist.
"""

from __future__ import annotations

import re

from benchmarks.tables.rows import UnpredictableError

_PATTERNS = (
    (r"fp16 weights", "fp16"),
    (r"sparse-marlin", "int4_wo"),
    (r"(?:gptq|awq|autoround)\W*(?:int8|8[-_ ]?bit)|(?:int8|8[-_ ]?bit)\W*gptq", "int8_wo"),
    (r"int4|w4a16|awq|gptq|nf4|\bq4(?![a-z0-9])|\bi?q4_|4[-_ ]?bit", "int4_wo"),
    (r"float8wo|fp8[_ -]?wo|(?:fp8|float8).*weight.only", "int8_wo"),
    (r"int8dq|w8a8|\bsq\b|smoothquant|int8 dynamic", "int8"),
    (r"int8[_ -]?w|weight.only|w8a16|\bq8_0|(?<!bnb[-_ ])(?<![a-z\d.])8[-_ ]?bit", "int8_wo"),
    (r"autoquant", "int8_wo"),
    (r"fp8|float8|e4m3", "fp8"),
    (r"int8", "int8"),
    (r"bf16|bfloat16", "bf16"),
    (r"amp|mixed|fp16|half|float16", "fp16"),
    (r"tf32|tensorfloat", "tf32"),
    (r"fp32|float32|\bfloat\b|single", "fp32"),
)


_DENSE = frozenset({"", "none", "dense", "no", "false", "0", "0%", "1:1", "-", "n/a", "na"})
_HALVED = re.compile(r"2\s*[:/]\s*4|2[-_ ]?of[-_ ]?4|2in4")


def format_of(precision: str, sparsity: str) -> str:
    """The predictor's format.

    Raises:
        UnpredictableError: the text names none that is modelled, or a sparsity that is not.
    """
    text = precision.lower()
    if re.search(r"fp6|uintx|int2|fp4|mxfp|w4a8|w4afp8|w4a4|\bi?q[12356]_", text):
        raise UnpredictableError(f"format {precision!r} is not modelled")
    kept = sparsity.strip().lower()
    is_halved = _HALVED.search(kept) is not None
    if kept not in _DENSE and not is_halved:
        raise UnpredictableError(f"sparsity {sparsity!r} is not modelled")
    if is_halved and not re.search(r"int4|marlin", text):
        return "2:4_int8" if re.search(r"int8|fp8|float8", text) else "2:4"
    for pattern, name in _PATTERNS:
        if re.search(pattern, text):
            return name
    raise UnpredictableError(f"format {precision!r} is unknown")


_IN_NAMES = re.compile(
    r"(?<![a-z\d])(?:gptq[-_ ]int8|gptq[-_ ]8bit|awq|gptq|int4|w4a16|nf4|(?:nv|mx)?fp4|fp8"
    r"|w8a8|int8|w8a16|bf16|fp16|\d-?bit|i?q\d_[k\dxsnl]\w*|exl[23]|aqlm|quip\W?)(?![a-z])"
)
_KEPT = (
    (r"deepseek[-_ ]?(?:v3|r1)(?!.*(?:distill|qwen|llama)|[-_ :]\d\.?\d?b)|kimi[-_ ]?k2", "fp8"),
)
"""Models whose authors publish weights in fewer bits than activations (DeepSeek-AI 2024, 3.3)."""
_WIDE_OR_NONE = frozenset({"", "auto", "bf16", "bfloat16", "fp16", "float16", "half", "-", "none"})


def precision_of(precision: str, model: str) -> str:
    """What a row's column says; where that is what activations have or nothing, and the model's
    name says how its weights are kept, this name (`Llama-3-70B-AWQ`), or what its authors kept."""
    name = model.lower()
    found = _IN_NAMES.search(name)
    kept = (format for pattern, format in _KEPT if re.search(pattern, name))
    named = found[0] if found else next(kept, "")
    is_open = precision.strip().lower().removeprefix("torch.") in _WIDE_OR_NONE
    return named if named and is_open else precision
