"""What a section has found, and how numbers are summed up."""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

KERNELS = Path(__file__).resolve().parents[1] / "gpu_kernels"
MB = 1_000_000
Json = dict[str, Any]
Run = Callable[[], object]


def summary(samples: Sequence[float], digits: int = 3) -> Json:
    """Median, quartiles, 99th percentile and count of samples in microseconds."""
    ordered = sorted(samples)
    quartiles = statistics.quantiles(ordered, n=4) if len(ordered) > 1 else [ordered[0]] * 3
    return {
        "us": round(statistics.median(ordered), digits),
        "iqr_us": [round(quartiles[0], digits), round(quartiles[2], digits)],
        "p99_us": round(ordered[min(len(ordered) - 1, math.ceil(0.99 * len(ordered)) - 1)], digits),
        "samples": len(ordered),
    }


def check(result: tuple[Any, ...]) -> Any:
    """Return what a driver call returned, or raise with the name of its error."""
    error, *values = result
    if int(error) != 0:
        raise RuntimeError(str(error))
    return values[0] if len(values) == 1 else tuple(values)


class Report:
    """What a section found so far, kept on disk."""

    def __init__(self, path: Path) -> None:
        self.path, self._flushed = path, 0.0
        self.data: Json = {}

    def put(self, key: str, value: object) -> None:
        self.data[key] = value
        self.flush(lazy=True)

    def row(self, table: str, **fields: object) -> None:
        self.data.setdefault(table, []).append(fields)
        self.flush(lazy=True)

    def flush(self, lazy: bool = False) -> None:
        if lazy and time.monotonic() - self._flushed < 1.0:
            return
        self._flushed = time.monotonic()
        scratch = self.path.with_suffix(".tmp")
        scratch.write_text(json.dumps(self.data))
        scratch.replace(self.path)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A failure inside is recorded and does not stop the section."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  one bad shape must not lose the others
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = str(error).strip().splitlines() or [type(error).__name__]
            self.row("errors", part=name, error=text[0][:300], line=where.lineno)
