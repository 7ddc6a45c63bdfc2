"""Intervals of whole models that were left out: by what is left of their software."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.tables.rows import Row
from benchmarks.tables.runtimes import Timings
from benchmarks.tables.unseen import Unseen, banded, unseen
from benchmarks.tables.wholes import Whole, whole_of


def case(model: str, **others: str) -> Whole:
    cells = dict.fromkeys(Row.__dataclass_fields__, "")
    cells |= {"gpu": "A100", "precision": "fp16", "metric": "latency_us", "value": "900"}
    cells |= {"seq_in": "128", "batch": "8", "notes": "TensorRT 8.6"}
    return whole_of(Row(**(cells | {"model": model} | others)))


def rows(label: str, *, is_known: bool, count: int = 100) -> list[Unseen]:
    """Of one model: foretold within 2 % where its software is known, within a half where not."""
    spread = np.random.default_rng(0).uniform(-1, 1, count)
    one = case(label)
    return [Unseen(one, label, 1000.0, is_known, 0.02 * x, 0.5 * x) for x in spread]


def test_what_is_left_of_a_software_tells_how_far_off_its_models_are() -> None:
    every = [
        *(row for name in ("bert-base", "bert-large") for row in rows(name, is_known=True)),
        *rows("resnet50", is_known=False),
    ]
    widths = {found.row.model: found.high / found.low for found in banded(every)}
    assert widths["bert-base"] == widths["bert-large"] < 1.1
    assert widths["resnet50"] > 2


@pytest.mark.parametrize("is_known", [True, False])
def test_one_model_alone_has_the_interval_of_its_own_mistakes(is_known: bool) -> None:
    found = banded(rows("bert-base", is_known=is_known))
    assert len(found) == 100
    assert {one.high > one.expected > one.low for one in found} == {True}
    assert banded([]) == []


def test_a_software_is_known_from_enough_rows_of_other_models() -> None:
    base = [case("bert-base", batch=str(n)) for n in range(1, 9)]
    large = [case("bert-large", batch=str(n)) for n in range(1, 4)]
    cases = (*base, *large)
    features = np.tile([500.0, 0.0, 100.0, 100.0, 90.0, 90.0, 0.0, 0.0], (len(cases), 1))
    timings = Timings(cases, features, np.full(len(cases), 900.0))
    predicted = np.full(len(cases), 1000.0)
    found = unseen(timings, predicted, lambda one: one.row.model, range(len(cases)))
    assert [one.is_known for one in found] == [False] * 8 + [True] * 3
    assert [one.error for one in found] == pytest.approx([np.log(10 / 9)] * 11)
