"""Inputs that a model is calibrated and evaluated on, cut into its runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from planner.compress.base import Array
from planner.runtime import dtypes


@dataclass(frozen=True, slots=True)
class Samples:
    """Inputs of consecutive runs of one model."""

    arrays: Mapping[str, Array]
    """By input name, [runs, *static shape]; a value shared by all runs is [1, *static shape]."""
    runs: int
    valid: int
    """Samples that are real: the rest of the last run is padding."""
    per_run: int
    """Samples in one run: the batch, or 1 where runs are whole samples."""
    is_synthetic: bool = False

    def feeds(self, run: int) -> dict[str, Array]:
        """The model's inputs of one run (views)."""
        return {
            name: np.asarray(value[run if len(value) > 1 else 0])
            for name, value in self.arrays.items()
        }

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return (self.feeds(run) for run in range(self.runs))

    def first(self, runs: int) -> Samples:
        """At most this many runs, spread evenly over all of them."""
        if runs >= self.runs:
            return self
        chosen = np.linspace(0, self.runs - 1, runs).round().astype(int)
        padding = self.runs * self.per_run - self.valid
        kept = runs * self.per_run - (padding if chosen[-1] == self.runs - 1 else 0)
        arrays = {k: v[chosen] if len(v) > 1 else v for k, v in self.arrays.items()}
        return Samples(arrays, runs, kept, self.per_run, self.is_synthetic)

    def whole_runs(self) -> Samples:
        """Without a padded last run, where there is another: padding would count twice."""
        if self.runs * self.per_run == self.valid or self.runs == 1:
            return self
        runs = self.runs - 1
        arrays = {k: v[:runs] if len(v) > 1 else v for k, v in self.arrays.items()}
        return Samples(arrays, runs, runs * self.per_run, self.per_run, self.is_synthetic)

    @property
    def digest(self) -> str:
        """SHA-256 over names, types, shapes and values."""
        total = hashlib.sha256()
        for name in sorted(self.arrays):
            value = np.ascontiguousarray(self.arrays[name])
            total.update(f"{name}\0{value.dtype.str}\0{value.shape}\0".encode())
            if value.dtype == object:
                total.update(repr(value.tolist()).encode())
            else:
                total.update(dtypes.as_bits(value).data)
        return total.hexdigest()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Labelled samples."""

    samples: Samples
    labels: Array
    """First axis counts the valid samples."""
