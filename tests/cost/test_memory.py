"""What a model occupies: learnt where software was weighed, typical elsewhere."""

from __future__ import annotations

import pytest

from planner.cost import memory
from planner.cost.curves import Library, shipped
from planner.ir.cost import Source
from planner.spec.fits import Curve, FitFile


def test_memory_is_learnt_per_software_and_typical_elsewhere() -> None:
    curve = Curve(
        source="a test",
        points=9,
        median_error=0.0,
        p90_error=0.0,
        parameters={"weights": 1.0, "cache": 2.0, "activations": 3.0, "context": 0.5},
        bands=((1e12, 0.9, 1.1),),
    )
    library = Library([FitFile(device="memory", curves={"soft": curve})])
    known = memory.find(library, "soft").occupied(4e9, 1e9, 1e9)
    assert known.expected_bytes == pytest.approx(4e9 + 2e9 + 3e9 + 0.5e9)
    assert known.high_bytes == pytest.approx(1.1 * known.expected_bytes)
    assert known.source is Source.INTERPOLATED
    other = memory.find(library, "else")
    assert other.source is Source.MODELLED
    assert other.occupied(4e9).low_bytes < 4e9 + other.context_bytes
    assert memory.find(shipped("t4-16gb", "sm_75")).context_bytes > 0
