"""What a library says of its own collectives: prices on a fabric whose software nobody timed there.

NCCL picks, for each message, one of two ways round (a ring, or trees for sums) and one of three
protocols, by a model of its own (NVIDIA/nccl, src/graph/tuning.cc):

    latency = launch + base + steps * step + moved / (link * share * worth) + pipelining

Short messages go with their flags in every word (`LL`: few microseconds, a quarter of the link),
middling ones in lines of 128 bytes with one flag (`LL128`, over NVLink alone), long ones in chunks
behind fences (`SIMPLE`). A message from one device to another is one step. Libraries for serving
reduce by kernels of their own (`custom`): no channels to set up, every device reads all others
directly once, or a part of the sum each and then the parts, behind two or four exchanged flags.

A start is software and the clock that measured it more than it is a fabric: carrying what one
source measured on one fabric to another source on the next was off by 54 %, two to seven times too
long where messages are short (ai-dynamo/aiconfigurator's, 390 rows); these constants, of which none
was fitted, by 15 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.cost.links import Messages

Array = npt.NDArray[np.float64]

LAUNCH, RAMP = "launch", "ramp"
_LAUNCH_US = 2.0
"""Of any kernel behind another (`predictor.py`)."""
_RAMP = 2.0
"""Square roots of microseconds: chunks that follow each other through `h` further steps of `l` us
add 2 sqrt(h l bytes / link) at best; 1 us a step. Fits of three sources lie between 0.9 and 2.8."""
_SHARES = {"pcie": 12.0 / 15.75, "network": 0.96}
_NVLINK_SHARE = 20.0 / 25.0
"""What NCCL counts of a link's rate: 12 of 15.75 GB/s for a PCIe 3.0 x16, 20 of 25 for an NVLink of
a V100 or A100 (src/graph/topo.h); adapters as of `network.HEALTHY`."""
_FLAG_US = 1.9
"""A flag that another device sees over NVLink: as of a step of LL128."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to pass a message on."""

    base_us: float
    nvlink_us: float
    pcie_us: float
    network_us: float
    """Of one step on each kind of wire."""
    worth: float
    """Of the link's rate, with what the ring or the trees leave of it."""
    is_tree: bool = False
    needs_nvlink: bool = False
    is_alone: bool = True
    """Whether one device may send to one other so."""

    def step_us(self, fabric: str) -> float:
        """Of one step; a fabric that is not known is taken for the slowest."""
        known = {"nvswitch": self.nvlink_us, "nvlink": self.nvlink_us, "pcie": self.pcie_us}
        return known.get(fabric, self.network_us)


_PROTOCOLS = (
    Protocol(6.6, 0.6, 1.0, 2.7, 1 / 4),
    Protocol(14.0, 1.9, 2.5, 4.0, 0.92, needs_nvlink=True, is_alone=False),
    Protocol(8.4, 3.4, 5.7, 14.0, 1.0),
    Protocol(6.8, 0.6, 1.0, 5.0, 0.9 / 3.8, is_tree=True),
    Protocol(14.0, 1.25, 1.9, 8.5, 0.9 * 7 / 9, is_tree=True, needs_nvlink=True),
    Protocol(8.4, 4.0, 4.0, 14.0, 0.9, is_tree=True),
)
"""LL, LL128 and SIMPLE in rings, then in trees."""


def parameters() -> Mapping[str, float]:
    """By which `latency_us` is told apart from fitted curves."""
    return {LAUNCH: _LAUNCH_US, RAMP: _RAMP}


def latency_us(works: Messages, at: Mapping[str, float]) -> Array:
    """Microseconds of each collective."""
    ways = _custom(works, at) if works.implementation == "custom" else _nccl(works, at)
    fastest: Array = np.minimum.reduce(list(ways))
    return fastest


def _nccl(works: Messages, at: Mapping[str, float]) -> Iterator[Array]:
    steps = _steps(works)
    for one in _PROTOCOLS:
        if one.is_tree and works.kind != "all_reduce":
            continue
        if one.needs_nvlink and works.fabric not in ("nvswitch", "nvlink"):
            continue
        if works.kind == "send_recv" and not one.is_alone:
            continue
        moved = works.size_bytes * 2.0 if one.is_tree else works.moved_bytes
        start = at[LAUNCH] + one.base_us + steps * one.step_us(works.fabric)
        yield start + _passed_us(works, moved, one.worth, at)


def _custom(works: Messages, at: Mapping[str, float]) -> Iterator[Array]:
    once = (works.ranks - 1) * works.size_bytes
    yield at[LAUNCH] + 2 * _FLAG_US + _passed_us(works, once, 1.0, at)
    yield at[LAUNCH] + 4 * _FLAG_US + _passed_us(works, works.moved_bytes, 1.0, at)


def _steps(works: Messages) -> Array:
    if works.kind == "send_recv":
        return np.ones_like(works.ranks)
    steps: Array = works.ranks - 1
    return 2 * steps if works.kind == "all_reduce" else steps


def _passed_us(works: Messages, moved: Array, worth: float, at: Mapping[str, float]) -> Array:
    """Bytes over the link, and chunks that wait for each other where there is a further step."""
    wire_us = moved / (works.link * worth)
    share = _SHARES.get(works.fabric, _NVLINK_SHARE)
    ramp = 0.0 if works.kind == "send_recv" else at[RAMP]
    passed: Array = wire_us / share + ramp * np.sqrt(wire_us)
    return passed
