"""What a plan for devices elsewhere costs, an hour and a query."""

from __future__ import annotations

from planner.spec.placement import PlacementPlan

MILLION = 1e6
_SMALL_USD = 1e-4
"""A smaller price is told of a million queries."""
_CLEARLY = 0.9
"""Share of a price from which on another is told."""


def text(placement: PlacementPlan) -> str:
    """Both, with their source; where the price is not known, why."""
    if placement.price_per_hour is None or placement.price_per_query is None:
        return placement.price_source
    return (
        f"{placement.price_per_hour:.2f} USD an hour, {per_query(placement.price_per_query)} "
        f"({placement.price_source}){_cheaper(placement, placement.price_per_query)}"
    )


def _cheaper(placement: PlacementPlan, price: float) -> str:
    """The alternative that keeps the promise for least a query, where that is clearly less."""
    rivals = [
        (each.price_per_query, each.name)
        for each in placement.alternatives
        if each.status == "feasible" and not each.reason and each.price_per_query is not None
    ]
    best, name = min(rivals, default=(price, ""))
    return f"; least: {per_query(best)} with {name}" if best < _CLEARLY * price else ""


def per_query(usd: float) -> str:
    """`0.0123 USD a query`; of a million, where one costs next to nothing."""
    if usd < _SMALL_USD:
        return f"{usd * MILLION:.3g} USD a million queries"
    return f"{usd:.3g} USD a query"


def is_small(placement: PlacementPlan) -> bool:
    """Whether prices are told of a million queries."""
    price = placement.price_per_query
    return price is not None and price < _SMALL_USD
