"""Prices collectives by what was learnt, or by the closest that was.

A collective nobody measured on a fabric moves its bytes over the links that others there have shown
(another implementation, another kind), or as on other fabrics: the model is written in bytes moved
and in the link's own rate, so parameters carry over, with the interval that such use has shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from planner.cost import links
from planner.cost.curves import Library
from planner.cost.fitted import Fitted, fitted
from planner.cost.links import Messages

Array = npt.NDArray[np.float64]

ELSEWHERE = "elsewhere"
"""Curve of the links' file that holds what predictions from other kinds and fabrics are off by."""
_GUESS = ((float("inf"), 0.4, 2.5),)
_IMPLEMENTATIONS = ("nccl", "nccl-tests")
_KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")
_FABRICS = ("nvswitch", "nvlink", "pcie", "network")


def find(library: Library, key: str, like: str | None = None) -> Fitted:
    """The curve for `kind/implementation/fabric`, or the closest.

    Args:
        like: source of measurements whose software is meant.
    """
    for name, has_lattice in _closest(key):
        curve = library.link(name, like)
        if curve is None:
            continue
        strange = library.link(ELSEWHERE)
        bands = fitted(strange).bands if strange else _GUESS
        found = fitted(curve, has_lattice=has_lattice)
        if name == key:  # on links of another rate, and for other ranks, it is a stranger as well
            return replace(found, beyond=bands)
        return replace(found, bands=bands, covers=None, is_own=False)
    typical = {name: value for name, (value, _) in links.PRIOR.items()}
    return Fitted(typical, None, _GUESS, False, "typical values of the model")


def _closest(key: str) -> Iterator[tuple[str, bool]]:
    """Names of curves, closest first, and whether their remainders hold."""
    kind, _, fabric = key.split("/")
    yield key, True
    for other in _IMPLEMENTATIONS:
        yield f"{kind}/{other}/{fabric}", True
    for other in _KINDS:
        yield f"{other}/nccl/{fabric}", False
    for other in _FABRICS:
        for each in (kind, *_KINDS):
            yield f"{each}/nccl/{other}", False


def coordinates(works: Messages) -> Array:
    """[messages, 2]: where they stand on the lattice."""
    at: Array = np.log2(np.column_stack([np.maximum(works.size_bytes, 1.0), works.ranks]))
    return at


def extent(works: Messages) -> Array:
    """[messages, 3]: what a curve has a measured range of, the link's rate included."""
    return np.column_stack([coordinates(works), np.log2(works.link)])


def latencies_us(works: Messages, fit: Fitted) -> Array:
    """Microseconds of each."""
    latencies = links.collective_us(works, fit.parameters)
    if fit.lattice is not None:
        latencies = latencies * np.exp(fit.lattice.at(coordinates(works)))
    return latencies
