"""Which problems joint and sequential planning are compared on, chosen before any was solved.

A slice of each structure (a few layers; of a Switch layer, eight experts) on two H200-like GPUs,
or up to two smaller ones. Memory, budget and SLO follow from the dense model alone, never from a
plan that some planner found:

- Memory: weights in fp16 over the weight memory of all GPUs (`pressure`). 0.8: a model that fits.
  1.45: 140 GB on two GPUs of 48 GB, or 810 GB on four of 141 GB. 2.2: 140 GB on two of 32 GB. 2.55:
  810 GB on four of 80 GB. Besides, what activations and caches of the tensor-parallel fp16 plan
  need (`working_set_bytes`). Weights stream from the host: no idle neighbour lends memory.
- Accuracy: everything in four bits is taken to cost 1.5 percentage points (rounding to nearest, the
  order published for language models); the budget is 1 pp or 0.5 pp of it.
- `price`: the price per hour is minimised in place of the latency, on up to four GPUs, under an SLO
  of three quarters of what the dense fp16 model takes on two of them (memory left out).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.joint_models import Case, make
from benchmarks.joint_steps import Decided, Step, posed
from planner.ir.problem import Limits, Objective, Problem
from planner.solve.solve import solve

SLICES = {"bert": 28, "gpt": 28, "switch8": 37, "conformer": 30, "resnet": 28}
"""Operators of each structure's slice, in whole layers."""
TOKENS = (512, 256)
"""Prefill and decode: few enough that activations of a few layers leave weights the memory, as in
whole models."""
AHEAD = 8
"""Operators that a weight may stream before its own: half a layer, as offloading runtimes do."""
WHOLE_DROP_PP = 1.5
"""Percentage points lost with every weight in four bits."""
SLO_SHARE = 0.75
SLO_LIMIT_S = 10.0
"""Seconds of the solve that prices the dense model."""


@dataclass(frozen=True, slots=True)
class Level:
    """How scarce things are."""

    name: str
    pressure: float
    drop_pp: float
    gpus: int = 2
    is_price: bool = False


LEVELS = (
    Level("fits", 0.8, 1.0),
    Level("tight", 1.45, 0.5),
    Level("scarce", 2.2, 0.5),
    Level("scarcer", 2.55, 0.5),
    Level("price", 1.45, 0.5, 4, is_price=True),
)


@dataclass(frozen=True, slots=True)
class Instance:
    """One problem."""

    structure: str
    level: Level
    seed: int

    @property
    def name(self) -> str:
        """As printed and saved."""
        return f"{self.structure} {self.level.name} {self.seed}"

    def make(self) -> Problem:
        """The problem; `price` solves the dense model first."""
        level = self.level
        case = Case(
            self.structure,
            SLICES[self.structure],
            level.gpus,
            seed=self.seed,
            pressure=level.pressure,
            budget=level.drop_pp / WHOLE_DROP_PP,
            tokens=TOKENS,
            is_lean=True,
        )
        problem = make(case)
        host = next(store for store in problem.stores if store.name == "host")
        problem = replace(problem, stores=(replace(host, ahead=AHEAD),))
        if not level.is_price:
            return problem
        limits = replace(problem.limits, latency_us=SLO_SHARE * _dense_us(problem))
        order = (Objective.COST, Objective.LATENCY)
        return replace(problem, limits=limits, objectives=order)


def instances(
    structures: Sequence[str], levels: Sequence[str], seeds: Sequence[int]
) -> Iterator[Instance]:
    """Every structure at every level with every seed."""
    for seed in seeds:
        for structure in structures:
            for level in LEVELS:
                if level.name in levels:
                    yield Instance(structure, level, seed)


def _dense_us(problem: Problem) -> float:
    """Upper end of the slowest shape of the fp16 model on two GPUs, each operator a kernel."""
    two = tuple(place for place in problem.places if place.name == "h200x2")
    names = {place.name for place in two}
    dense = replace(
        problem,
        places=two,
        options=tuple(o for o in problem.options if o.place in names),
        conversions=tuple(c for c in problem.conversions if c.place in names),
        limits=Limits(),
        objectives=(Objective.LATENCY,),
    )
    plan = solve(posed(dense, Decided(), Step("place", keeps_memory=False)),
                 time_limit_s=SLO_LIMIT_S, gap=1e-3)  # fmt: skip
    if plan.totals is None:
        raise RuntimeError("the dense model has no plan")
    return max(plan.totals.latency_high_us)
