"""The reference probes in a measuring process: with all threads of its pool, and with one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnxruntime as ort

from planner.profiling.timing import (
    Sample,
    probe_feeds,
    probe_model,
    runner,
    serial_probe_feeds,
    serial_probe_model,
)


@dataclass(frozen=True, slots=True)
class Beside:
    """Both probes, to be run in the rounds of what is timed."""

    pool: Sample
    alone: Sample

    @property
    def samples(self) -> tuple[Sample, Sample]:
        """To be run in every round."""
        return self.pool, self.alone


class Reference:
    """How fast the machine is: `planner/cost/state.py`."""

    def __init__(self, load: Callable[[bytes | str], ort.InferenceSession]) -> None:
        """
        Args:
            load: makes a session of the process' thread pool.
        """
        self._pool = runner(load(probe_model()), probe_feeds())
        self._alone = runner(load(serial_probe_model()), serial_probe_feeds())

    def beside(self, *, warm_up: int = 0) -> Beside:
        """New samples of both.

        Args:
            warm_up: runs before each timed one that are not kept.
        """
        return Beside(
            Sample("probe", self._pool, warm_up=warm_up),
            Sample("serial probe", self._alone, warm_up=warm_up),
        )
