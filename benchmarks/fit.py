"""Learns what profiles/fits/ holds from a folder of measurement tables.

    python benchmarks/fit.py TABLES [--results benchmarks/results] [-o profiles/fits]

Tables have the columns that benchmarks/tables/rows.py reads; they stay where they are, and only
parameters, remainders on a coarse lattice and errors go into the fits. Takes about two minutes.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tables.crossing import strangers
from benchmarks.tables.elsewhere import fabrics_missed, links_missed, missed
from benchmarks.tables.hardware import devices
from benchmarks.tables.learning import (
    FEWEST,
    TWINS,
    curve,
    extent_of,
    general,
    general_curve,
    learn_kernel,
    learn_link,
    link_extent,
)
from benchmarks.tables.observations import Message, Timed, observations
from benchmarks.tables.reading import read_folder
from benchmarks.tables.results import read_results
from benchmarks.tables.rows import Row
from benchmarks.tables.runtimes import RUNTIMES, learn_memories, learn_runtimes
from benchmarks.tables.strangers import (
    Missed,
    class_of,
    fabric_bands,
    relatives,
    stranger_bands,
)
from benchmarks.tables.study import Study, sort
from planner.cost import collective
from planner.cost.curves import ALIKE, ANY, KIN, LINKS, MEMORY, Library, of_source
from planner.spec.fits import Curve, FitFile, read_fits, write_fits

T = TypeVar("T")
M = TypeVar("M", Timed, Message)


def device_files(kernels: Sequence[Timed]) -> list[FitFile]:
    """One file a device."""
    files = []
    for name, timed in sorted(_grouped((t.device, t) for t in kernels).items()):
        curves = {}
        for key, group in sorted(_grouped((t.key, t) for t in timed).items()):
            if _knows_one_width(group):
                continue
            for label, part in _by_source(key, group).items():
                curves[label] = curve(learn_kernel(part), _sources(part), extent_of(part))
                _say(f"{name} {label}", curves[label])
        if curves:
            profile = devices()[name]
            files.append(
                FitFile(
                    device=name,
                    architecture=profile.architecture,
                    units=profile.units,
                    curves=curves,
                )
            )
    return files


def general_file(kernels: Sequence[Timed], files: Sequence[FitFile]) -> FitFile:
    """What holds on average over devices, and how far off that is on a new one.

    Args:
        files: what was learnt on each device.
    """
    curves, everything = {}, missed(kernels, files)
    for key, timed in sorted(_grouped((class_of(t.key), t) for t in kernels).items()):
        parts = _grouped((f"{t.device} {t.key}", t) for t in timed)
        large = {name: part for name, part in parts.items() if len(part) >= FEWEST}
        if not large:
            continue
        known = relatives(everything, key, "")
        points = sum(len(part) for part in large.values())
        errors = np.concatenate([m.errors for m in known])
        curves[key] = general_curve(
            general(large), errors, stranger_bands(known), points, _sources(timed)
        )
        _say(f"{ANY} {key}", curves[key])
    for reach in ("", ALIKE, KIN):
        known = [m for m in everything if m.reach == reach]
        families = _grouped((m.key.split("/")[0], m) for m in known)
        curves.update((f"{reach}{name}", _intervals(same)) for name, same in families.items())
        for key in sorted({class_of(m.key) for m in known} if reach else ()):
            curves[f"{reach}{key}"] = _intervals(relatives(known, key, reach))
    for key, found in list(curves.items()):
        family, _, format = key.rpartition("/")
        for twin in (name for name, other in TWINS.items() if other == format):
            curves[f"{family}/{twin}"] = found
    return FitFile(device=ANY, curves=curves)


def _intervals(known: Sequence[Missed]) -> Curve:
    """A curve that holds what predictions of these were off by, and no model."""
    errors = np.concatenate([m.errors for m in known])
    units = len({m.unit for m in known})
    source = f"{units} chips or formats left out"
    return general_curve({}, errors, stranger_bands(known), len(errors), source)


def link_file(messages: Sequence[Message]) -> FitFile:
    """Collectives by implementation and fabric."""
    curves = {}
    for key, group in sorted(_grouped((m.key, m) for m in messages).items()):
        for label, part in _by_source(key, group).items():
            curves[label] = curve(learn_link(part), _sources(part), link_extent(part))
            _say(label, curves[label])
    ways = (
        (collective.ELSEWHERE, links_missed(messages, curves), stranger_bands),
        (collective.STRANGE_FABRIC, fabrics_missed(messages, curves), fabric_bands),
    )
    for name, off, intervals in ways:
        errors = np.concatenate([m.errors for m in off])
        source = "collectives by those closest to them"
        curves[name] = general_curve({}, errors, intervals(off), len(errors), source)
    return FitFile(device=LINKS, curves=curves)


def _knows_one_width(group: Sequence[Timed]) -> bool:
    """Whether no source measured several groups of shapes, so that nothing tells on others."""
    parts = _grouped((item.source, item) for item in group).values()
    return all(len({item.group for item in part}) == 1 for part in parts)


def _by_source(key: str, group: Sequence[M]) -> dict[str, Sequence[M]]:
    """All observations of a key, and apart those of each source, where several measured it: alpha
    and start are software and ways of measuring, not hardware."""
    if len(group) < FEWEST:
        return {}
    parts = _grouped((item.source, item) for item in group)
    large = {of_source(key, name): part for name, part in parts.items() if len(part) >= FEWEST}
    return {key: group, **(large if len(large) > 1 else {})}


def _grouped(pairs: Iterable[tuple[str, T]]) -> dict[str, list[T]]:
    found: dict[str, list[T]] = defaultdict(list)
    for key, value in pairs:
        found[key].append(value)
    return found


def _sources(group: Sequence[Timed] | Sequence[Message]) -> str:
    names = sorted({item.source for item in group})
    return f"fitted on measurements published by {', '.join(names)}"


def _say(name: str, found: Curve) -> None:
    errors = f"median {found.median_error:.1%}, p90 {found.p90_error:.1%}"
    print(f"{name:45} {found.points:6} points, unseen: {errors}", file=sys.stderr, flush=True)


def main() -> None:
    """Reads tables, learns, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("profiles/fits"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument(
        "--device", help="learn one device's kernels (any: those in general), keep the rest"
    )
    parser.add_argument("--only", choices=("kernels", "software"))
    parser.add_argument("--family", help="learn one kernel family, and keep the rest")
    options = parser.parse_args()
    rows = itertools.chain.from_iterable(read_folder(options.tables).values())
    kernels, messages = observations(rows)
    kernels += read_results(options.results)
    if options.family:
        kernels = [k for k in kernels if k.key.split("/")[0] == options.family]
        messages = []
    options.output.mkdir(parents=True, exist_ok=True)
    if options.only in (None, "kernels"):
        wanted = {k.device for k in kernels} | {ANY} | ({LINKS} if messages else set())
        wanted &= {options.device} if options.device else wanted
        for name in sorted(wanted - {ANY, LINKS}):
            _write(options.output, device_files([k for k in kernels if k.device == name]))
        if ANY in wanted:
            files = [read_fits(path) for path in sorted(options.output.glob("*.yaml"))]
            keeps = options.family is not None
            _write(options.output, [general_file(kernels, files)], keeps=keeps)
        if LINKS in wanted:
            _write(options.output, [link_file(messages)], keeps=False)
    if options.only in (None, "software"):
        found = software_files(read_folder(options.tables), options.output)
        _write(options.output, found, keeps=False)


def software_files(tables: Mapping[str, Sequence[Row]], fits: Path) -> list[FitFile]:
    """What software adds, and needs, on top of the kernels that `fits` predict."""
    files = [read_fits(path) for path in sorted(fits.glob("*.yaml")) if path.stem != RUNTIMES]
    study = Study(sort(tables), Library(files), {})
    timings, _ = study.timings()
    curves = learn_runtimes(timings) | strangers(timings)
    memories = learn_memories(study.rows.memories)
    for name, found in {**curves, **memories}.items():
        _say(name, found)
    return [FitFile(device=RUNTIMES, curves=curves), FitFile(device=MEMORY, curves=memories)]


def _write(folder: Path, files: Iterable[FitFile], *, keeps: bool = True) -> None:
    """Curves learnt anew take the place of old ones of their name.

    Args:
        keeps: whether others stay: where a part was learnt only.
    """
    for file in files:
        path = folder / f"{file.device}.yaml"
        old = read_fits(path).curves if keeps and path.exists() else {}
        merged = dict(sorted({**old, **file.curves}.items()))
        write_fits(path, file.model_copy(update={"curves": merged}))


if __name__ == "__main__":
    main()
