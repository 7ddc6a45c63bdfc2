"""Rows that time one kernel or collective, grouped by what a curve is learnt from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.tables.collectives import Collective, collective_of, collective_us
from benchmarks.tables.hardware import device_of, node_of
from benchmarks.tables.kernels import kernel_of, kernel_us
from benchmarks.tables.layers import kernels_of
from benchmarks.tables.rows import Row, UnpredictableError
from planner.cost.family import family_of
from planner.cost.network import link_bytes_per_us
from planner.cost.work import Attention, Convolution, Experts, Product, Traffic, Work
from planner.spec.node import Domain, NodeProfile

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Timed:
    """One kernel's measured latency."""

    device: str
    key: str
    """Of the curve: `product/bf16`."""
    work: Work
    measured_us: float
    source: str
    group: tuple[float, ...]
    """Shapes that are left out together."""


@dataclass(frozen=True, slots=True)
class Message:
    """One collective's measured latency."""

    key: str
    collective: Collective
    domain: Domain
    link: float
    """Bytes per microsecond of one device into the fabric."""
    measured_us: float
    source: str


def timed(row: Row) -> Timed | Message | None:
    """What the row observed, or None where it times something larger than a kernel.

    Raises:
        UnpredictableError: a kernel that cannot be described.
    """
    collective = collective_of(row)
    if collective is not None:
        node = node_of(row, device_of(row.gpu))
        domain = domain_of(collective, node)
        key = f"{collective.kind}/{collective.implementation}/{domain.fabric}"
        held = collective.ranks_per_node
        link = link_bytes_per_us(node, domain, key, collective.ranks, held)
        return Message(key, collective, domain, link, collective_us(row, collective), row.source)
    work = kernel_of(row)
    if work is None:
        return None
    device, each_us = device_of(row.gpu).name, kernel_us(row, work) / kernels_of(row)
    return Timed(device, family_of(work), work, each_us, row.source, group_of(work))


def domain_of(collective: Collective, node: NodeProfile | None) -> Domain:
    """The wiring a collective runs over.

    Raises:
        UnpredictableError: the machine is unknown or too small.
    """
    if node is None:
        raise UnpredictableError("no machine with this device is known")
    wanted = collective.ranks
    if collective.ranks > collective.ranks_per_node:
        wanted = max(wanted, node.devices + 1)
    domain = node.domain(wanted)
    if domain is None:
        raise UnpredictableError(f"the machine does not host {collective.ranks} ranks")
    return domain


def group_of(work: Work) -> tuple[float, ...]:
    """Equal for shapes that tell on each other: same weights, same heads, same width."""
    match work:
        case Product():
            return (work.n, work.k)
        case Attention():
            return (work.heads, work.kv_heads, float(work.batch))
        case Traffic():
            return (round(work.size_bytes / max(work.rows, 1)),)
        case Convolution():
            return (work.channels_in, work.channels_out, work.kernel[0])
        case Experts():
            return (work.hidden, work.inner, work.experts)
    return (0.0,)


def observations(rows: Iterable[Row]) -> tuple[list[Timed], list[Message]]:
    """All kernels and all collectives that rows time; what cannot be described is left out."""
    kernels: list[Timed] = []
    messages: list[Message] = []
    for row in rows:
        try:
            found = timed(row)
        except UnpredictableError:
            continue
        if isinstance(found, Timed):
            kernels.append(found)
        elif found is not None:
            messages.append(found)
    return kernels, messages
