"""From what ONNX Runtime executes to what the solver may choose.

Every uniform variant of the model (all operators in one format, at one graph level) was optimised
by ONNX Runtime and cut into regions. A region is an option: its operators, in its format, at the
price of its kernels. Regions of different variants mix wherever their operators partition the
model, and tensors change form where somebody pays for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from planner.fuse.forms import NEIGHBOURS
from planner.fuse.layout import CHANNELS_FIRST, PLAIN
from planner.fuse.regions import FormChange, Partition, Region
from planner.ir.graph import Graph
from planner.ir.problem import Conversion, Latency, Option, State

Prices = tuple[tuple[Latency | None, ...], ...]
"""`[setting][shape]`, None where it does not exist under a setting."""
KernelPrice = Callable[[int, int, int], Latency]
"""(kernel index, setting, shape) -> latency."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One uniform variant, cut into regions and priced."""

    name: str
    """Its format, and its graph level: unique."""
    partition: Partition
    formats: Mapping[str, str]
    """Operator -> format really built; operators that kept their own are absent."""
    settings: tuple[int, ...]
    """Settings under which this variant's kernels exist (those with its graph level)."""
    price: KernelPrice
    weight_size_bytes: Callable[[int], int]
    """Kernel index -> bytes of constants."""


@dataclass(slots=True)
class _Draft:
    """An option while variants that contain the same region are merged into it."""

    region: Region
    taken: dict[str, str]
    format: str
    error: float
    weight_size_bytes: int
    prices: dict[tuple[int, int], Latency] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Offered:
    """What the solver may choose, and the way back from an option to formats."""

    options: tuple[Option, ...]
    """In topological order of their first operator; names are unique and stable."""
    formats: Mapping[str, Mapping[str, str]]
    """Option name -> operator -> format, for operators that do not keep their own."""


def offer(
    graph: Graph,
    variants: Sequence[Variant],
    errors: Mapping[tuple[str, str], float],
    *,
    settings: int,
    shapes: int,
) -> Offered:
    """Every region of every variant as an option; equal regions are one, at the better price.

    Args:
        errors: (operator, format) -> NMSE contribution at the outputs.
        settings: number of settings; shapes: number of workload shapes.
    """
    drafts: dict[tuple[object, ...], _Draft] = {}
    for variant in variants:
        for region in variant.partition.regions:
            _merge(drafts, variant, region, errors, shapes)
    position = {op.name: index for index, op in enumerate(graph.ops)}
    ordered = sorted(drafts.values(), key=lambda draft: position[draft.region.ops[0]])
    names: dict[str, int] = {}
    made = [_finish(draft, names, settings, shapes) for draft in ordered]
    formats = {option.name: draft.taken for option, draft in zip(made, ordered, strict=True)}
    return Offered(tuple(made), formats)


def _merge(
    drafts: dict[tuple[object, ...], _Draft],
    variant: Variant,
    region: Region,
    errors: Mapping[tuple[str, str], float],
    shapes: int,
) -> None:
    taken = {op: variant.formats[op] for op in region.ops if op in variant.formats}
    key = (region.ops, region.needs, region.makes, tuple(sorted(taken.items())))
    draft = drafts.get(key)
    if draft is None:
        draft = _Draft(
            region,
            taken,
            format="+".join(sorted(set(taken.values()))) or "native",
            error=sum(errors.get(pair, 0.0) for pair in taken.items()),
            weight_size_bytes=sum(variant.weight_size_bytes(k) for k in region.kernels),
        )
        drafts[key] = draft
    for setting in variant.settings:
        for shape in range(shapes):
            total = _sum(variant.price(kernel, setting, shape) for kernel in region.kernels)
            best = draft.prices.get((setting, shape))
            if best is None or total.expected_us < best.expected_us:
                draft.prices[setting, shape] = total


def _sum(parts: Iterable[Latency]) -> Latency:
    low = expected = high = 0.0
    for part in parts:
        low += part.low_us
        expected += part.expected_us
        high += part.high_us
    return Latency(low, expected, high)


def _finish(draft: _Draft, names: dict[str, int], settings: int, shapes: int) -> Option:
    base = f"{draft.region.ops[0]}|{draft.format}"
    names[base] = names.get(base, 0) + 1
    suffix = f"|{names[base]}" if names[base] > 1 else ""
    return Option(
        name=base + suffix,
        ops=draft.region.ops,
        format=draft.format,
        latency=tuple(
            tuple(draft.prices.get((setting, shape)) for shape in range(shapes))
            for setting in range(settings)
        ),
        needs=draft.region.needs,
        makes=draft.region.makes,
        weight_size_bytes=draft.weight_size_bytes,
        error=draft.error,
    )


def conversions(
    variants: Sequence[Variant],
    chosen_from: Sequence[Option],
    size_bytes: Sequence[Mapping[str, int]],
    *,
    settings: int,
) -> tuple[Conversion, ...]:
    """Form changes that were measured, and the same change of other tensors, by their size.

    A change of form moves the tensor once: its time is interpolated linearly in bytes between the
    measured changes of the same kind (the nearest in size, scaled).

    Args:
        size_bytes: for each workload shape, the bytes of every tensor.
    """
    measured = _measured_changes(variants, len(size_bytes))
    wanted = _wanted_changes(chosen_from)
    found = []
    for source, target in sorted(wanted, key=str):
        prices = tuple(
            tuple(
                _change_price(measured, source, target, sizes, setting, shape)
                for shape, sizes in enumerate(size_bytes)
            )
            for setting in range(settings)
        )
        if any(price is not None for row in prices for price in row):
            name = f"{source.tensor}|{source.form}->{target.form}"
            found.append(Conversion(name, source, target, prices))
    return tuple(found)


_Change = tuple[str, str, int, int]
"""(source form, target form, setting, shape)."""


def _measured_changes(
    variants: Sequence[Variant], shapes: int
) -> dict[_Change, dict[str, Latency]]:
    measured: dict[_Change, dict[str, Latency]] = {}
    for variant in variants:
        for change in variant.partition.changes:
            for setting in variant.settings:
                for shape in range(shapes):
                    kind = (change.source.form, change.target.form, setting, shape)
                    price = variant.price(change.kernel, setting, shape)
                    measured.setdefault(kind, {})[_tensor(change)] = price
    return measured


def _tensor(change: FormChange) -> str:
    return change.source.tensor


def _wanted_changes(chosen_from: Sequence[Option]) -> set[tuple[State, State]]:
    """Every step between forms of one tensor, where one form is made or given and another needed.

    Some forms are two steps apart: those between them are reached on the way.
    """
    forms: dict[str, set[str]] = {}
    for option in chosen_from:
        for state in (*option.needs, *option.makes):
            have = forms.setdefault(state.tensor, {PLAIN})
            have.update({state.form, CHANNELS_FIRST.get(state.form, state.form)})
    return {
        (State(tensor, a), State(tensor, b))
        for tensor, have in forms.items()
        for a in have
        for b in have
        if b in NEIGHBOURS[a]
    }


def _change_price(
    measured: Mapping[_Change, Mapping[str, Latency]],
    source: State,
    target: State,
    size_bytes: Mapping[str, int],
    setting: int,
    shape: int,
) -> Latency | None:
    known = measured.get((source.form, target.form, setting, shape))
    if not known:
        return None
    if source.tensor in known:
        return known[source.tensor]
    size = max(size_bytes.get(source.tensor, 0), 1)
    sizes = {tensor: max(size_bytes.get(tensor, 0), 1) for tensor in known}
    nearest = min(known, key=lambda tensor: (abs(sizes[tensor] - size), tensor))
    price, scale = known[nearest], size / sizes[nearest]
    scaled = price.expected_us * scale
    return Latency(scaled * 0.5, scaled, scaled * 2.0)
