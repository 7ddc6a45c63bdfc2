"""What a plan makes again instead of keeping it, for the document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planner.place.again import AGAIN
from planner.place.variant import Variant
from planner.spec.placement import MadeAgain
from planner.steps.away.answer import expected
from planner.steps.away.offers import Posed


def remade(
    posed: Posed, variants: Sequence[Variant], entries: Sequence[str]
) -> tuple[MadeAgain, ...]:
    """Activations that late groups make again, each with the time that this adds."""
    return tuple(each for variant in variants for each in _of(posed, variant, entries))


def _of(posed: Posed, variant: Variant, entries: Sequence[str]) -> Iterator[MadeAgain]:
    again = posed.offers.again
    if again is None or not variant.again:
        return
    added = _added_us(posed, variant, len(entries))
    late = [each for each in again.late if each.tensor in variant.again]
    total = sum(each.size_bytes for each in late)
    for each in late:
        share = each.size_bytes / total
        yield MadeAgain(
            tensor=each.tensor,
            group=posed.groups[variant.group].name,
            ops=tuple(op.name for op in each.chain),
            size_bytes=each.size_bytes,
            latency_us={name: us * share for name, us in zip(entries, added, strict=True)},
        )


def _added_us(posed: Posed, variant: Variant, entries: int) -> list[float]:
    """Against the group as it runs where everything is kept: the same otherwise, else the fastest
    in the same place and format."""
    option = variant.option
    plain = posed.variants.get(option.name.replace(AGAIN, "", 1))
    others = [plain] if plain is not None else _alike(posed, variant)
    return [
        max(
            expected(option.latency[0][n])
            - min((expected(other.option.latency[0][n]) for other in others), default=0.0),
            0.0,
        )
        for n in range(entries)
    ]


def _alike(posed: Posed, variant: Variant) -> list[Variant]:
    mine = variant.option
    return [
        other
        for other in posed.variants.values()
        if other.group == variant.group
        and not other.again
        and (other.option.place, other.option.format) == (mine.place, mine.format)
        and other.residency == variant.residency
    ]
