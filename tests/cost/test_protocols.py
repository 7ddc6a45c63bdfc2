"""What NCCL says of itself, against collectives of two H200 that it owes no constant to."""

from __future__ import annotations

import itertools
import re

import numpy as np
import numpy.typing as npt
import pytest

from planner import resources
from planner.cost import collective, protocols
from planner.cost.curves import Library, read
from planner.cost.links import Messages
from planner.spec.fits import FitFile, read_fits
from planner.spec.profile import read_profile

Array = npt.NDArray[np.float64]
NVLINK = 450e3
MEASURED = re.compile(r"(\w+) of (\d+) KiB on (\d) devices")
KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")
WAYS = [(kind, "nccl") for kind in KINDS] + [("all_reduce", "custom")]
SIZES: Array = np.array([2.0**power for power in range(8, 33)])


def priced(kind: str, ranks: int, fabric: str, by: str = "nccl", launch: float = 2.0) -> Array:
    at = {**protocols.parameters(), protocols.LAUNCH: launch}
    return protocols.latency_us(works(kind, ranks, fabric, by), at)


def works(kind: str, ranks: int, fabric: str, by: str) -> Messages:
    every: Array = np.full(len(SIZES), float(ranks))
    link: Array = np.full(len(SIZES), NVLINK)
    return Messages(kind, SIZES, every, link, by, fabric)


def test_two_h200_are_as_foretold() -> None:
    """Theirs are captured ten in a graph, where a start is no launch."""
    path = next(p for p in resources.profiles() if p.stem == "nvidia-h200-sxm")
    off = []
    for name, quantity in read_profile(path).ceilings.items():
        found = MEASURED.match(name)
        if found:
            kind = "send_recv" if found[1] == "send" else found[1]
            prices = priced(kind, int(found[3]), "nvlink", launch=0.0)
            us = np.interp(1024.0 * int(found[2]), SIZES, prices)
            off.append(np.log(us / quantity.value))
    assert len(off) >= 10
    assert np.abs(off).max() < np.log(1.6)
    assert abs(np.median(off)) < np.log(1.25)


@pytest.mark.parametrize(("kind", "by"), WAYS)
@pytest.mark.parametrize("fabric", ["nvswitch", "nvlink", "pcie", "something new"])
def test_larger_messages_and_more_devices_never_take_less(kind: str, by: str, fabric: str) -> None:
    for ranks in (2, 3, 4, 8):
        prices = priced(kind, ranks, fabric, by)
        assert (np.diff(prices) > 0).all()
        assert (prices <= priced(kind, 2 * ranks, fabric, by) * (1 + 1e-9)).all()
        assert (prices > works(kind, ranks, fabric, by).moved_bytes / NVLINK).all()


def test_a_step_costs_more_over_pcie_and_more_still_over_what_is_not_known() -> None:
    for kind, by in WAYS[:-1]:
        nvlink, pcie, unknown = (priced(kind, 8, f, by) for f in ("nvlink", "pcie", "any"))
        assert (nvlink <= pcie).all()
        assert (pcie[:8] < unknown[:8]).all()


def test_a_library_speaks_for_itself_where_nobody_timed_it_there() -> None:
    shipped = read(resources.folder("profiles") / "fits")
    for kind, by, fabric in itertools.product(KINDS, ("nccl", "custom"), ("pcie", "nvlink")):
        key = f"{kind}/{by}/{fabric}"
        found = collective.find(shipped, key)
        assert found.is_own == (key in ("all_reduce/nccl/pcie", "all_reduce/nccl/nvlink"))
        assert found.is_own or found.parameters == protocols.parameters()
    nothing = collective.find(Library([FitFile(device="links", curves={})]), "all_reduce/nccl/pcie")
    assert nothing.parameters == protocols.parameters()


def test_the_same_source_and_kind_carries_over_to_other_wires_and_nothing_else_does() -> None:
    shipped = read_fits(resources.folder("profiles") / "fits" / "links.yaml").curves
    curves = {name: curve for name, curve in shipped.items() if "nvswitch" not in name}
    library = Library([FitFile(device="links", curves=curves)])
    carried = collective.find(library, "all_reduce/nccl/nvswitch", "microsoft/vidur")
    assert carried.parameters == curves["all_reduce/nccl/nvlink"].parameters
    for key, like in (
        ("send_recv/nccl/nvswitch", "microsoft/vidur"),
        ("all_reduce/nccl/nvswitch", "someone/else"),
        ("all_reduce/nccl/nvswitch", None),
    ):
        assert collective.find(library, key, like).parameters == protocols.parameters()
