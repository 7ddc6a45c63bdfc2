"""What a latency promise costs in devices and money."""

from __future__ import annotations

from planner.steps.away.answer import Answer
from planner.units import format_duration


class Promised(Answer):
    """An answer that knows what it would be without its promise."""

    def slo_cost(self) -> str:
        """What the latency promise adds to the price, against the cheapest plan without it."""
        if self._constraints.promise.latency_us is None:
            return "no latency was promised"
        totals = self._solution.totals
        assert totals is not None
        free = [
            one
            for one in (self._best, *self._others)
            if one.solution.totals is not None
            and one.solution.totals.devices < totals.devices
            and not one.has_slo
        ]
        if totals.devices == 1:
            return "nothing: one device keeps it"
        if (kept := self._kept_by_fewer(totals.devices)) is not None:
            return kept
        if not free:
            return f"unknown: no plan with fewer than {totals.devices} devices was found"
        one = free[0]
        assert one.solution.totals is not None
        more = totals.devices - one.solution.totals.devices
        slow = format_duration(self._query(one.solution).expected)
        fast = format_duration(self._query(self._solution).expected)
        price, cheap = self._price(self._solution), self._price(one.solution)
        money = ""
        if price is not None and cheap is not None:
            money = f", {price - cheap:.2f} USD an hour"
        return (
            f"{more} more device{'s' * (more > 1)}{money}: without the promise "
            f"{one.solution.totals.devices} would do, with {slow} instead of {fast} a query"
        )

    def _kept_by_fewer(self, devices: int) -> str | None:
        """That the promise is not why there are so many; None where no such plan is known."""
        plans = [
            (one.solution.totals.devices, one.solution)
            for one in self._others
            if one.has_slo and one.solution.totals is not None and not one.solution.is_uncertain
        ]
        count, fewest = min(plans, key=lambda plan: plan[0], default=(devices, self._solution))
        if count >= devices:
            return None
        slow, fast = (format_duration(self._query(s).expected) for s in (fewest, self._solution))
        who = "one device keeps" if count == 1 else f"{count} devices keep"
        return f"nothing: {who} it as well, with {slow} instead of {fast} a query"
