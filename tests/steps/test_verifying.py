"""When a prediction counts as broken."""

from __future__ import annotations

import pytest

from planner.steps.verifying import keeps_prediction


@pytest.mark.parametrize(
    ("measured_us", "predicted_us", "is_kept"),
    [
        (1_400.0, 1_000.0, True),
        (1_600.0, 1_000.0, False),
        (13.0, 4.7, True),
        (15.6, 4.7, False),
        (40.0, 25.0, False),
    ],
)
def test_half_as_much_again_or_the_noise_of_a_call(
    measured_us: float, predicted_us: float, is_kept: bool
) -> None:
    assert keeps_prediction(measured_us, predicted_us) is is_kept
