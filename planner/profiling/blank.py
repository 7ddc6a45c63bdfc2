"""What a micro-model's run costs besides its kernels: the call, and the reader of each copy.

Both are subtracted from every kernel's time, so they must be of the same moment: a reader takes
0.4 microseconds on an undisturbed core and 0.7 beside a neighbour, and many kernels take no more.
Timed once before a batch, as it was, a busy moment there made every short kernel of the batch look
free (a `Sqrt` of 0.5 us came out at 0.01), and a network of a hundred of them a third too fast.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime as ort

from planner.profiling.micro import shapes_model
from planner.profiling.timing import Sample, runner

_FEW, _MANY = 1, 33
"""Readers in the two sessions whose difference tells one reader from the call."""


class Blank:
    """Micro-models without kernels, which are timed in the rounds of those with."""

    def __init__(self, load: Callable[[bytes | str], ort.InferenceSession]) -> None:
        feeds = {"x": np.zeros(1, np.float32)}
        self._few, self._many = (
            Sample(f"{count} readers", runner(load(shapes_model(count)), feeds), warm_up=1)
            for count in (_FEW, _MANY)
        )

    @property
    def samples(self) -> tuple[Sample, Sample]:
        """To be run in every round."""
        return self._few, self._many

    def overheads_us(self, of: Callable[[Sample], float]) -> tuple[float, float]:
        """(one call, one `Shape` reader).

        Args:
            of: what counts of the times of a sample.
        """
        few_us, many_us = (of(sample) for sample in self.samples)
        reader_us = max((many_us - few_us) / (_MANY - _FEW), 0.0)
        return few_us - _FEW * reader_us, reader_us
