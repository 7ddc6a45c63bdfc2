"""Configurations of models that are public by name."""

from __future__ import annotations

import re

from benchmarks.tables.architectures import Transformer, Windows
from benchmarks.tables.readers import READERS, bert
from benchmarks.tables.writers import WRITERS

PUBLIC = (*READERS, *WRITERS)

_NAMED_SIZE = re.compile(r"(?<![\d.a-z])(\d+(?:\.\d+)?)\s?([bm])(?![a-z\d])")
"""Millions or thousands of millions of weights: the whole of `350m`, nothing of `8x7b` or `a3b`."""
_ROUNDED = 1.4
"""Factor within which names tell sizes: a Gemma 2B has 2.5 thousand million weights."""


def public_model(name: str) -> Transformer | None:
    """The model that a name in lower case means, or None. A number behind any text is a whole one:
    a 57B or a 1.7B is no 7B. BERTs named by their sizes (`L-4_H-512_A-8`) have these; and no model
    is meant whose weights are not as many as the name says. Tags count as parts of names
    (`gemma2:9b`)."""
    name = re.sub(r"[-_]\d-?bit(?![a-z])", "", name.replace(":", "-"))
    sized = re.search(r"bert.*[-_]l-(\d+)(?:_h-(\d+)_a-(\d+))?", name)
    if sized:
        return bert(*map(int, sized.groups())) if sized[2] else None
    whole = ((re.sub(r"\.\*(?=\(?\d)", r".*(?<![\\d.])", each), shape) for each, shape in PUBLIC)
    found = next((shape for pattern, shape in whole if re.search(pattern, name)), None)
    return found if found is None or _is_of_size(found, name) else None


def _is_of_size(model: Transformer, name: str) -> bool:
    """Whether a model has the number of weights that a name states, if it states one; names of
    models with experts may state those that a token meets (`1B-7B`, `17B-16E`)."""
    stated = _NAMED_SIZE.search(name)
    if stated is None:
        return True
    size = float(stated[1]) * {"m": 1e6, "b": 1e9}[stated[2]]
    counts = [model.parameters, *([model.met_parameters] if model.experts else [])]
    return any(1 / _ROUNDED < count / size < _ROUNDED for count in counts)


SWIN = {
    "tiny": Windows(96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": Windows(96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": Windows(128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": Windows(192, (2, 2, 18, 2), (6, 12, 24, 48)),
}
"""Word in the name -> configuration (Liu et al. 2021, table 7)."""
