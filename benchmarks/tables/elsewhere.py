"""What is known of a device on which nothing was measured: what other chips have taught."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt

from benchmarks.tables.hardware import devices
from benchmarks.tables.learning import FEWEST, averaged, link_columns, measured
from benchmarks.tables.observations import Message, Timed
from benchmarks.tables.strangers import Missed
from planner.cost import collective
from planner.cost.curves import ALIKE, ANY, KIN, LINKS, Library, formats_worth
from planner.cost.family import FAMILIES
from planner.cost.fitted import Fitted
from planner.cost.machine import Machine
from planner.spec.fits import Curve, FitFile

Array = npt.NDArray[np.float64]


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


def without_format(files: Sequence[FitFile], format: str) -> list[FitFile]:
    """The files as if nobody had ever measured a format, nor what is worth the same."""
    gone = formats_worth(format)
    return [
        file.model_copy(
            update={
                "curves": {
                    key: curve
                    for key, curve in file.curves.items()
                    if key.split("@")[0].partition("/")[2] not in gone
                }
            }
        )
        for file in files
    ]


def predicted_us(
    timed: Sequence[Timed], library: Library, like: str | None
) -> tuple[Array, Array, Fitted]:
    """Latencies of one source's kernels of one device and key by a library; low and high multiples
    [n, 2]; the fit that made them.

    Args:
        like: the source, where it is to be known.
    """
    key = timed[0].key
    family_name, _, format = key.partition("/")
    device, family = devices()[timed[0].device], FAMILIES[family_name]
    fit = library.find(device, key, like)
    columns = family.columns([one.work for one in timed], format)
    latencies = fit.latencies_us(family, columns, Machine.of(device))
    return latencies, fit.edges(latencies, family.extent(columns)), fit


def chip_of(device: str) -> str:
    """Equal for cards that tell on each other."""
    profile = devices()[device]
    return f"{profile.architecture} {profile.units}"


def missed(kernels: Sequence[Timed], files: Sequence[FitFile]) -> list[Missed]:
    """Every device's kernels by what other chips have taught: once as a plan knows them; where
    their source measured other chips, with that known too; and where other formats say something
    of theirs, as if these others were all there is."""
    libraries, found = without(files), []
    for timed in groups_of(kernels):
        library, source = libraries(timed[0].device), timed[0].source
        plain, alike = (missed_of(timed, library, like) for like in (None, source))
        found += [one for one in (plain, alike if alike and alike.reach == ALIKE else None) if one]
    return found + missed_formats(kernels, files)


def groups_of(kernels: Sequence[Timed]) -> list[list[Timed]]:
    """By device, key and source, where there are enough."""
    groups: dict[tuple[str, str, str], list[Timed]] = {}
    for one in kernels:
        groups.setdefault((one.device, one.key, one.source), []).append(one)
    return [timed for timed in groups.values() if len(timed) >= FEWEST]


def missed_formats(kernels: Sequence[Timed], files: Sequence[FitFile]) -> list[Missed]:
    """Kernels by what other chips have taught of other formats, where theirs is known as well."""
    libraries: dict[str, Callable[[str], Library]] = {}
    found = []
    for timed in groups_of(kernels):
        format = timed[0].key.partition("/")[2]
        if format not in libraries:
            libraries[format] = without(without_format(files, format))
        one = missed_of(timed, libraries[format](timed[0].device), timed[0].source)
        found += [one] if one is not None and one.reach == KIN else []
    return found


def missed_of(timed: Sequence[Timed], library: Library, like: str | None) -> Missed | None:
    """One device's kernels of one key by a library; None where the device lacks the format."""
    device, key = timed[0].device, timed[0].key
    if Machine.of(devices()[device]).rate(_format(key)) == 0:
        return None
    latencies, edges, fit = predicted_us(timed, library, like)
    errors = np.log(latencies / measured(timed))
    return Missed(chip_of(device), key, errors, latencies, fit.reach, edges.tolist(), fit)


def links_missed(messages: Sequence[Message], curves: Mapping[str, Curve]) -> list[Missed]:
    """Every collective by the closest curve that is not its own, on a network by those of its
    cluster; keys count as chips do."""
    groups: dict[str, list[Message]] = {}
    for one in messages:
        groups.setdefault(one.key, []).append(one)
    found = []
    for key, group in groups.items():
        others = {name: known for name, known in curves.items() if name.split("@")[0] != key}
        if len(group) >= FEWEST and others:
            cluster = group[0].source if is_far(key) else None
            found.append(message_missed(group, others, key, cluster))
    return found


def fabrics_missed(messages: Sequence[Message], curves: Mapping[str, Curve]) -> list[Missed]:
    """Every collective by curves of other fabrics; fabrics count as chips do."""
    groups: dict[str, list[Message]] = {}
    for one in messages:
        groups.setdefault(one.key, []).append(one)
    off = (fabric_missed(as_any(group), curves) for group in groups.values())
    return [one for one in off if one is not None]


def as_any(group: Sequence[Message]) -> Sequence[Message]:
    """Collectives as if nothing were known of their fabric but a device's own rate into it: what
    networks are told by is theirs alone (`planner/cost/network.py`), but how far off other fabrics
    are on them tells of the next fabric as well."""
    if not is_far(group[0].key):
        return group
    key = f"{group[0].key.rpartition('/')[0]}/any"
    return [replace(m, key=key, link=m.domain.link.bandwidth.value / 1e6) for m in group]


def fabric_missed(
    group: Sequence[Message], curves: Mapping[str, Curve], like: str | None = None
) -> Missed | None:
    """Collectives of one key by curves of other fabrics; None where there are none.

    Args:
        like: their source, where it is to be known from other fabrics.
    """
    fabric = fabric_of(group[0].key)
    others = {name: known for name, known in curves.items() if fabric_of(name) != fabric}
    return message_missed(group, others, fabric, like) if others else None


def is_far(key: str) -> bool:
    """Whether a collective's curve is of a network between machines."""
    return fabric_of(key) == "network"


def fabric_of(key: str) -> str:
    """Of `kind/implementation/fabric`, whatever the source; empty where a curve is of none."""
    return key.split("@")[0].rpartition("/")[2] if key.count("/") > 1 else ""


def message_missed(
    group: Sequence[Message], curves: Mapping[str, Curve], label: str, like: str | None = None
) -> Missed:
    """Collectives of one key by some curves."""
    library = Library([FitFile(device=LINKS, curves=dict(curves))])
    columns, key = link_columns(group), group[0].key
    latencies = collective.latencies_us(columns, collective.find(library, key, like))
    return Missed(label, key, np.log(latencies / measured(group)), latencies)


def _format(key: str) -> str:
    """A format that every device has, for traffic."""
    family, _, format = key.partition("/")
    return "fp32" if family == "traffic" else format
