"""What a solver is to this floor: a function from an integer program to an outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from planner.solve.data import BoolArray
from planner.solve.formulation import Linear, Program


class Answer(Enum):
    """How a backend's search ended."""

    OPTIMAL = auto()
    """The choice is the best within the gap."""
    INFEASIBLE = auto()
    """No choice at or below the cutoff."""
    TIME = auto()
    """The time limit ended the search."""
    INTERRUPTED = auto()
    """Ctrl-C ended the search."""
    FAILED = auto()
    """No answer worth the name."""


@dataclass(frozen=True, slots=True)
class Request:
    """minimise objective·x over program, x binary, inactive columns zero, objective <= cutoff."""

    program: Program
    objective: Linear
    active: BoolArray
    chosen_at_most: int
    """How many columns a plan can use: bounds what rounding of coefficients can add up to."""
    cutoff: float | None
    hint: BoolArray | None
    scale: float
    """A positive lower estimate of the objective: integer scaling is relative to it."""
    time_limit_s: float
    gap: float
    seed: int
    workers: int
    on_plan: Callable[[BoolArray, float], None] | None = None
    """Called with each better plan, all columns, and the proved bound."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a backend found and proved; nothing here is believed before it was checked."""

    answer: Answer
    chosen: BoolArray | None = None
    """All columns."""
    bound: float = float("-inf")
    """Lower bound of the objective over the active columns; infinite when nothing is feasible."""
    rounding: float = 0.0
    """Largest relative error of the objective from scaling."""


class Backend(Protocol):
    """A solver."""

    @property
    def name(self) -> str:
        """Name and version, as plans report it."""

    def minimise(self, request: Request) -> Outcome:
        """Searches until proof, gap or time. May raise anything: the caller falls back."""
