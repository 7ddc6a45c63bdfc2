"""What every part of the document asks of an answer: variants, times, prices, words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from planner.ir.problem import Latency
from planner.ir.solution import Solution, Stage, Totals
from planner.place.formats import whole_error
from planner.place.strategy import Spread
from planner.place.variant import Variant
from planner.spec.constraints import Constraints
from planner.spec.estimate import Estimate
from planner.spec.execution import Cut
from planner.steps.away.offers import Posed
from planner.steps.away.parts import StreamingParts
from planner.steps.away.search import Found
from planner.steps.away.streams import PEER, parts_of, residency
from planner.steps.away.target import Away

_US_PER_HOUR = 3.6e9


class Answer:
    """One answer to a request, beside its alternatives."""

    def __init__(
        self,
        constraints: Constraints,
        away: Away,
        posed: Posed,
        best: Found,
        others: Sequence[Found],
    ) -> None:
        self._given = (constraints, away, posed, best, others)
        self._constraints, self._away, self._posed = constraints, away, posed
        self._best, self._others = best, others
        self._solution = best.solution
        self._names = tuple(entry.name for entry in constraints.workload)
        self._weights = posed.problem.shape_weights

    def _variants(self, stage: Stage) -> list[Variant]:
        return [self._posed.variants[name] for name in stage.chosen]

    def _chosen(self) -> Iterator[tuple[int, Stage, Variant]]:
        """Every group's variant, in order, with its stage and that one's number, from 0."""
        for number, stage in enumerate(self._solution.stages):
            yield from ((number, stage, variant) for variant in self._variants(stage))

    @cached_property
    def _parts(self) -> StreamingParts:
        """In which the weights of one device come; none on several, where no engine streams."""
        return parts_of(self._solution, self._posed.variants)

    def _memory_bytes(self) -> int:
        """Of the device that holds the most."""
        totals = self._solution.totals
        assert totals is not None
        return max(totals.stage_memory_size_bytes, default=0) + self._parts.uncounted_bytes

    def _error(self, totals: Totals) -> float:
        return whole_error(self._posed.offer.base, totals.error)

    def _weighted(self, row: Sequence[Latency | None]) -> float:
        cells = zip(self._weights, row, strict=True)
        return sum(q * cell.expected_us for q, cell in cells if cell is not None)

    def _query(self, solution: Solution) -> Estimate:
        totals = solution.totals
        assert totals is not None

        def total(row: Sequence[float]) -> float:
            return sum(q * value for q, value in zip(self._weights, row, strict=True))

        return Estimate(
            low=total(totals.latency_low_us),
            expected=total(totals.latency_expected_us),
            high=total(totals.latency_high_us),
            source="modelled",
        )

    def _price(self, solution: Solution) -> float | None:
        totals = solution.totals
        return totals.price_per_hour if totals is not None and self._away.is_priced else None

    def _energy(self, solution: Solution) -> float | None:
        """Joules of one query; None where no source says what a device draws."""
        totals = solution.totals
        return totals.energy_j if totals is not None and self._away.device.power else None

    def _count_formats(self, variants: Sequence[Variant]) -> dict[str, int]:
        found: Counter[str] = Counter()
        for variant in variants:
            weighted = len(self._posed.groups[variant.group].weighted)
            if weighted:
                found[variant.option.format] += weighted
        return dict(found.most_common())


def expected(cell: Latency | None) -> float:
    return cell.expected_us if cell is not None else 0.0


def per_query(price_per_hour: float | None, query_us: float) -> float | None:
    """Price of one run of the whole workload, one after another."""
    return None if price_per_hour is None else price_per_hour * query_us / _US_PER_HOUR


def streamed(variants: Sequence[Variant], stage: Stage) -> int:
    """Weights that stream into each device."""
    away = (v for v in variants if residency(v, stage) != "device")
    return sum(v.priced.weight_size_bytes for v in away)


def layout(solution: Solution, found: Found) -> str:
    """`2 stages x 8 GPUs`, `stages of 8, 4 GPUs`, `1 GPU`; and who only lends memory."""
    lends = any(store == PEER for stage in solution.stages for _, store in stage.stored)
    return f"{_stages(solution, found)}{', beside one that lends memory' if lends else ''}"


def _stages(solution: Solution, found: Found) -> str:
    degrees = {place.name: place.degree for place in found.problem.places}
    own = [degrees[stage.place] for stage in solution.stages]
    if len(own) == 1:
        return "1 GPU" if own[0] == 1 else f"{own[0]} GPUs, sharded"
    if len(set(own)) == 1:
        return f"{len(own)} stages x {own[0]} GPU{'s' * (own[0] > 1)}"
    return f"stages of {', '.join(map(str, own))} GPUs"


def cuts(spread: Spread) -> dict[str, Cut]:
    """How operators are cut, as a document."""
    found: dict[str, Cut] = {}
    for name, cut in spread.choices.items():
        index = cut.index
        found[name] = Cut.model_validate(
            {
                "kind": index.kind.value,
                "operands": [(a.slot, a.axis) for a in index.inputs],
                "results": [(a.slot, a.axis) for a in index.outputs],
            }
        )
    return found


def style(spread: Spread) -> str:
    """What is cut, in words."""
    if spread.degree == 1:
        return "on one device"
    if not spread.choices:
        return f"whole on each of {spread.degree} ranks"
    counts: Mapping[str, int] = Counter(cut.index.kind.value for cut in spread.choices.values())
    text = ", ".join(f"{count} {_KINDS[kind]}" for kind, count in counts.items())
    sent = Counter(each.kind for run in spread.work[:1] for each in run.collectives)
    talks = ", ".join(f"{count} {kind.replace('_', '-')}" for kind, count in sent.items())
    return f"cut over {spread.degree} ranks ({text}){f'; {talks}' if talks else ''}"


_KINDS = {"parallel": "along results", "sum": "along sums", "lookup": "along tables"}
