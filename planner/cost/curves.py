"""What was learnt, ready to price with, and whose knowledge stands in where a device has none.

A curve of the device itself is interpolation between its measurements. Without one, the curve of
the closest format on the device serves, then the average over devices: parameters are relative to
each device's rates, so they carry over, with the interval that leaving devices out has shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from planner import resources
from planner.cost.family import FAMILIES
from planner.cost.lattice import Lattice
from planner.spec.fits import Curve, FitFile, read_fits
from planner.spec.profile import DeviceProfile, read_profile

Array = npt.NDArray[np.float64]

ANY, LINKS, MEMORY = "any", "links", "memory"
"""Fit files that are of no single device."""
_SHARED = (ANY, LINKS, MEMORY)
_PERCENT = 100.0
_KIN: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "fp16": (("fp16", "bf16"), ("tf32",)),
    "bf16": (("bf16", "fp16"), ("tf32",)),
    "tf32": (("tf32",), ("bf16", "fp16")),
    "int8": (("int8",), ("fp8",), ("bf16", "fp16")),
    "fp8": (("fp8",), ("int8",), ("bf16", "fp16")),
    "int8_wo": (("int8_wo",), ("int4_wo",), ("bf16", "fp16")),
    "int4_wo": (("int4_wo",), ("int8_wo",), ("bf16", "fp16")),
    "2:4": (("2:4",), ("bf16", "fp16")),
    "2:4_int8": (("2:4_int8",), ("2:4",), ("int8",)),
}
"""Format -> formats whose parameters serve, best first; those of one group are worth the same."""
_FAMILY_KIN: Mapping[str, str] = {"batched": "product", "convolution": "product"}
"""Family -> the family with the same model."""
Bands = tuple[tuple[float, float, float], ...]
_NEAR = 0.5
"""Factors of two outside of what was measured that still count as inside."""
_GUESS_BANDS: Bands = ((float("inf"), 0.5, 2.0),)
"""Of a family nobody measured: a factor of two either way."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A curve as numbers."""

    parameters: Mapping[str, float]
    lattice: Lattice | None
    bands: Bands
    is_own: bool
    """Learnt on this very device in this format."""
    source: str
    covers: Array | None = None
    """[coordinates, 2]: what was measured, log2; None: that is not known."""
    beyond: Bands = ()
    """Bands outside of it."""

    def edges(self, latencies_us: Array, extent: Array) -> Array:
        """[works, 2]: low and high multiples of predictions, wider outside of what was measured.

        Args:
            extent: [works, coordinates] of `covers`.
        """
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
        bands=_open_ended(curve.bands),
        is_own=True,
        source=curve.source,
        covers=np.array(curve.covers) if curve.covers else None,
        beyond=_open_ended(curve.beyond),
    )


def _open_ended(bands: tuple[tuple[float, ...], ...]) -> Bands:
    """The last band holds for everything longer."""
    found = [(limit, low, high) for limit, low, high in bands]
    return (*found[:-1], *((float("inf"), *last[1:]) for last in found[-1:]))


def in_percent(lattice: Lattice) -> tuple[tuple[float, ...], ...]:
    """The lattice's values as they stand in a file."""
    rows = np.rint(lattice.values * _PERCENT).reshape(len(lattice.knots[0]), -1) + 0.0
    return tuple(tuple(row) for row in rows.tolist())


class Library:
    """All curves by device."""

    def __init__(self, files: Sequence[FitFile]) -> None:
        self._files = {file.device: file for file in files}

    def find(self, device: DeviceProfile, key: str) -> Fitted:
        """The best curve for a key (`family/format`) on a device.

        First the closest formats, and for these: the device itself, the same chip under another
        name, the same architecture, devices in general.
        """
        family, _, format = key.partition("/")
        families = [family, _FAMILY_KIN[family]] if family in _FAMILY_KIN else [family]
        default: tuple[tuple[str, ...], ...] = ((format,),)
        if family == "traffic":
            default = ((format,), ("elementwise",))
        for formats in _KIN.get(format, default):
            names = [f"{name}/{form}" for name in families for form in formats]
            for files, has_lattice in self._tiers(device):
                for name, file in ((n, f) for n in names for f in files if n in f.curves):
                    found = fitted(file.curves[name], has_lattice=has_lattice)
                    if file.device == device.name and name == key:
                        return found
                    return replace(found, is_own=False, bands=self._elsewhere(key), covers=None)
        typical = {name: value for name, (value, _) in FAMILIES[family].prior.items()}
        return Fitted(typical, None, _GUESS_BANDS, False, "typical values of the model")

    def _elsewhere(self, key: str) -> Bands:
        """Intervals of knowledge used elsewhere than where it was won: what leaving devices out has
        shown for this family and format, or else for the family."""
        curves = self._files[ANY].curves if ANY in self._files else {}
        family = key.partition("/")[0]
        names = (key, family, _FAMILY_KIN.get(family, family))
        known = next((curves[name] for name in names if name in curves), None)
        return _open_ended(known.bands) if known else _GUESS_BANDS

    def _tiers(self, device: DeviceProfile) -> Iterator[tuple[list[FitFile], bool]]:
        """Files to look into, closest first, and whether their lattices hold for the device."""
        others = [f for name, f in self._files.items() if name not in (*_SHARED, device.name)]
        kin = [f for f in others if f.architecture and f.architecture == device.architecture]
        yield [f for name, f in self._files.items() if name == device.name], True
        yield [f for f in kin if f.units == device.units], True
        yield [f for f in kin if f.units != device.units], False
        yield [f for name, f in self._files.items() if name == ANY], False

    def link(self, key: str) -> Curve | None:
        """The curve of a collective: `all_reduce/nccl/nvswitch`."""
        links = self._files.get(LINKS)
        return links.curves.get(key) if links else None

    def memory(self, software: str) -> Curve | None:
        """The curve of what a software occupies."""
        memories = self._files.get(MEMORY)
        return memories.curves.get(software) if memories else None


@cache
def shipped(device: str, architecture: str | None) -> Library:
    """What ships with infopt and can say something about a device."""
    profiles = {path.stem: path for path in resources.profiles()}
    chosen = []
    for path in resources.fits():
        name = path.stem
        is_kin = name in profiles and read_profile(profiles[name]).architecture == architecture
        if name in (device, *_SHARED) or (is_kin and architecture is not None):
            chosen.append(read_fits(path))
    return Library(chosen)


def read(folder: Path) -> Library:
    """Every fit file of a folder."""
    return Library([read_fits(path) for path in sorted(folder.glob("*.yaml"))])
