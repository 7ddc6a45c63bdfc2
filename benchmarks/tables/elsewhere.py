"""What is known of a device on which nothing was measured: what other chips have taught."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt

from benchmarks.tables.hardware import devices
from benchmarks.tables.learning import FEWEST, averaged, link_columns, measured
from benchmarks.tables.observations import Message, Timed
from planner.cost import collective
from planner.cost.curves import ALIKE, ANY, KIN, LINKS, Library
from planner.cost.family import FAMILIES
from planner.cost.fitting import bands
from planner.cost.machine import Machine
from planner.spec.fits import Curve, FitFile

Array = npt.NDArray[np.float64]

_FEW, _FEW_FORMATS = 0.5, 2.0
"""Intervals learnt from one chip are so much wider, in logarithm, half as much from two, and on;
and so much where a format was predicted from another: fewer formats were left out than chips."""
_PER_CHIP = 400
"""Rows of each chip that intervals are learnt from."""


def without(files: Sequence[FitFile]) -> Callable[[str], Library]:
    """Device -> what was learnt on other chips, and the average of that for devices in general."""
    general = next((file for file in files if file.device == ANY), None)
    links = [file for file in files if file.device == LINKS]

    @cache
    def library(name: str) -> Library:
        device = devices()[name]
        chip = (device.architecture, device.units)
        others = [f for f in files if f.device in devices() and (f.architecture, f.units) != chip]
        return Library([*others, *links, averaged(others, general)])

    return library


def predicted_us(
    timed: Sequence[Timed], library: Library, like: str | None
) -> tuple[Array, Array, str]:
    """Latencies of one source's kernels of one device and key by a library; low and high multiples
    [n, 2]; how far knowledge was carried (`Fitted.reach`).

    Args:
        like: the source, where it is to be known.
    """
    key = timed[0].key
    family_name, _, format = key.partition("/")
    device, family = devices()[timed[0].device], FAMILIES[family_name]
    fit = library.find(device, key, like)
    columns = family.columns([one.work for one in timed], format)
    latencies = fit.latencies_us(family, columns, Machine.of(device))
    return latencies, fit.edges(latencies, family.extent(columns)), fit.reach


@dataclass(frozen=True, slots=True)
class Missed:
    """What predictions of one chip's rows were off by, made without anything measured on it."""

    chip: str
    key: str
    errors: Array
    """log(predicted / measured)"""
    predicted_us: Array
    reach: str = ""
    """As of the curve that was used."""
    edges: list[list[float]] = field(default_factory=list)
    """Low and high multiples that the library itself gives them."""


def chip_of(device: str) -> str:
    """Equal for cards that tell on each other."""
    profile = devices()[device]
    return f"{profile.architecture} {profile.units}"


def missed(kernels: Sequence[Timed], files: Sequence[FitFile]) -> list[Missed]:
    """Every device's kernels by what other chips have taught: once as a plan knows them, and, where
    their source measured other chips, with that known too."""
    libraries = without(files)
    groups: dict[tuple[str, str, str], list[Timed]] = {}
    for one in kernels:
        groups.setdefault((one.device, one.key, one.source), []).append(one)
    large = [timed for timed in groups.values() if len(timed) >= FEWEST]
    found = []
    for timed in large:
        library = libraries(timed[0].device)
        plain, alike = (missed_of(timed, library, like) for like in (None, timed[0].source))
        found += [one for one in (plain, alike if alike and alike.reach == ALIKE else None) if one]
    return found


def missed_of(timed: Sequence[Timed], library: Library, like: str | None) -> Missed | None:
    """One device's kernels of one key by a library; None where the device lacks the format."""
    device, key = timed[0].device, timed[0].key
    if Machine.of(devices()[device]).rate(_format(key)) == 0:
        return None
    latencies, edges, reach = predicted_us(timed, library, like)
    errors = np.log(latencies / measured(timed))
    return Missed(chip_of(device), key, errors, latencies, reach, edges.tolist())


def links_missed(messages: Sequence[Message], curves: Mapping[str, Curve]) -> list[Missed]:
    """Every collective by the closest curve that is not its own; keys count as chips do."""
    groups: dict[str, list[Message]] = {}
    for one in messages:
        groups.setdefault(one.key, []).append(one)
    found = []
    for key, group in groups.items():
        others = {name: known for name, known in curves.items() if name.split("@")[0] != key}
        if len(group) >= FEWEST and others:
            found.append(message_missed(group, others, key))
    return found


def message_missed(group: Sequence[Message], curves: Mapping[str, Curve], label: str) -> Missed:
    """Collectives of one key by some curves."""
    library = Library([FitFile(device=LINKS, curves=dict(curves))])
    columns, key = link_columns(group), group[0].key
    latencies = collective.latencies_us(columns, collective.find(library, key))
    return Missed(label, key, np.log(latencies / measured(group)), latencies)


def stranger_bands(known: Sequence[Missed]) -> list[list[float]]:
    """Intervals on a chip nobody has measured.

    Every chip counts the same; the fewer there were, the less is known of the next; and where one
    was slower than predicted the next may be faster, so that errors count both ways."""
    chips: dict[str, list[Missed]] = {}
    for one in known:
        chips.setdefault(one.chip, []).append(one)
    rng = np.random.default_rng(0)
    errors, predicted = [], []
    for mine in chips.values():
        off = np.concatenate([one.errors for one in mine])
        us = np.concatenate([one.predicted_us for one in mine])
        chosen = rng.choice(len(off), _PER_CHIP)
        errors += [off[chosen], -off[chosen]]
        predicted += [us[chosen], us[chosen]]
    few = _FEW_FORMATS if any(one.reach == KIN for one in known) else _FEW
    wider = 1 + few / len(chips)
    found = bands(np.concatenate(errors), np.concatenate(predicted))
    return [[limit, low**wider, high**wider] for limit, low, high in found]


def _format(key: str) -> str:
    """A format that every device has, for traffic."""
    family, _, format = key.partition("/")
    return "fp32" if family == "traffic" else format
