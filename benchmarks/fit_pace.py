"""Refits what launches take (`planner.kernels.pace`) from kernels measured on a GPU, without one.

    python benchmarks/fit_pace.py                # prints constants and how well they predict
    python benchmarks/fit_pace.py --from FILE    # takes launches out of records of small_matrix.py

Least squares on the logarithm of the time of each distinct kernel. Families of models (the name up
to the first dash) are left out in turn: what is printed as `left out` was predicted unseen.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from scipy.optimize import least_squares

from benchmarks.small.suite import SUITE
from planner.fuse.saved import part_of
from planner.graph.semantics import program_of
from planner.kernels.estimate import H200, blocks_us
from planner.kernels.pace import Block, Pace, block_of
from planner.kernels.pack import numbers_for
from planner.kernels.source import Numbers

LAUNCHES = Path(__file__).parent / "results" / "h200_launches.json"
FITTED = (
    *("ramp_us", "row_us", "shown", "wider_us", "tile_us", "chain_us", "narrow_us_per_flop"),
    *("worked_us", "looped", "element_us"),
    *("gathered_us", "phase_us", "row_phase_us", "round_us", "block_us", "sector_us"),
)
"""The others were measured by themselves."""
_SOFT = 0.15
"""Relative error from which on a kernel counts for less."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A kernel, and what it took."""

    family: str
    label: str
    blocks: tuple[Block, ...]
    numbers: Numbers
    measured_us: float

    def error(self, pace: Pace) -> float:
        """Logarithm of predicted over measured."""
        predicted = blocks_us(self.blocks, self.numbers, replace(H200, pace=pace))
        return float(np.log(predicted / self.measured_us))


def main() -> None:
    """Fits, and says how well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="source", type=Path, help="records to take launches from")
    arguments = parser.parse_args()
    if arguments.source is not None:
        LAUNCHES.write_text(_as_lines(_launches(json.loads(arguments.source.read_text()))))
    samples = samples_of(json.loads(LAUNCHES.read_text()))
    pace = fitted(samples)
    print({name: float(f"{getattr(pace, name):.3g}") for name in FITTED})
    _say("all", [abs(np.expm1(sample.error(pace))) for sample in samples])
    _say("as shipped", [abs(np.expm1(sample.error(H200.pace))) for sample in samples])
    unseen: list[float] = []
    for family in sorted({sample.family for sample in samples}):
        others = [sample for sample in samples if sample.family != family]
        own = [sample for sample in samples if sample.family == family]
        without = fitted(others)
        found = [abs(np.expm1(sample.error(without))) for sample in own]
        _say(f"left out: {family}", found)
        unseen += found
    _say("left out", unseen)


def fitted(samples: Sequence[Sample]) -> Pace:
    """The constants that suit the samples best."""
    start = np.log([getattr(H200.pace, name) for name in FITTED])

    def residuals(point: Any) -> list[float]:
        return [sample.error(_pace(point)) for sample in samples]

    found = least_squares(residuals, start, loss="soft_l1", f_scale=_SOFT, max_nfev=40)
    return _pace(found.x)


def _pace(point: Any) -> Pace:
    values = np.exp(point)
    return replace(Pace(), **dict(zip(FITTED, map(float, values), strict=True)))


def _say(name: str, errors: Sequence[float]) -> None:
    middle, tail = statistics.median(errors), float(np.quantile(errors, 0.9))
    print(f"{name}: {len(errors)} kernels, median {middle:.3f}, p90 {tail:.3f}, {max(errors):.2f}")


def _launches(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every distinct kernel with its stages and the median of its times."""
    found: dict[tuple[str, int, str], dict[str, Any]] = {}
    for record in records:
        launches = {one["kernel"]: one for one in record.get("plan", {}).get("launches", ())}
        for row in record.get("stages_table", ()):
            if row["kernel"] not in launches:  # a loop over steps, or a launch that zeroes for it
                continue
            key = record["model"], record["batch"], row["kernel"]
            stages = launches[row["kernel"]]["stages"]
            known = {"model": key[0], "batch": key[1], "us": [], "stages": stages}
            found.setdefault(key, known)["us"].append(min(row["us"], row["plain_us"]))
    return [{**one, "us": statistics.median(one["us"])} for one in found.values()]


def _as_lines(launches: Sequence[dict[str, Any]]) -> str:
    """One launch a line."""
    return "[\n" + ",\n".join(json.dumps(one) for one in launches) + "\n]\n"


def samples_of(launches: Sequence[dict[str, Any]]) -> list[Sample]:
    """Kernels of a file of launches, counted anew."""
    programs = {
        key: program_of(SUITE[key[0]]("float16", batch=key[1]), as_written=True)
        for key in dict.fromkeys((one["model"], one["batch"]) for one in launches)
    }
    samples = []
    for one in launches:
        program = programs[one["model"], one["batch"]]
        parts = [part_of(program, stage) for stage in one["stages"]]
        samples.append(
            Sample(
                one["model"].split("-")[0],
                f"{one['model']} {parts[0].stage.root}",
                tuple(block_of(program, part) for part in parts),
                numbers_for(program, "float16"),
                one["us"],
            )
        )
    return samples


if __name__ == "__main__":
    main()
