"""Refits what launches of compiled kernels take (`planner.kernels.ptx.traced`), without a GPU.

    python benchmarks/fit_traced.py             # prints constants and how well they predict
    python benchmarks/fit_traced.py --worst 20  # and the kernels that are predicted worst

Least squares on the logarithm of the time of each kernel as drafted. Families of models (the name
up to the first dash) are left out in turn: `left out` was predicted unseen, and so were other tiles
of the same stages and an H100. `by shape` is `planner.kernels.pace` on the same kernels.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from scipy.optimize import least_squares

from planner.kernels.estimate import H200
from planner.kernels.ptx.trace import Trace
from planner.kernels.ptx.traced import Tempo, from_row, traced_us

KERNELS = Path(__file__).parent / "results" / "h200_traced.json"
_SOFT = 0.15
"""Relative error from which on a kernel counts for less."""
_NAMES = tuple(field.name for field in fields(Tempo))


@dataclass(frozen=True, slots=True)
class Sample:
    """A kernel, what it was followed for, and what it took."""

    row: dict[str, Any]
    trace: Trace

    @property
    def family(self) -> str:
        """Of its model."""
        return str(self.row["model"]).split("-")[0]

    def error(self, tempo: Tempo, device: str = "us") -> float:
        """Logarithm of predicted over measured."""
        row = self.row
        predicted = traced_us(self.trace, row["parts"], row["moved"], H200, tempo)
        return float(np.log(predicted / row[device]))


def main() -> None:
    """Fits, and says how well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worst", type=int, default=0, help="kernels to print")
    arguments = parser.parse_args()
    rows = json.loads(KERNELS.read_text())
    samples = [Sample(row, from_row(row["trace"])) for row in rows]
    drafts = [one for one in samples if one.row["drafted"]]
    others = [one for one in samples if not one.row["drafted"]]
    tempo = fitted(drafts)
    print({name: float(f"{getattr(tempo, name):.3g}") for name in _NAMES})
    _say("by shape", drafts, lambda one: np.log(one.row["by_shape"] / one.row["us"]))
    _say("fitted", drafts, lambda one: one.error(tempo))
    _say("as shipped", drafts, lambda one: one.error(Tempo()))
    without = {
        family: fitted([one for one in drafts if one.family != family])
        for family in sorted({one.family for one in drafts})
    }
    _say("left out", drafts, lambda one: one.error(without[one.family]))
    _say("left out, H100", drafts, lambda one: one.error(without[one.family], "h100_us"))
    _say("other tiles, by shape", others, lambda one: np.log(one.row["by_shape"] / one.row["us"]))
    _say("other tiles, left out", others, lambda one: one.error(without[one.family]))
    ordered = sorted(drafts, key=lambda one: -abs(np.expm1(one.error(tempo))))
    for one in ordered[: arguments.worst]:
        print(f"{np.exp(one.error(tempo)):.2f}", {**one.row, "trace": one.trace})


def fitted(samples: Sequence[Sample]) -> Tempo:
    """The constants that suit the samples best."""
    start = np.log([getattr(Tempo(), name) for name in _NAMES])

    def residuals(point: Any) -> list[float]:
        return [one.error(_tempo(point)) for one in samples]

    return _tempo(least_squares(residuals, start, loss="soft_l1", f_scale=_SOFT, max_nfev=40).x)


def _tempo(point: Any) -> Tempo:
    return replace(Tempo(), **dict(zip(_NAMES, map(float, np.exp(point)), strict=True)))


def _say(name: str, samples: Sequence[Sample], error: Callable[[Sample], float]) -> None:
    for batch in sorted({one.row["batch"] for one in samples}):
        errors = [abs(np.expm1(error(one))) for one in samples if one.row["batch"] == batch]
        median, tail = np.quantile(errors, (0.5, 0.9))
        print(
            f"{name}, batch {batch}: {len(errors)} kernels, median {median:.3f}, p90 {tail:.3f}, "
            f"{max(errors):.2f}"
        )


if __name__ == "__main__":
    main()
