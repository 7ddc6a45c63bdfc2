"""The compression methods, and what they offer for a graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

from planner.compress.base import NATIVE, Format, Method, Offer, Rejection
from planner.compress.half import Half
from planner.compress.int8_dynamic import Int8Dynamic
from planner.compress.int8_dynamic_smooth import Int8DynamicSmooth
from planner.compress.int8_static import Int8Static
from planner.compress.weight_only import INT4_WO, INT8_WO
from planner.errors import UsageError
from planner.ir.graph import Graph, Op

STATIC = Int8Static()
METHODS: tuple[Method, ...] = (
    STATIC,
    Int8DynamicSmooth(),
    Int8Dynamic(),
    INT8_WO,
    INT4_WO,
    Half(),
)
"""In the order they are applied: a method later in the list sees what the earlier ones made."""

_ALL_INT8 = (Format.INT8_DYNAMIC, Format.INT8_DYNAMIC_SMOOTH, Format.INT8_STATIC)


def method_of(wanted: Format) -> Method:
    """The method that makes a format.

    Raises:
        UsageError: no method of this provider makes it.
    """
    for method in METHODS:
        if method.format == wanted:
            return method
    known = ", ".join([NATIVE, *(method.format for method in METHODS)])
    raise UsageError(f"format {wanted} does not exist on the CPU", fix=f"one of {known}")


def offers(
    graph: Graph,
    allowed: Collection[Format],
    pins: Mapping[str, Format] | None = None,
) -> tuple[Offer | Rejection, ...]:
    """Which operator may take which format, native included; in topological order.

    `pins` maps a glob on operator names to the one format it must take; the first match counts. A
    pinned operator that cannot take its format stays native, with the rejection saying why.
    """
    wanted = _expanded(allowed)
    if not STATIC.pays(graph):
        wanted -= {STATIC.format}
    found: list[Offer | Rejection] = []
    for op in graph.ops:
        pinned = _pin_of(op, pins or {})
        formats = wanted if pinned is None else _expanded([pinned])
        answers = [_answer(op, graph, method) for method in METHODS if method.format in formats]
        offered = any(isinstance(answer, Offer) for answer in answers)
        if pinned in (None, NATIVE) or not offered:
            found.append(Offer(op.name, NATIVE))
        found.extend(answers)
    return tuple(found)


def _expanded(formats: Collection[Format]) -> frozenset[Format]:
    """`int8` means every kind of int8."""
    expanded = set(formats)
    if Format.INT8 in expanded:
        expanded.update(_ALL_INT8)
    return frozenset(expanded)


def _pin_of(op: Op, pins: Mapping[str, Format]) -> Format | None:
    return next((pins[glob] for glob in pins if fnmatchcase(op.name, glob)), None)


def _answer(op: Op, graph: Graph, method: Method) -> Offer | Rejection:
    reason = method.check(op, graph)
    if reason is not None:
        return Rejection(op.name, method.format, reason)
    return Offer(op.name, method.format, method.ranged_tensors(op, graph))
