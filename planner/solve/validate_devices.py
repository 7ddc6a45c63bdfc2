"""Refuses places, stages, links, stores, transfers, pairs and assignments that make no sense."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from planner.errors import UsageError
from planner.ir.assignment import Assignment
from planner.ir.devices import Hold
from planner.ir.problem import Problem


def validate_devices(problem: Problem) -> None:
    """Everything of a Problem beyond one device. O(size of the problem).

    Raises:
        UsageError: names the place, device, link, store, transfer, pair or slot that is wrong.
    """
    _check_shape(problem)
    _check_devices(problem)
    _check_stores(problem)
    _check_options(problem)
    _check_transfers(problem)
    _check_pairs(problem)
    for name in sorted(problem.repeatable - set(problem.ops)):
        raise UsageError(f"the repeatable operator {name!r} is unknown")
    if problem.assignment is not None:
        _check_assignment(problem, problem.assignment)


def refuse_number(value: float, what: str, least: float = 0.0) -> None:
    """Raises unless a value is finite and at least `least`."""
    if not math.isfinite(value) or value < least:
        raise UsageError(f"{what} is {value}", fix=f"a finite number, at least {least:g}")


def _refuse_duplicates(names: Iterable[str], what: str) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise UsageError(f"{what} {name!r} is named {times} times", fix="make names unique")


def _check_shape(problem: Problem) -> None:
    if problem.stages < 1:
        raise UsageError(f"the problem has {problem.stages} stages", fix="at least one")
    if problem.places:
        return
    beyond = {
        "more than one stage": problem.stages > 1,
        "transfers": bool(problem.transfers),
        "stores": bool(problem.stores),
        "repeatable operators": bool(problem.repeatable),
        "an assignment": problem.assignment is not None,
    }
    for what, is_there in beyond.items():
        if is_there:
            raise UsageError(
                f"the problem has {what}, but no place", fix="give the places stages may run at"
            )


def _check_devices(problem: Problem) -> None:
    _refuse_duplicates((device.name for device in problem.devices), "device type")
    _refuse_duplicates((place.name for place in problem.places), "place")
    _refuse_duplicates((store.name for store in problem.stores), "store")
    _refuse_duplicates((f"{link.source} -> {link.target}" for link in problem.links), "link")
    known = {device.name for device in problem.devices}
    for device in problem.devices:
        where = f"device type {device.name!r}"
        refuse_number(device.memory_size_bytes or 0, f"memory_size_bytes of {where}")
        refuse_number(device.count or 0, f"count of {where}")
        refuse_number(device.price_per_hour, f"price_per_hour of {where}")
    for place in problem.places:
        if place.device not in known:
            raise UsageError(f"place {place.name!r} is on the unknown device type {place.device!r}")
        refuse_number(place.degree, f"degree of place {place.name!r}", least=1.0)
    for link in problem.links:
        where = f"link {link.source!r} -> {link.target!r}"
        for name in (link.source, link.target):
            if name not in known:
                raise UsageError(f"{where} names the unknown device type {name!r}")
        refuse_number(link.latency_us, f"latency_us of {where}")
        refuse_number(link.bytes_per_us, f"bytes_per_us of {where}", least=1e-12)


def _check_stores(problem: Problem) -> None:
    known = {device.name for device in problem.devices}
    for store in problem.stores:
        where = f"store {store.name!r}"
        for name in store.devices:
            if name not in known:
                raise UsageError(f"{where} names the unknown device type {name!r}")
        refuse_number(store.latency_us, f"latency_us of {where}")
        refuse_number(store.bytes_per_us, f"bytes_per_us of {where}", least=1e-12)
        refuse_number(store.ahead, f"ahead of {where}")
        refuse_number(store.memory_size_bytes or 0, f"memory_size_bytes of {where}")
        refuse_number(store.slot_size_bytes or 0, f"slot_size_bytes of {where}")
        refuse_number(store.extra_devices, f"extra_devices of {where}")
        refuse_number(store.price_per_hour, f"price_per_hour of {where}")


def _check_holds(holds: Sequence[Hold], where: str) -> None:
    for hold in holds:
        refuse_number(hold.size_bytes, f"size_bytes of a hold of {where}")
        if hold.start > hold.end:
            raise UsageError(f"{where} holds memory from {hold.start} until {hold.end}")


def _check_options(problem: Problem) -> None:
    places = {place.name for place in problem.places}
    stores = {store.name for store in problem.stores}
    for option in problem.options:
        where = f"option {option.name!r}"
        if option.place is not None and option.place not in places:
            raise UsageError(f"{where} runs at the unknown place {option.place!r}")
        refuse_number(option.cache_size_bytes, f"cache_size_bytes of {where}")
        _check_holds(option.holds, where)
        for name in option.stores or ():
            if name not in stores:
                raise UsageError(f"{where} names the unknown store {name!r}")
    for conversion in problem.conversions:
        if conversion.place is not None and conversion.place not in places:
            raise UsageError(
                f"conversion {conversion.name!r} runs at the unknown place {conversion.place!r}"
            )
        refuse_number(conversion.energy_j, f"energy_j of conversion {conversion.name!r}")


def _check_transfers(problem: Problem) -> None:
    _refuse_duplicates((transfer.name for transfer in problem.transfers), "transfer")
    for transfer in problem.transfers:
        where = f"transfer {transfer.name!r}"
        if transfer.source.tensor != transfer.target.tensor:
            raise UsageError(f"{where} turns one tensor into another")
        if len(transfer.size_bytes) != len(problem.shape_weights):
            raise UsageError(
                f"{where} has bytes for {len(transfer.size_bytes)} workload shapes,"
                f" not {len(problem.shape_weights)}"
            )
        for size in transfer.size_bytes:
            refuse_number(size, f"size_bytes of {where}")
        refuse_number(transfer.energy_j, f"energy_j of {where}")
        _check_holds(transfer.holds, where)


def _check_pairs(problem: Problem) -> None:
    if not problem.pairs:
        return
    counts = Counter(name for option in problem.options for name in option.ops)
    known = set(problem.ops)
    for pair in problem.pairs:
        where = f"the pair costs of {pair.first!r} and {pair.second!r}"
        for name in (pair.first, pair.second):
            if name not in known:
                raise UsageError(f"{where} name the unknown operator {name!r}")
        if pair.first == pair.second:
            raise UsageError(f"{where} join an operator with itself")
        size = counts[pair.first] * counts[pair.second]
        if len(pair.latency_us) != size:
            raise UsageError(f"{where} have {len(pair.latency_us)} entries, not {size}")
        if not min(pair.latency_us, default=0.0) >= 0 or math.isnan(math.fsum(pair.latency_us)):
            raise UsageError(f"{where} hold NaN or a negative number", fix="0 to infinity")


def _check_assignment(problem: Problem, assignment: Assignment) -> None:
    if problem.stages > 1:
        raise UsageError("a free assignment has no stages", fix="leave stages at one")
    if not assignment.slots:
        raise UsageError("the assignment has no slot", fix="give at least one device")
    _refuse_duplicates((slot.name for slot in assignment.slots), "slot")
    _refuse_duplicates((crossing.op for crossing in assignment.crossings), "crossing of")
    for crossing in assignment.crossings:
        refuse_number(crossing.latency_us, f"latency_us of the crossing of {crossing.op!r}")
    places = (place.name for place in problem.places)
    _refuse_unknown((slot.place for slot in assignment.slots), places, "a slot names the place")
    moved = (crossing.op for crossing in assignment.crossings)
    _refuse_unknown(moved, problem.ops, "a crossing names the operator")
    grouped = (name for group in assignment.together for name in group)
    _refuse_unknown(grouped, problem.ops, "a group that stays together names the operator")
    joined = (name for group in assignment.shared for name in group)
    slots = (slot.name for slot in assignment.slots)
    _refuse_unknown(joined, slots, "a shared device names the slot")


def _refuse_unknown(names: Iterable[str], known: Iterable[str], what: str) -> None:
    found = set(known)
    for name in names:
        if name not in found:
            raise UsageError(f"{what} {name!r}, which does not exist")
