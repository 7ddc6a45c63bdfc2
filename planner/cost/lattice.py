"""A smooth function of a few logarithmic coordinates, known on a lattice.

What a physical model leaves over is not noise: libraries have heuristics, and heuristics have
regions. The remainder, log(measured / modelled), is kept at lattice points spaced by factors of two
and interpolated linearly between them. Values are fitted by least squares with a penalty on second
differences, so that points without data follow their neighbours and fade to zero far from data.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Array = npt.NDArray[np.float64]

_BENDING = 0.12
"""Weight of a second difference against one data point."""
_FADING = 0.05
"""Weight of a value itself: without data the physical model stands."""

_USUAL = 0.08
"""Deviation beyond which a point counts less than quadratically (Huber's weights): disturbed
measurements must not bend the surface."""
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Lattice:
    """Values at every combination of knots."""

    knots: tuple[tuple[float, ...], ...]
    """Per coordinate, ascending, log2."""
    values: Array
    """One dimension per coordinate."""

    def at(self, points: Array) -> Array:
        """Values at points [p, coordinates]; outside, those of the nearest edge."""
        matrix = _weights(self.knots, points)
        found: Array = matrix @ self.values.ravel()
        return found


def fit_lattice(
    knots: tuple[tuple[float, ...], ...],
    points: Array,
    remainder: Array,
    rough: tuple[int, ...] = (),
) -> Lattice:
    """The lattice that explains `remainder` at `points` best.

    Args:
        rough: coordinates along which neighbours say nothing about each other.
    """
    from scipy.sparse import diags, identity, vstack
    from scipy.sparse.linalg import lsmr

    shape = tuple(len(axis) for axis in knots)
    data = _weights(knots, points)
    rest = [*(_BENDING**0.5 * d for d in _bending(shape, rough))]
    rest.append(_FADING**0.5 * identity(int(np.prod(shape)), format="csr"))
    solution, weights = np.zeros(int(np.prod(shape))), np.ones(len(remainder))
    for _ in range(_ROUNDS):
        matrix = vstack([diags(weights) @ data, *rest], format="csr")
        target = np.concatenate([weights * remainder, np.zeros(matrix.shape[0] - len(remainder))])
        solution = np.asarray(lsmr(matrix, target, x0=solution, maxiter=300)[0])
        strange = np.abs(data @ solution - remainder) / _USUAL
        weights = np.minimum(1.0, 1.0 / np.maximum(strange, 1e-9)) ** 0.5
    return Lattice(knots, solution.reshape(shape))


def _weights(knots: tuple[tuple[float, ...], ...], points: Array) -> csr_matrix:
    """Rows of multilinear interpolation weights."""
    from scipy.sparse import csr_matrix

    count, shape = len(points), tuple(len(axis) for axis in knots)
    lower, upper_share = [], []
    for axis, values in zip(knots, points.T, strict=True):
        inside = np.clip(values, axis[0], axis[-1])
        at = np.clip(np.searchsorted(axis, inside, side="right") - 1, 0, max(len(axis) - 2, 0))
        left = np.asarray(axis)[at]
        right = np.asarray(axis)[np.minimum(at + 1, len(axis) - 1)]
        lower.append(at)
        upper_share.append((inside - left) / np.where(right > left, right - left, 1.0))
    corners, shares = [], []
    for corner in itertools.product((0, 1), repeat=len(knots)):
        where = tuple(
            np.minimum(at + up, size - 1) for at, up, size in zip(lower, corner, shape, strict=True)
        )
        corners.append(np.ravel_multi_index(where, shape))
        parts = [s if up else 1 - s for s, up in zip(upper_share, corner, strict=True)]
        shares.append(np.prod(parts, axis=0))
    rows = np.tile(np.arange(count), len(corners))
    entries = (np.concatenate(shares), (rows, np.concatenate(corners)))
    return csr_matrix(entries, shape=(count, int(np.prod(shape))))


def _bending(shape: tuple[int, ...], rough: tuple[int, ...]) -> list[csr_matrix]:
    """Second differences along each coordinate that is not rough."""
    from scipy.sparse import diags, identity, kron

    found = []
    for axis, size in enumerate(shape):
        if size < 3 or axis in rough:
            continue
        second = diags([1.0, -2.0, 1.0], [0, 1, 2], shape=(size - 2, size), format="csr")
        before = identity(int(np.prod(shape[:axis])), format="csr")
        after = identity(int(np.prod(shape[axis + 1 :])), format="csr")
        found.append(kron(kron(before, second), after, format="csr"))
    return found
