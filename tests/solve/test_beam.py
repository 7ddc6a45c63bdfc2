"""Streams of a beam against a simulation and against every choice."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from itertools import product
from time import monotonic

import pytest

from planner.ir.devices import Hold, Store
from planner.ir.problem import Option
from planner.solve.price import fetch_us, peak_size_bytes, streamed_us
from planner.solve.scale.beam import roomiest, search
from planner.solve.scale.residency import Running, stream
from tests.solve.problems import flat

SHAPES = (1.0, 3.0)


def draw(rng: random.Random, count: int) -> tuple[Running, dict[int, float]]:
    """A stage of a few options, some without weights, and room in its stores."""
    options = [
        Option(
            f"o{n}",
            (f"o{n}",),
            "fp32",
            flat(1.0),
            weight_size_bytes=rng.choice((0, 100, 200, 400)),
            stores=rng.choice((None, None, ("far",))),
        )
        for n in range(count)
    ]
    stores = [
        (0, Store("far", 1.0, 10.0, ahead=rng.randrange(1, 4), is_shared=rng.random() < 0.3)),
        (2, Store("near", 1.0, 40.0, ahead=rng.randrange(1, 4))),
    ]
    times = [[rng.uniform(0.0, 20.0) for _ in options] for _ in SHAPES]
    places = sorted(rng.sample(range(2 * count), count))
    running = Running(options, places, times, stores, rng.choice((1, 2)), SHAPES)
    return running, {2: float(rng.choice((0, 400, 2000)))}


def priced(running: Running, store: list[int]) -> tuple[float, int, dict[int, int]]:
    """Delay, bytes freed and bytes in each store, by the checker's own arithmetic."""
    stores = dict(running.stores)
    fetches = [
        (stores[r], fetch_us(stores[r], option, running.degree)) if r >= 0 else None
        for r, option in zip(store, running.options, strict=True)
    ]
    delay = math.fsum(
        q * (streamed_us(times, running.positions, fetches) - math.fsum(times))
        for q, times in zip(running.weights, running.times_us, strict=True)
    )
    freed, used = 0, {}
    for r, each in stores.items():
        lines = zip(running.options, running.positions, store, strict=True)
        mine = [(o.weight_size_bytes, place) for o, place, s in lines if s == r]
        holds = [Hold(place - each.ahead, place + 1, size) for size, place in mine]
        freed += sum(size for size, _ in mine) - peak_size_bytes(holds)
        used[r] = running.degree * sum(size for size, _ in mine)
    return delay, freed, used


def choices(running: Running, room: dict[int, float]) -> Iterator[tuple[float, int]]:
    """Delay and bytes freed of every choice that stores have room for."""
    ways = [
        (-1, *(r for r, s in running.stores if o.stores is None or s.name in o.stores))
        if o.weight_size_bytes
        else (-1,)
        for o in running.options
    ]
    for store in product(*ways):
        delay, freed, used = priced(running, list(store))
        if all(used[r] <= room.get(r, math.inf) for r in used):
            yield delay, freed


def least_delay(running: Running, needed: float, room: dict[int, float]) -> float:
    """Over every choice."""
    found = (delay for delay, freed in choices(running, room) if freed >= needed)
    return min(found, default=math.inf)


def most_freed(running: Running, most_us: float, room: dict[int, float]) -> int:
    """Over every choice."""
    return max(freed for delay, freed in choices(running, room) if delay <= most_us)


@pytest.mark.parametrize("seed", range(40))
def test_against_every_choice(seed: int) -> None:
    """What is claimed is true, allowed, and never better than the best."""
    rng = random.Random(seed)
    running, room = draw(rng, 7)
    needed = float(rng.choice((-1, 50, 100, 300, 500)))
    found = search(running, needed, room, monotonic() + 60)
    best = least_delay(running, needed, room)
    if found is None:
        return
    delay, freed, used = priced(running, found.store)
    assert delay == pytest.approx(found.delay_us, abs=1e-9)
    assert freed == found.freed_bytes >= needed
    assert {r: size for r, size in used.items() if size} == found.used_bytes
    assert all(used[r] <= room.get(r, math.inf) for r in used)
    assert found.delay_us >= best - 1e-9


def test_is_mostly_the_best_and_no_worse_than_greedy() -> None:
    reached = solved = greedy_s = beam_s = 0.0
    for seed in range(40):
        running, room = draw(random.Random(1000 + seed), 7)
        best = least_delay(running, 150.0, room)
        found = search(running, 150.0, room, monotonic() + 60)
        greedy = stream(running, 150.0, room)
        if best == math.inf or found is None or greedy.freed_bytes < 150:
            continue
        solved += 1
        reached += found.delay_us <= best + 1e-9
        greedy_s, beam_s = greedy_s + greedy.delay_us, beam_s + found.delay_us
    assert solved >= 20
    assert reached >= 0.8 * solved
    assert beam_s <= greedy_s


def test_nothing_is_found_without_time_or_weights() -> None:
    running, room = draw(random.Random(1), 7)
    assert search(running, 100.0, room, monotonic() - 1.0) is None
    bare = Running(running.options[:0], (), ((), ()), running.stores, 1, SHAPES)
    assert search(bare, 100.0, room, monotonic() + 60) is None


@pytest.mark.parametrize("seed", range(30))
def test_the_roomiest_is_true_and_delays_no_more_than_allowed(seed: int) -> None:
    running, room = draw(random.Random(2000 + seed), 7)
    found = roomiest(running, {0: 300.0, 2: 300.0}, 5.0, room, monotonic() + 60)
    if found is None:
        return
    delay, freed, used = priced(running, found.store)
    assert delay == pytest.approx(found.delay_us, abs=1e-9)
    assert delay <= 5.0 + 1e-9
    assert freed == found.freed_bytes > 0
    assert all(used[r] <= room.get(r, math.inf) for r in used)


def test_the_roomiest_mostly_frees_what_can_be_freed() -> None:
    reached = possible = 0
    for seed in range(20):
        running, room = draw(random.Random(3000 + seed), 7)
        best = most_freed(running, 60.0, room)
        found = roomiest(running, {0: 400.0, 2: 400.0}, 60.0, room, monotonic() + 60)
        assert found is None or found.freed_bytes <= best
        possible += best > 0
        reached += found is not None and found.freed_bytes == best
    assert possible >= 10
    assert reached >= 0.8 * possible
