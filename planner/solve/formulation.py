"""The formulation of C1, C4, C5, C8, C9, C10 for one device.

Sets        o ∈ O  operators in topological order     g ∈ G  options: convex groups with a variant
            t ∈ T  tensor states                      v ∈ V  conversions source(v) -> target(v)
            s ∈ S  plan-wide settings                 w ∈ W  workload shapes
Data        L[g,s,w], L[v,s,w], H[s,w]  latencies and call overhead (µs): low, expected, high
            β[g], μ[g]  weights, workspace (bytes)  A, M[s]  activations, the setting's own (bytes)
            ε[g]  error (NMSE)    q[w]  weight of a shape   φ[s,w] >= 1  percentile over median
Variables   x[g] ∈ {0,1}  option g is chosen           c[v] ∈ {0,1}  conversion v is paid for
            m[j] ∈ {0,1}  some chosen workspace reaches level j (cumulative: m[j+1] <= m[j])
            s             exactly one setting
Formulation minimise lexicographically, e.g. (Σ_w q·(H + Σ_g L·x + Σ_v L·c), Σ_g ε·x)
            C1   Σ_{g∋o} x[g] = 1                                      every operator, exactly once
            C4   A + M + Σ β·x + max_g μ·x <= memory                   groups run one after another
            C5   x[g] <= available(t) for t ∈ needs(g)     c[v] <= available(source(v))
                 available(t) >= 1 for t wanted
                 with available(t) = [t given] + Σ_{g makes t} x[g] + Σ_{v makes t} c[v]
            C8   φ[w]·(H + Σ L·x + Σ L·c) <= SLO for every w, at the interval's upper end
            C9   Σ_w q·(expected latency) <= 1 / rate
            C10  Σ ε·x <= budget
            tied Σ_{g∋o, format f} x[g] = Σ_{g∋p, format f} x[g]       o, p tied, every f
            cut  Σ_{g∈F} x[g] <= |F| - 1                               F forbidden together

Why are settings enumerated? They couple to everything (each option has another latency under each),
there are few, and a setting whose relaxation is worse than the best plan is skipped as a whole. The
products x[g]·[s] of the joint model would weaken every bound. So a `Formulation` is one setting's.

Why cuts for order? C1 and C5 admit answers that cannot be run: groups that wait for each other
(two convex sets can interleave) and conversions that feed each other. Both are unfounded sets.
Such answers are rare, so they are cut off when they appear (`support.py`), with a clause that is
valid for all plans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from planner.ir.problem import Objective
from planner.solve.data import EXPECTED, HIGH, BoolArray, Data, FloatArray


@dataclass(frozen=True, slots=True)
class Row:
    """One linear constraint over column numbers: Σ coefficient·column = or <= rhs."""

    name: str
    columns: tuple[int, ...]
    coefficients: tuple[float, ...]
    rhs: float
    is_equality: bool = False


@dataclass(frozen=True, slots=True)
class Linear:
    """constant + Σ coefficients·columns, over all columns."""

    constant: float
    coefficients: FloatArray

    def scaled(self, factor: float) -> Linear:
        """The same function `factor` times."""
        return Linear(factor * self.constant, factor * self.coefficients)

    def value(self, chosen: BoolArray) -> float:
        """Its value at a 0/1 vector of all columns."""
        return float(self.constant + self.coefficients[chosen].sum())


@dataclass(frozen=True, slots=True)
class Formulation:
    """The data under one setting, with C8 taken at one end of the interval."""

    data: Data
    setting: int
    end: int = HIGH

    @property
    def name(self) -> str:
        """The setting's name."""
        return self.data.problem.settings[self.setting].name

    def exists(self) -> BoolArray:
        """Columns that exist under this setting: NaN latencies do not."""
        existing = np.ones(self.data.columns, dtype=np.bool_)
        existing[: self.data.options] = ~np.isnan(self.data.option_us[:, self.setting]).any((1, 2))
        conversions = slice(self.data.options, self.data.options + len(self.data.conversion_us))
        existing[conversions] = ~np.isnan(self.data.conversion_us[:, self.setting]).any((1, 2))
        return existing

    def latency(self, shape: int, end: int = EXPECTED) -> Linear:
        """H[s,w] + Σ L·x + Σ L·c in microseconds."""
        coefficients = np.zeros(self.data.columns)
        options = self.data.options
        conversions = len(self.data.conversion_us)
        coefficients[:options] = self.data.option_us[:, self.setting, shape, end]
        coefficients[options : options + conversions] = self.data.conversion_us[
            :, self.setting, shape, end
        ]
        constant = float(self.data.overhead_us[self.setting, shape, end])
        return Linear(constant, np.nan_to_num(coefficients))

    def weighted_latency(self) -> Linear:
        """Σ_w q[w]·latency(w), expected."""
        parts = [self.latency(shape) for shape in range(len(self.data.shape_weights))]
        pairs = list(zip(self.data.shape_weights, parts, strict=True))
        coefficients = sum(
            (q * part.coefficients for q, part in pairs), np.zeros(self.data.columns)
        )
        return Linear(float(sum(q * part.constant for q, part in pairs)), coefficients)

    def memory(self) -> Linear:
        """A + M[s] + Σ β·x + largest workspace, in bytes."""
        data = self.data
        coefficients = np.zeros(data.columns)
        coefficients[: data.options] = data.weight_bytes
        if len(data.workspace_levels):
            steps = np.diff(data.workspace_levels, prepend=data.workspace_base)
            coefficients[-len(steps) :] = steps
        own = data.problem.settings[self.setting].size_bytes
        constant = data.problem.activation_size_bytes + own + data.workspace_base
        return Linear(float(constant), coefficients)

    def _of_options(self, values: FloatArray) -> Linear:
        coefficients = np.zeros(self.data.columns)
        coefficients[: self.data.options] = values
        return Linear(0.0, coefficients)

    def error(self) -> Linear:
        """Σ ε·x (NMSE)."""
        return self._of_options(self.data.error)

    def objective(self, objective: Objective) -> Linear:
        """What is minimised, as a linear function of all columns."""
        price = self.data.problem.settings[self.setting].price_per_hour
        nothing = np.zeros(self.data.columns)
        linear: dict[Objective, Callable[[], Linear]] = {
            Objective.LATENCY: self.weighted_latency,
            Objective.PERIOD: self.weighted_latency,
            Objective.MEMORY: self.memory,
            Objective.ERROR: self.error,
            Objective.ENERGY: lambda: self._of_options(self.data.energy_j),
            Objective.COST: lambda: Linear(price, nothing),
            Objective.DEVICES: lambda: Linear(0.0, nothing),
            Objective.QUERY_COST: lambda: self.weighted_latency().scaled(price / 3.6e9),
        }
        return linear[objective]()


@dataclass(frozen=True, slots=True)
class Program:
    """Rows as arrays: matrix·x = or <= rhs over all columns, x binary."""

    matrix: csr_matrix
    rhs: FloatArray
    is_equality: BoolArray

    def extended(self, other: Program) -> Program:
        """Both sets of rows."""
        from scipy.sparse import vstack

        return Program(
            csr_matrix(vstack([self.matrix, other.matrix])),
            np.concatenate([self.rhs, other.rhs]),
            np.concatenate([self.is_equality, other.is_equality]),
        )


def assemble(rows: Sequence[Row], columns: int) -> Program:
    """Rows to arrays. O(non-zeros)."""
    starts = np.cumsum([0, *(len(row.columns) for row in rows)])
    indices = np.fromiter((j for row in rows for j in row.columns), np.int64, starts[-1])
    values = np.fromiter((a for row in rows for a in row.coefficients), np.float64, starts[-1])
    matrix = csr_matrix((values, indices, starts), shape=(len(rows), columns))
    matrix.sum_duplicates()
    return Program(
        matrix,
        np.array([row.rhs for row in rows], dtype=np.float64),
        np.array([row.is_equality for row in rows], dtype=np.bool_),
    )
