"""Pipelines that differ from a given one in a single group, each priced without a new solve."""

from __future__ import annotations

from planner.ir.problem import Conversion, Option, Problem, State
from planner.ir.solution import Solution
from planner.solve.limits import tail_us
from planner.solve.neighbours import Swap
from planner.solve.scale.complete import Completer

Where = tuple[int, str]
"""Stage and form."""


class StageNeighbours:
    """A plan with stages, indexed for single changes. O(size of the problem) to make."""

    def __init__(self, problem: Problem, solution: Solution) -> None:
        self._problem, self._solution = problem, solution
        names = [setting.name for setting in problem.settings]
        self._row = names.index(solution.setting or "")
        self._completer = Completer(problem, self._row)
        places = {place.name: place for place in problem.places}
        self._places = tuple(places[stage.place] for stage in solution.stages)
        by_name = {option.name: option for option in problem.options}
        self._by_op: dict[str, list[Option]] = {name: [] for name in problem.ops}
        for option in problem.options:
            for op in option.ops:
                self._by_op[op].append(option)
        self._stage: dict[str, int] = {}
        self._made: dict[str, list[tuple[str, Where]]] = {}
        self._wanted: dict[str, list[tuple[str, Where]]] = {}
        for number, stage in enumerate(solution.stages):
            for name in stage.chosen:
                self._stage[name] = number
                self._add(by_name[name], number)
        last = len(solution.stages) - 1
        for state in problem.wanted:
            self._wanted.setdefault(state.tensor, []).append(("", (last, state.form)))
        self._stored = {name for stage in solution.stages for name, _ in stage.stored}
        self._capacity = self._capacities()
        self._given = {state.tensor for state in problem.given}
        self._tied = {name for group in problem.tied for name in group}

    def _add(self, option: Option, stage: int) -> None:
        for table, states in ((self._made, option.makes), (self._wanted, option.needs)):
            for state in states:
                table.setdefault(state.tensor, []).append((option.name, (stage, state.form)))

    def expected_us(self, part: Option | Conversion) -> float:
        """Weighted expected latency under the plan's setting; infinite where it does not exist."""
        total = 0.0
        for q, cell in zip(self._problem.shape_weights, part.latency[self._row], strict=True):
            total += q * cell.expected_us if cell is not None else float("inf")
        return total

    def rivals(self, op: str, chosen: Option) -> list[Option]:
        """Options of another format for one operator at its stage, fastest first; those of another
        sharding where no other format is offered."""
        place = self._places[self._stage[chosen.name]].name
        here = [
            option
            for option in self._by_op[op]
            if option.name != chosen.name and option.place in (None, place)
        ]
        others = [option for option in here if option.format != chosen.format]
        return sorted(others or here, key=lambda option: (self.expected_us(option), option.name))

    def swap(self, chosen: Option, op: str, rival: Option) -> Swap | None:
        """Replaces a chosen group by a rival of one of its operators; None where it does not fit.

        Operators of the group that the rival does not compute get their fastest option alone.
        """
        left = [name for name in chosen.ops if name not in rival.ops]
        if len(chosen.ops) - len(left) != len(rival.ops) or self._tied.intersection(chosen.ops):
            return None
        place = self._places[self._stage[chosen.name]].name
        new = [rival]
        for name in left:
            alone = [o for o in self._by_op[name] if o.ops == (name,) and o.place in (None, place)]
            if not alone:
                return None
            new.append(min(alone, key=lambda option: (self.expected_us(option), option.name)))
        tensors = sorted({s.tensor for o in (chosen, *new) for s in (*o.needs, *o.makes)})
        delta_us = sum(self.expected_us(o) for o in new) - self.expected_us(chosen)
        for tensor in tensors:
            after = self._tensor_us(tensor, chosen, new)
            if after == float("inf"):
                return None
            delta_us += after - self._tensor_us(tensor, chosen, [chosen])
        if delta_us == float("inf"):
            return None
        delta_error = sum(option.error for option in new) - chosen.error
        return Swap(rival, delta_us, delta_error, self._broken(chosen, new, delta_us, delta_error))

    def _tensor_us(self, tensor: str, gone: Option, new: list[Option]) -> float:
        """Conversions and transfers of one tensor with one option replaced."""
        stage = self._stage[gone.name]

        def ends(table: dict[str, list[tuple[str, Where]]], role: str) -> list[Where]:
            kept = [where for name, where in table.get(tensor, ()) if name != gone.name]
            states: list[State] = [s for option in new for s in getattr(option, role)]
            return kept + [(stage, s.form) for s in states if s.tensor == tensor]

        made, wanted = ends(self._made, "makes"), ends(self._wanted, "needs")
        if not made and tensor not in self._given:
            return 0.0  # inside the group
        return self._completer.tensor_us(self._places, tensor, made, wanted)

    def _broken(
        self, chosen: Option, new: list[Option], delta_us: float, delta_error: float
    ) -> str:
        limits, totals = self._problem.limits, self._solution.totals
        if totals is None:
            return ""
        number = self._stage[chosen.name]
        slower = 1.0 + delta_us / max(totals.weighted_latency_us, 1e-300)
        tail = tail_us(self._problem, self._solution, totals) * slower
        rate = limits.throughput_per_s
        period = None if rate is None else 1e6 / rate
        checks: tuple[tuple[str, float, float | None], ...] = (
            ("the memory limit", self._used_bytes(chosen, new), self._capacity[number]),
            ("the error budget", totals.error + delta_error, limits.error),
            ("the throughput limit", totals.stage_us[number] + delta_us, period),
            ("the latency limit", tail, limits.latency_us),
        )
        if self._is_forbidden(chosen, new):
            return "a forbidden combination"
        for words, used, limit in checks:
            if limit is not None and used > limit * (1 + 1e-9):
                return words
        return ""

    def _is_forbidden(self, chosen: Option, new: list[Option]) -> bool:
        added = {option.name for option in new}
        kept = self._stage.keys() - {chosen.name}
        return any(added & cut and cut <= kept | added for cut in self._problem.forbidden)

    def _used_bytes(self, chosen: Option, new: list[Option]) -> float:
        """Memory of the stage after a swap; peaks stay as they are."""
        assert self._solution.totals is not None
        before = chosen.cache_size_bytes
        before += 0 if chosen.name in self._stored else chosen.weight_size_bytes
        after = sum(option.weight_size_bytes + option.cache_size_bytes for option in new)
        number = self._stage[chosen.name]
        return self._solution.totals.stage_memory_size_bytes[number] - before + after

    def _capacities(self) -> list[float | None]:
        """Bytes of each stage's devices; None without a limit."""
        sizes = {device.name: device.memory_size_bytes for device in self._problem.devices}
        limit = self._problem.limits.memory_size_bytes
        found: list[float | None] = []
        for place in self._places:
            known = [size for size in (sizes[place.device], limit) if size is not None]
            found.append(min(known) if known else None)
        return found
