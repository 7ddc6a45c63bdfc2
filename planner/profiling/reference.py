"""The reference probe in a measuring process: with all threads of its pool, and with one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnxruntime as ort

from planner.profiling.analyse import quiet_options
from planner.profiling.timing import Sample, probe_feeds, probe_model, runner


@dataclass(frozen=True, slots=True)
class Beside:
    """Both probes, to be run in the rounds of what is timed."""

    pool: Sample
    alone: Sample
    """The same sample where the pool is of one thread."""

    @property
    def samples(self) -> list[Sample]:
        """To be run in every round."""
        return [self.pool] if self.alone is self.pool else [self.pool, self.alone]


class Reference:
    """How fast the machine is: `planner/cost/state.py`."""

    def __init__(self, load: Callable[[bytes | str], ort.InferenceSession], threads: int) -> None:
        """
        Args:
            load: makes a session of the process' thread pool.
            threads: of that pool.
        """
        self._pool = runner(load(probe_model()), probe_feeds())
        self._alone = self._pool if threads == 1 else runner(_alone(), probe_feeds())

    def beside(self, *, warm_up: int = 0) -> Beside:
        """New samples of both.

        Args:
            warm_up: runs before each timed one that are not kept.
        """
        pool = Sample("probe", self._pool, warm_up=warm_up)
        if self._alone is self._pool:
            return Beside(pool, pool)
        return Beside(pool, Sample("probe alone", self._alone, warm_up=warm_up))


def _alone() -> ort.InferenceSession:
    """The calling thread does all, whatever pool the process has."""
    options = quiet_options("disabled")
    options.use_per_session_threads = True
    options.intra_op_num_threads = 1
    return ort.InferenceSession(probe_model(), options, providers=["CPUExecutionProvider"])
