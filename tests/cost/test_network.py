"""What collectives find of a fabric: adapters side by side, switches that add, unknown networks."""

from __future__ import annotations

import numpy as np
import pytest

from planner import resources
from planner.cost import collective, curves, links, network
from planner.cost.links import Messages
from planner.cost.network import HEALTHY, link_bytes_per_us
from planner.cost.predictor import Predictor
from planner.spec.node import NodeProfile, read_node
from planner.spec.profile import read_profile

NETWORK = "all_reduce/nccl/network"
GIB = 2.0**30


def node_of(name: str) -> NodeProfile:
    return next(read_node(path) for path in resources.nodes() if path.stem == name)


def link(name: str, key: str, ranks: int, held: int | None = None) -> float:
    """GB/s."""
    node = node_of(name)
    fabric = key.split("/")[2]
    domain = next(d for d in node.domains if d.fabric == fabric)
    return link_bytes_per_us(node, domain, key, ranks, held) / 1e3


@pytest.mark.parametrize(
    ("key", "ranks", "held", "expected"),
    [
        (NETWORK, 2, 1, 25),
        (NETWORK, 4, 2, 50),
        (NETWORK, 16, 8, 200),
        (NETWORK, 16, None, 200),
        ("all_gather/nccl/network", 16, 8, 200),
        ("send_recv/nccl/network", 16, 8, 25),
        ("all_to_all/nccl/network", 16, 8, 25),
        ("all_reduce/nccl/nvswitch", 8, 8, 300),
    ],
)
def test_adapters_of_a_machine_work_side_by_side(
    key: str, ranks: int, held: int | None, expected: float
) -> None:
    assert link("dgx-a100", key, ranks, held) == pytest.approx(expected)


def test_a_ring_is_no_faster_than_the_links_inside_a_machine() -> None:
    node = node_of("dgx-a100")
    fast = node.domains[1].model_copy(update={"link": node.domains[0].link})
    assert link_bytes_per_us(node, fast, NETWORK, 16) == pytest.approx(300e3)


def test_switches_add_from_the_third_generation_on_and_where_that_is_faster() -> None:
    key = "all_reduce/nccl/nvswitch"
    assert link("dgx-h100", key, 2) == pytest.approx(450)
    assert link("dgx-h100", key, 8) == pytest.approx(450 * 0.9 * 14 / 9)
    assert link("dgx-h100", "all_reduce/custom/nvswitch", 8) == pytest.approx(450)
    assert link("dgx-h100", "all_gather/nccl/nvswitch", 8) == pytest.approx(450)


@pytest.mark.parametrize(
    ("ranks", "rate", "size", "us"),
    [(24, 100e3, 33554440.0, 732.9), (16, 100e3, GIB, 20079.0), (2, 25e3, 8.0, 19.9)],
)
def test_a_healthy_network_is_as_published(ranks: int, rate: float, size: float, us: float) -> None:
    """nccl-tests, issues 119, 252 and 150: within what one parameter for all sizes can do."""
    works = Messages("all_reduce", np.array([size]), np.array([float(ranks)]), np.array([rate]))
    assert links.collective_us(works, HEALTHY)[0] == pytest.approx(us, rel=0.15)


def test_one_slow_cluster_says_nothing_of_the_next() -> None:
    library = curves.read(resources.folder("profiles") / "fits")
    of_its_own = collective.find(library, NETWORK, "microsoft/vidur")
    assert of_its_own.is_own
    for like in (None, "someone/else"):
        found = collective.find(library, NETWORK, like)
        assert found.parameters == HEALTHY
        assert found.band(1e4) == network.BAND


def test_more_machines_take_longer_and_keep_most_of_the_rate() -> None:
    path = next(p for p in resources.profiles() if p.stem == "a100-sxm-80gb")
    predictor = Predictor(read_profile(path), node_of("dgx-a100"))
    inside, two, eight = (predictor.collective("all_reduce", GIB, r) for r in (8, 16, 64))
    assert inside.expected_us < two.expected_us < eight.expected_us < 1.2 * two.expected_us
    busy = 2 * 15 / 16 * GIB / two.expected_us / 1e3
    assert 0.8 * 200 < busy < 200
    message = predictor.collective("send_recv", 1e6, 16)
    assert message.expected_us > 1e6 / 25e3
