"""Resident blocks, against the numbers of NVIDIA's own occupancy tables."""

from __future__ import annotations

import pytest

from planner.kernels.occupancy import blocks_per_unit, occupancy


@pytest.mark.parametrize(
    ("architecture", "threads", "registers", "shared_bytes", "blocks"),
    [
        (80, 128, 32, 0, 16),  # threads
        (80, 32, 16, 0, 32),  # blocks
        (80, 256, 128, 0, 2),  # registers
        (90, 128, 32, 100 * 1024, 2),  # shared memory
        (89, 128, 32, 0, 12),
    ],
)
def test_the_scarcest_resource_decides(
    architecture: int, threads: int, registers: int, shared_bytes: int, blocks: int
) -> None:
    assert blocks_per_unit(architecture, threads, registers, shared_bytes) == blocks


def test_occupancy_is_a_share_of_all_threads() -> None:
    assert occupancy(80, 1024, 32, 0) == 1.0
    assert occupancy(80, 256, 128, 0) == pytest.approx(0.25)
