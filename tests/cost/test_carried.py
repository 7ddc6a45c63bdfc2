"""What holds knowledge on its way to another chip or format."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import resources
from planner.cost.carried import chips_with, held, mean_start_us
from planner.cost.curves import ANY, Library
from planner.cost.fitted import Fitted
from planner.cost.gemm import PRIOR
from planner.spec.fits import Curve, FitFile
from planner.spec.profile import read_profile

TYPICAL = {name: value for name, (value, _) in PRIOR.items()}
KEY = "product/2:4"


def curve(**parameters: float) -> Curve:
    return Curve(
        source="made up, published by s/x",
        points=100,
        median_error=0.1,
        p90_error=0.2,
        parameters={**TYPICAL, **parameters},
        bands=((1e12, 0.5, 2.0),),
    )


def file(name: str, units: int, key: str, **parameters: float) -> FitFile:
    return FitFile(
        device=name, architecture="sm_90", units=units, curves={key: curve(**parameters)}
    )


@given(st.floats(0.1, 1.0), st.floats(0.1, 1.0), st.integers(1, 50))
def test_what_more_chips_have_shown_counts_more(shown: float, dense: float, chips: int) -> None:
    few, more = (
        held(curve(efficiency=shown), curve(efficiency=dense), n).parameters["efficiency"]
        for n in (chips, chips + 1)
    )
    low, high = sorted((shown, dense))
    assert low * (1 - 1e-9) <= few <= high * (1 + 1e-9)
    assert abs(np.log(more / shown)) <= abs(np.log(few / shown)) + 1e-12


def test_equal_chips_count_once() -> None:
    files = [file("one", 108, KEY), file("two", 108, KEY), file("three", 132, KEY)]
    assert chips_with(files, [KEY]) == 2
    assert chips_with(files, ["product/int8"]) == 0


def test_starts_are_averaged_in_logarithm() -> None:
    assert mean_start_us([curve(start=2.0), curve(start=8.0)]) == pytest.approx(4.0)
    assert mean_start_us([]) is None


def test_a_library_holds_2_4_of_one_chip_by_dense_products() -> None:
    general = FitFile(
        device=ANY, curves={KEY: curve(efficiency=0.4), "product/bf16": curve(efficiency=0.9)}
    )
    library = Library([file("one", 132, KEY, efficiency=0.4), general])
    target = read_profile(resources.folder("profiles") / "a100-sxm-80gb.yaml")
    assert library.find(target, KEY).parameters["efficiency"] == pytest.approx(0.6)
    assert library.find(target, "product/fp16").parameters["efficiency"] == 0.9


def _published(key: str, source: str, knots: bool = False, **parameters: float) -> Curve:
    lattice = {"knots": ((0.0, 16.0),) * 3, "values": ((50.0,) * 4,) * 2} if knots else {}
    changes = {"source": f"fitted on measurements published by {source}", **lattice}
    return curve(**parameters).model_copy(update=changes)


def _found(format: str, others: str) -> Fitted:
    """What is known of a format on an A100 where source s/one measured fp8 and bf16 on one other
    chip, and `others` a third."""
    known = {
        f"product/{name}": _published(name, "s/one", True, start=9.0, efficiency=0.9)
        for name in ("fp8", "bf16")
    }
    theirs = {key: _published(key, others, start=1.0, efficiency=0.5) for key in known}
    files = [
        FitFile(device="x", architecture="sm_90", units=132, curves=known),
        FitFile(device="y", architecture="sm_86", units=84, curves=theirs),
        FitFile(device=ANY, curves=theirs),
    ]
    target = read_profile(resources.folder("profiles") / "a100-sxm-80gb.yaml")
    return Library(files).find(target, f"product/{format}", "s/one")


def test_other_sources_count_as_one_more_chip_with_the_start_of_this_source() -> None:
    found = _found("bf16", "s/two")
    assert found.lattice is not None
    assert found.parameters["efficiency"] == 0.9
    assert [one.parameters["efficiency"] for one in found.also] == [0.5]
    assert {one.parameters["start"] for one in (found, *found.also)} == {9.0}


def test_a_source_that_is_alone_is_not_averaged_with_itself() -> None:
    found = _found("bf16", "s/one")
    assert [one.parameters["start"] for one in (found, *found.also)] == [9.0, 1.0]


def test_remainders_of_another_format_stay_with_it() -> None:
    found = _found("int8", "s/two")
    assert all(one.lattice is None for one in (found, *found.also))
