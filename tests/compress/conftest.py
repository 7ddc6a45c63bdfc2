"""The two models every compression test works on, with samples and calibrated ranges."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from planner.compress.base import NATIVE, Calibration, Format, Offer, Range
from planner.compress.calibrate import calibrate
from planner.compress.methods import METHODS, offers
from planner.compress.samples import Samples
from planner.compress.smoothing import SmoothingSettings, smoothing
from planner.compress.synthetic import synthetic_samples
from planner.ir.graph import Graph
from planner.runtime.ort import make_session, tensor_specs
from tests.compress.build import SESSION, cnn, mixer

ALL_SMOOTH = SmoothingSettings(least_error=0.0, least_gain=0.0)
"""Every product is smoothed, whether that pays or not."""


@dataclass(frozen=True)
class Case:
    """A model, what it offers, and what a build needs."""

    path: Path
    graph: Graph
    samples: Samples
    ranges: dict[str, Range]
    smoothing: dict[str, str]
    choices: tuple[tuple[str, Format], ...]

    @property
    def calibration(self) -> Calibration:
        """What simulations are given."""
        return Calibration(self.ranges, self.smoothing)

    def ops(self, form: Format) -> list[str]:
        """Operators that may take a format."""
        return [op for op, offered in self.choices if offered == form]


def case_of(path: Path, graph: Graph) -> Case:
    """With everything that it offers."""
    samples = synthetic_samples(tensor_specs(make_session(path, SESSION))[0], 6, 0, graph)
    found = offers(graph, [method.format for method in METHODS])
    made = [offer for offer in found if isinstance(offer, Offer)]
    tensors = {name for offer in made for name in offer.ranged_tensors}
    ranges = calibrate(path, graph, tensors, samples, SESSION)
    choices = tuple((offer.op, offer.format) for offer in made if offer.format != NATIVE)
    products = [op for op, form in choices if form == Format.INT8_DYNAMIC_SMOOTH]
    smooth = smoothing(path, graph, products, [samples], SESSION, ALL_SMOOTH)
    return Case(path, graph, samples, ranges, smooth, choices)


@pytest.fixture(scope="session")
def cnn_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A small convolutional network."""
    return case_of(*cnn(tmp_path_factory.mktemp("cnn") / "cnn.onnx"))


@pytest.fixture(scope="session")
def mixer_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A small attention and LSTM network with shared weights."""
    return case_of(*mixer(tmp_path_factory.mktemp("mixer") / "mixer.onnx"))


@pytest.fixture(params=["cnn", "mixer"])
def case(request: pytest.FixtureRequest) -> Case:
    """Each of them."""
    found: Case = request.getfixturevalue(f"{request.param}_case")
    return found
