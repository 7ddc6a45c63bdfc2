"""Prices collectives by what was learnt, or by the closest that was.

A collective nobody measured on a fabric moves its bytes over the links that others there have shown
(another implementation, another kind), or as on other fabrics: the model is written in bytes moved
and in the link's own rate, so parameters carry over, with the interval that such use has shown. A
network between machines is known for the source that measured it alone: what one cluster carries
says nothing of the next, which is taken for a healthy one (`network.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from planner.cost import links, network
from planner.cost.curves import Library, is_from
from planner.cost.fitted import Bands, Fitted, fitted
from planner.cost.links import Messages

Array = npt.NDArray[np.float64]

ELSEWHERE, STRANGE_FABRIC = "elsewhere", "elsewhere/fabric"
"""Curves of the links' file that hold what predictions are off by: from other kinds and
implementations, and from other fabrics."""
_GUESS = ((float("inf"), 0.4, 2.5),)
_IMPLEMENTATIONS = ("nccl", "nccl-tests")
_KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")
_NETWORK = "network"
_FABRICS = ("nvswitch", "nvlink", "pcie", _NETWORK)


def find(library: Library, key: str, like: str | None = None) -> Fitted:
    """The curve for `kind/implementation/fabric`, or the closest.

    Args:
        like: source of measurements whose software is meant.
    """
    is_far = _fabric(key) == _NETWORK
    for name, has_lattice in _closest(key):
        if is_far and _fabric(name) != _NETWORK:
            break
        curve = library.link(name, like)
        if curve is None or (is_far and not is_from(curve, like)):
            continue
        found = fitted(curve, has_lattice=has_lattice)
        if name == key:  # on links of another rate, and for other ranks, it is a stranger as well
            return replace(found, beyond=_of_other_links(library))
        if _fabric(name) == _fabric(key):
            bands, beyond = _bands(library, ELSEWHERE), _of_other_links(library)
            return replace(found, bands=bands, beyond=beyond, is_own=False)
        is_same_clock = is_from(curve, like)
        return replace(
            found,
            parameters=curve.parameters if is_same_clock else _with_typical_start(curve.parameters),
            bands=_bands(library, STRANGE_FABRIC),
            covers=None,
            is_own=False,
        )
    if is_far:
        held = ((float("inf"), *network.BAND),)
        return Fitted(network.HEALTHY, None, held, False, "a healthy network")
    typical = {name: value for name, (value, _) in links.PRIOR.items()}
    return Fitted(typical, None, _GUESS, False, "typical values of the model")


def _bands(library: Library, strangers: str) -> Bands:
    known = library.link(strangers) or library.link(ELSEWHERE)
    return fitted(known).bands if known else _GUESS


def _of_other_links(library: Library) -> Bands:
    """On a fabric of the same kind whose links have another rate, and for other ranks, which none
    of the published ones shows: half way, in logarithm, to not knowing the fabric."""
    _, low, high = _bands(library, STRANGE_FABRIC)[-1]
    low, high = math.sqrt(low), math.sqrt(high)
    return tuple((end, min(a, low), max(b, high)) for end, a, b in _bands(library, ELSEWHERE))


def _fabric(key: str) -> str:
    return key.rpartition("/")[2]


def _with_typical_start(parameters: Mapping[str, float]) -> dict[str, float]:
    """Half way to the typical start, in logarithm: a start is software and the clock that measured
    it at least as much as the fabric, and published ones differ fivefold on one fabric."""
    typical, _ = links.PRIOR["alpha"]
    return {**parameters, "alpha": math.sqrt(parameters["alpha"] * typical)}


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
