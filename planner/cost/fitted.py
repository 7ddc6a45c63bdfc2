"""A curve as numbers: latencies by its model and its remainder, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from planner.cost.family import Family
from planner.cost.lattice import Lattice
from planner.cost.machine import Machine
from planner.cost.pace import started_us
from planner.spec.fits import Curve

Array = npt.NDArray[np.float64]
Bands = tuple[tuple[float, float, float], ...]

_PERCENT = 100.0
_NEAR = 0.5
"""Factors of two outside of what was measured that still count as inside."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A curve as numbers."""

    parameters: Mapping[str, float]
    lattice: Lattice | None
    bands: Bands
    is_own: bool
    """Learnt on this very device in this format."""
    source: str
    reach: str = ""
    """How far the knowledge is carried: `alike/` from the same source's kernels on other devices,
    `kin/` from another format; empty: from other devices."""
    covers: Array | None = None
    """[coordinates, 2]: what was measured, log2; None: that is not known."""
    beyond: Bands = ()
    """Bands outside of it."""
    starts_us: tuple[float, float] | None = None
    """Between which times kernels of the source in question start, where nobody knows it."""
    also: tuple[Fitted, ...] = ()
    """Curves of other devices that are worth as much: predictions are averaged."""
    slowness: float = 1.0
    """Of the device that is priced, as of `Machine`."""

    def latencies_us(self, family: Family, columns: Any, machine: Machine) -> Array:
        """Microseconds of each work. Where nothing was measured, rows never cost less than half as
        many of them."""
        latencies = self._averaged(family, columns, machine)
        if self.is_own or family.smaller is None:
            return latencies
        few, smaller = family.smaller(columns)
        if len(few):
            least_us = self.latencies_us(family, smaller, machine)
            latencies[few] = np.maximum(latencies[few], least_us)
        return latencies

    def _averaged(self, family: Family, columns: Any, machine: Machine) -> Array:
        found = [np.log(one._alone(family, columns, machine)) for one in (self, *self.also)]
        latencies: Array = np.exp(np.mean(found, axis=0))
        return latencies

    def _alone(self, family: Family, columns: Any, machine: Machine) -> Array:
        latencies = family.latency_us(columns, machine, self.parameters)
        if self.lattice is None:
            return latencies
        lifted: Array = latencies * np.exp(self.lattice.at(family.coordinates(columns)))
        return lifted

    @property
    def start_us(self) -> float:
        """What each kernel takes before it does anything."""
        starts = [one.parameters.get("start", 0.0) for one in (self, *self.also)]
        return started_us(sum(starts) / len(starts), self.slowness)

    def started(self, start_us: float) -> Fitted:
        """The same with another start."""
        return replace(
            self,
            parameters={**self.parameters, "start": start_us},
            also=tuple(one.started(start_us) for one in self.also),
        )

    def edges(self, latencies_us: Array, extent: Array) -> Array:
        """[works, 2]: low and high multiples of predictions, wider outside of what was measured.

        Args:
            extent: [works, coordinates] of `covers`.
        """
        return self.with_any_start(self._edges(latencies_us, extent), latencies_us)

    def with_any_start(self, edges: Array, latencies_us: Array) -> Array:
        """Edges as wide as the starts that a source may have."""
        if self.starts_us is None:
            return edges
        return with_starts(edges, latencies_us, self.start_us, self.starts_us)

    def _edges(self, latencies_us: Array, extent: Array) -> Array:
        inside = np.array([self.band(x) for x in latencies_us.tolist()]).reshape(-1, 2)
        if self.covers is None or not self.beyond:
            return inside
        outside = np.array([_band(self.beyond, x) for x in latencies_us.tolist()]).reshape(-1, 2)
        low, high = self.covers.T
        away = np.maximum(np.maximum(low - extent, extent - high), 0.0).max(axis=1, initial=0.0)
        is_away = (away > _NEAR)[:, None]
        wider = np.column_stack(
            [np.minimum(inside, outside)[:, 0], np.maximum(inside, outside)[:, 1]]
        )
        return np.where(is_away, wider, inside)

    def band(self, latency_us: float) -> tuple[float, float]:
        """Low and high multiples of a prediction within what was measured."""
        return _band(self.bands, latency_us)


def with_starts(
    edges: Array, latencies_us: Array, start_us: float, starts_us: tuple[float, float]
) -> Array:
    """Low and high multiples [n, 2] that hold as well if kernels start in these times instead."""
    rest = np.maximum(latencies_us - start_us, 0.0)
    low, high = ((rest + start) / latencies_us for start in starts_us)
    return np.column_stack([np.minimum(edges[:, 0], low), np.maximum(edges[:, 1], high)])


def _band(bands: Bands, latency_us: float) -> tuple[float, float]:
    for limit, low, high in bands:
        if latency_us < limit:
            return low, high
    return bands[-1][1:]


def fitted(curve: Curve, *, has_lattice: bool = True) -> Fitted:
    """The curve's numbers; the lattice holds on the chip it was learnt on only."""
    lattice = None
    if curve.knots and has_lattice:
        shape = tuple(len(axis) for axis in curve.knots)
        numbers = np.array(curve.values)
        lattice = Lattice(curve.knots, numbers.reshape(shape) / _PERCENT)
    return Fitted(
        parameters=curve.parameters,
        lattice=lattice,
        bands=open_ended(curve.bands),
        is_own=True,
        source=curve.source,
        covers=np.array(curve.covers) if curve.covers else None,
        beyond=open_ended(curve.beyond),
    )


def open_ended(bands: tuple[tuple[float, ...], ...]) -> Bands:
    """The last band holds for everything longer."""
    found = [(limit, low, high) for limit, low, high in bands]
    return (*found[:-1], *((float("inf"), *last[1:]) for last in found[-1:]))


def in_percent(lattice: Lattice) -> tuple[tuple[float, ...], ...]:
    """The lattice's values as they stand in a file."""
    rows = np.rint(lattice.values * _PERCENT).reshape(len(lattice.knots[0]), -1) + 0.0
    return tuple(tuple(row) for row in rows.tolist())
