"""Prices collectives by what was learnt, or by the closest that was.

A collective nobody measured on a fabric is NCCL's as another benchmark timed it there, or as the
same source timed it on other wires, with the interval that such use has shown; else the library's
own model of itself holds (`protocols.py`), for a start is software and clock more than wiring. A
network between machines is known for the source that measured it alone: what one cluster carries
says nothing of the next, which is taken for a healthy one (`network.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from planner.cost import links, network, protocols
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
_FABRICS = ("nvswitch", "nvlink", "pcie")


def find(library: Library, key: str, like: str | None = None) -> Fitted:
    """The curve for `kind/implementation/fabric`, or the closest.

    Args:
        like: source of measurements whose software is meant.
    """
    is_far = _fabric(key) == _NETWORK
    for name, has_lattice in _far(key) if is_far else _near(key):
        curve = library.link(name, like)
        is_same_source = curve is not None and is_from(curve, like)
        is_same_fabric = _fabric(name) == _fabric(key)
        if curve is None or ((is_far or not is_same_fabric) and not is_same_source):
            continue
        found = fitted(curve, has_lattice=has_lattice)
        if name == key:  # on links of another rate, and for other ranks, it is a stranger as well
            return replace(found, beyond=_of_other_links(library))
        if is_same_fabric:
            bands, beyond = _bands(library, ELSEWHERE), _of_other_links(library)
            return replace(found, bands=bands, beyond=beyond, is_own=False)
        bands = _bands(library, STRANGE_FABRIC)
        return replace(found, bands=bands, covers=None, is_own=False)
    if is_far:
        held = ((float("inf"), *network.BAND),)
        return Fitted(network.HEALTHY, None, held, False, "a healthy network")
    bands = _bands(library, STRANGE_FABRIC)
    return Fitted(protocols.parameters(), None, bands, False, "the library's model of itself")


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


def _near(key: str) -> Iterator[tuple[str, bool]]:
    """Names of curves that tell of a collective inside a machine, closest first, and whether their
    remainders hold: NCCL timed in another way, then the same on other wires. Other kinds, and NCCL
    of kernels that are not its own, say less than a library says of itself."""
    kind, implementation, fabric = key.split("/")
    yield key, True
    for other in _IMPLEMENTATIONS if implementation in _IMPLEMENTATIONS else ():
        yield f"{kind}/{other}/{fabric}", True
    for other in _FABRICS:
        yield f"{kind}/{implementation}/{other}", False


def _far(key: str) -> Iterator[tuple[str, bool]]:
    """The same between machines: what is known of one network tells of all kinds there."""
    kind = key.partition("/")[0]
    yield key, True
    for other in _IMPLEMENTATIONS:
        yield f"{kind}/{other}/{_NETWORK}", True
    for other in _KINDS:
        yield f"{other}/nccl/{_NETWORK}", False


def coordinates(works: Messages) -> Array:
    """[messages, 2]: where they stand on the lattice."""
    at: Array = np.log2(np.column_stack([np.maximum(works.size_bytes, 1.0), works.ranks]))
    return at


def extent(works: Messages) -> Array:
    """[messages, 3]: what a curve has a measured range of, the link's rate included."""
    return np.column_stack([coordinates(works), np.log2(works.link)])


def latencies_us(works: Messages, fit: Fitted) -> Array:
    """Microseconds of each."""
    if protocols.LAUNCH in fit.parameters:
        return protocols.latency_us(works, fit.parameters)
    latencies = links.collective_us(works, fit.parameters)
    if fit.lattice is not None:
        latencies = latencies * np.exp(fit.lattice.at(coordinates(works)))
    return latencies
