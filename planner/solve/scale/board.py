"""A plan with stages, indexed: which option runs where, who reads and who makes each tensor."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.ir.problem import Option, State
from planner.ir.solution import Solution, Totals


@dataclass(slots=True)
class Board:
    """A plan, indexed."""

    plan: Solution
    totals: Totals
    options: dict[str, Option]
    stage_of: dict[str, int] = field(default_factory=dict)
    """By option."""
    stored: set[str] = field(default_factory=set)
    readers: dict[str, list[tuple[str, State]]] = field(default_factory=dict)
    """By tensor: options that read it, and as what."""
    makers: dict[str, list[tuple[str, State]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, stage in enumerate(self.plan.stages):
            self.stored.update(name for name, _ in stage.stored)
            for name in stage.chosen:
                self.stage_of[name] = number
                for state in self.options[name].needs:
                    self.readers.setdefault(state.tensor, []).append((name, state))
                for state in self.options[name].makes:
                    self.makers.setdefault(state.tensor, []).append((name, state))
