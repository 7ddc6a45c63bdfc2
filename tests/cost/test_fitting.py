"""Learning: what generated the data is found again, and what is unseen is predicted as promised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import resources
from planner.cost.family import FAMILIES
from planner.cost.fitting import bands, fit_parameters, learn
from planner.cost.lattice import Lattice, fit_lattice
from planner.cost.machine import Machine
from planner.cost.work import Product
from planner.errors import SpecError
from planner.spec.fits import Curve, FitFile, read_fits, write_fits
from planner.spec.profile import read_profile

MACHINE = Machine.of(read_profile(resources.folder("profiles") / "a100-sxm-80gb.yaml"))
FAMILY = FAMILIES["product"]
TRUTH = {name: value for name, (value, _) in FAMILY.prior.items()} | {"start": 7.0, "cache": 4.0}


def _works(count: int, seed: int) -> list[Product]:
    rng = np.random.default_rng(seed)
    sizes = 2 ** rng.integers(4, 13, size=(count, 3))
    return [Product(int(m), int(n), int(k)) for m, n, k in sizes]


def test_parameters_that_made_the_data_predict_them_again() -> None:
    columns = FAMILY.columns(_works(150, 0), "fp16")
    measured = FAMILY.latency_us(columns, MACHINE, TRUTH)
    found = fit_parameters(
        lambda at, which: FAMILY.latency_us(columns.part(which), MACHINE, at),
        FAMILY.prior,
        measured,
        np.arange(150),
    )
    unseen = FAMILY.columns(_works(100, 1), "fp16")
    ratio = FAMILY.latency_us(unseen, MACHINE, found) / FAMILY.latency_us(unseen, MACHINE, TRUTH)
    assert np.median(np.abs(ratio - 1)) < 0.02


def test_intervals_hold_what_they_promise_on_unseen_groups() -> None:
    columns = FAMILY.columns(_works(400, 2), "fp16")
    noise = np.exp(np.random.default_rng(3).normal(0, 0.1, 400))
    measured = FAMILY.latency_us(columns, MACHINE, TRUTH) * noise
    found = learn(
        lambda at, which: FAMILY.latency_us(columns.part(which), MACHINE, at),
        FAMILY.prior,
        FAMILY.coordinates(columns),
        measured,
        np.arange(400.0) % 50,
        None,
    )
    inside = 0
    intervals = bands(found.errors, found.predicted_us)
    for predicted, value in zip(found.predicted_us, measured, strict=True):
        _, low, high = next(band for band in intervals if predicted < band[0])
        inside += low * predicted <= value <= high * predicted
    assert 0.93 <= inside / 400 <= 0.99


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_a_lattice_is_its_values_at_its_knots_and_stays_between_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    knots = ((0.0, 1.0, 2.0), (3.0, 5.0))
    lattice = Lattice(knots, rng.normal(size=(3, 2)))
    corners = np.array([(a, b) for a in knots[0] for b in knots[1]])
    assert np.allclose(lattice.at(corners), lattice.values.ravel())
    found = lattice.at(rng.uniform(-5, 10, size=(50, 2)))
    assert found.min() >= lattice.values.min() - 1e-12
    assert found.max() <= lattice.values.max() + 1e-12


def test_a_lattice_ignores_a_disturbed_point_and_fades_without_data() -> None:
    knots = (tuple(float(x) for x in range(12)),)
    points = np.repeat(np.arange(4.0), 5)[:, None]
    values = np.full(20, 0.2)
    values[7] = 3.0
    lattice = fit_lattice(knots, points, values)
    assert lattice.at(np.array([[1.0]]))[0] == pytest.approx(0.2, abs=0.06)
    assert abs(lattice.values[-1]) < 0.2


def test_fits_read_back_and_bad_ones_name_their_line(tmp_path: Path) -> None:
    curve = Curve(
        source="a test",
        points=3,
        median_error=0.1,
        p90_error=0.2,
        parameters={"start": 2.0},
        bands=((8.0, 0.9, 1.1), (1e12, 0.8, 1.2)),
        knots=((0.0, 1.0), (2.0, 3.0)),
        values=((1.0, 2.0), (3.0, -4.0)),
    )
    path = tmp_path / "x.yaml"
    write_fits(path, FitFile(device="any", curves={"product/fp16": curve}))
    assert read_fits(path).curves["product/fp16"] == curve
    path.write_text(path.read_text().replace("3 -4", "3"))
    with pytest.raises(SpecError, match="2 rows of 2 numbers"):
        read_fits(path)
    path.write_text(path.read_text().replace("8 0.9 1.1", "8 1.9 1.1"))
    with pytest.raises(SpecError, match=r"low <= 1 <= high"):
        read_fits(path)


@pytest.mark.parametrize("path", resources.fits(), ids=lambda path: path.stem)
def test_shipped_fits_are_valid_and_name_their_device(path: Path) -> None:
    fits = read_fits(path)
    assert fits.device == path.stem
    known = {known.stem for known in resources.profiles()}
    assert fits.device in known | {"any", "links", "runtimes", "memory"}
    for key, curve in fits.curves.items():
        family = FAMILIES.get(key.split("/")[0])
        if family is not None:
            known_ones = family.prior_of(key.partition("/")[2]).keys()
            assert not curve.parameters or curve.parameters.keys() <= known_ones, key
            assert not curve.knots or curve.knots == family.knots, key
