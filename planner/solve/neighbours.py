"""Plans that differ from a given one in a single group, each priced without a new solve."""

from __future__ import annotations

from dataclasses import dataclass

from planner.ir.problem import Conversion, Option, Problem, State
from planner.ir.solution import Solution


@dataclass(frozen=True, slots=True)
class Swap:
    """One group replaced, conversions adapted, everything else unchanged."""

    option: Option
    """The option that now computes the operator asked for."""
    delta_us: float
    delta_error: float
    broken: str
    """The first limit it breaks; empty where it keeps all of them."""


class Neighbours:
    """A plan, indexed for single changes. O(size of the problem) to make."""

    def __init__(self, problem: Problem, solution: Solution) -> None:
        self._problem = problem
        self._solution = solution
        names = [setting.name for setting in problem.settings]
        self._row = names.index(solution.setting or "")
        self._by_op: dict[str, list[Option]] = {name: [] for name in problem.ops}
        for option in problem.options:
            for op in option.ops:
                self._by_op[op].append(option)
        by_name = {option.name: option for option in problem.options}
        self._chosen = {name: by_name[name] for name in solution.chosen}
        self._makers = self._users("makes")
        self._needers = self._users("needs")
        self._conversions: dict[str, list[Conversion]] = {}
        for conversion in problem.conversions:
            self._conversions.setdefault(conversion.target.tensor, []).append(conversion)
        self._tied = {name for group in problem.tied for name in group}

    def _users(self, role: str) -> dict[str, dict[str, Option]]:
        """Chosen options that make or need forms of each tensor."""
        found: dict[str, dict[str, Option]] = {}
        for option in self._chosen.values():
            states: tuple[State, ...] = getattr(option, role)
            for state in states:
                found.setdefault(state.tensor, {})[option.name] = option
        return found

    def expected_us(self, part: Option | Conversion) -> float:
        """Weighted expected latency under the plan's setting; infinite where it does not exist."""
        total = 0.0
        for q, cell in zip(self._problem.shape_weights, part.latency[self._row], strict=True):
            total += q * cell.expected_us if cell is not None else float("inf")
        return total

    def rivals(self, op: str, chosen: Option) -> list[Option]:
        """Options with another format for one operator, fastest first."""
        others = [option for option in self._by_op[op] if option.format != chosen.format]
        return sorted(others, key=lambda option: (self.expected_us(option), option.name))

    def swap(self, chosen: Option, op: str, rival: Option) -> Swap | None:
        """Replaces a chosen group by a rival of one of its operators; None where it does not fit.

        Operators of the group that the rival does not compute get their fastest option alone.
        """
        left = [name for name in chosen.ops if name not in rival.ops]
        if len(chosen.ops) - len(left) != len(rival.ops) or self._tied.intersection(chosen.ops):
            return None
        new = [rival]
        for name in left:
            alone = [option for option in self._by_op[name] if option.ops == (name,)]
            if not alone:
                return None
            new.append(min(alone, key=lambda option: (self.expected_us(option), option.name)))
        tensors = sorted({s.tensor for o in (chosen, *new) for s in (*o.needs, *o.makes)})
        before = [self._conversion_us(tensor, (), ()) for tensor in tensors]
        after = [self._conversion_us(tensor, (chosen,), tuple(new)) for tensor in tensors]
        delta_us = sum(self.expected_us(o) for o in new) - self.expected_us(chosen)
        delta_us += sum(after) - sum(before)
        if delta_us == float("inf"):
            return None
        delta_error = sum(option.error for option in new) - chosen.error
        names = {*self._chosen, *(option.name for option in new)} - {chosen.name}
        broken = self._broken(chosen, new, delta_us, delta_error)
        if any(cut <= names for cut in self._problem.forbidden):
            broken = "a forbidden combination"
        return Swap(rival, delta_us, delta_error, broken)

    def _conversion_us(
        self, tensor: str, gone: tuple[Option, ...], new: tuple[Option, ...]
    ) -> float:
        """Cheapest conversions of one tensor, path by path, after a change."""
        out = {option.name for option in gone}
        makers = [o for o in self._makers.get(tensor, {}).values() if o.name not in out]
        needers = [o for o in self._needers.get(tensor, {}).values() if o.name not in out]
        available = {s for o in (*makers, *new) for s in o.makes if s.tensor == tensor}
        available.update(state for state in self._problem.given if state.tensor == tensor)
        needed = [s for o in (*needers, *new) for s in o.needs if s.tensor == tensor]
        needed += [state for state in self._problem.wanted if state.tensor == tensor]
        total = 0.0
        for state in dict.fromkeys(needed):
            if state in available:
                continue
            cost, made = self._cheapest(state, available)
            total += cost
            available.update(made)
        return total

    def _cheapest(self, state: State, available: set[State]) -> tuple[float, list[State]]:
        best: dict[State, tuple[float, list[State]]] = {state: (0.0, [state])}
        waiting = [state]
        while waiting:
            target = waiting.pop()
            for conversion in self._conversions.get(target.tensor, ()):
                cost = best[target][0] + self.expected_us(conversion)
                known = best.get(conversion.source, (float("inf"), []))[0]
                if conversion.target == target and cost < known:
                    made = [*best[target][1], conversion.source]
                    best[conversion.source] = (cost, made)
                    waiting.append(conversion.source)
        ends = [best[source] for source in best if source in available]
        return min(ends, key=lambda end: end[0], default=(float("inf"), []))

    def _broken(
        self, chosen: Option, new: list[Option], delta_us: float, delta_error: float
    ) -> str:
        limits, totals = self._problem.limits, self._solution.totals
        if totals is None:
            return ""
        weights = sum(o.weight_size_bytes for o in new) - chosen.weight_size_bytes
        memory = limits.memory_size_bytes
        if memory is not None and totals.memory_size_bytes + weights > memory:
            return "the memory limit"
        if limits.error is not None and totals.error + delta_error > limits.error * (1 + 1e-9):
            return "the error budget"
        slower = totals.weighted_latency_us + delta_us
        rate = limits.throughput_per_s
        if rate is not None and slower > 1e6 / rate * (1 + 1e-9):
            return "the throughput limit"
        setting = self._problem.settings[self._row]
        share = slower / totals.weighted_latency_us if totals.weighted_latency_us > 0 else 1.0
        ends = enumerate(totals.latency_high_us)
        tail = max(setting.tail(shape) * high_us for shape, high_us in ends) * share
        if limits.latency_us is not None and tail > limits.latency_us * (1 + 1e-9):
            return "the latency limit"
        return ""
