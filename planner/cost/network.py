"""What collectives find of a fabric: adapters that work side by side, switches that add.

**Over several machines** a ring leaves each of them once, and a library lays as many rings as a
machine has adapters, each leaving through its own (NVIDIA/nccl, src/graph/search.cc). So what a
device sends to the next machine passes through the adapters of all devices of its machine that take
part:

    link = min(devices a machine * the share of one device, link inside a machine)

Trees, which serve short messages, climb through a machine and then from machine to machine. What
goes from one device to another (send_recv, all_to_all) has that device's share alone.

What a network really carries is a matter of the cluster. A healthy one reaches its adapters' rate
(`HEALTHY`): 96 of 100 GB/s with 24 A100 on three machines (NVIDIA/nccl-tests, issue 119), 97 of 100
with two (issue 252), 24 of 25 with one adapter (NVIDIA/nccl, issue 1048), 46 to 48 of 50 with H100s
(nccl-tests, issue 290). Others reach 30 of 100 (nccl-tests, issue 152), 35 of 200 (a recipe for
H200 NVL on RoCE), and microsoft/vidur's cluster 6, 6 to 10, 21 and 18 of 25, 50, 100 and 200.

**Inside a machine** NVSwitches from the third generation on (NVLink of 450 GB/s a direction: H100
and later) add what devices send (NVLink SHARP), which NCCL uses where it is faster: a device sends
its tensor once and 1 / ranks of the sum, instead of 2 (ranks - 1) / ranks in a ring, and reaches
nine tenths of what that saves: then eight H100 come to the 476 GB/s, counted as a ring's, that
NVIDIA expects (nccl-tests, issue 290). Kernels of other libraries do not.
"""

from __future__ import annotations

from collections.abc import Mapping

from planner.spec.node import Domain, NodeProfile

HEALTHY: Mapping[str, float] = {"alpha": 12.0, "hop": 0.45, "ramp": 3.0, "share": 0.96}
"""Of the model in `links.py`. Starts by NCCL's own model of its trees (src/graph/tuning.cc: 4.4 us,
1.2 us a step inside a machine and 5 us between two, each way) behind one launch: 17, 34 and 44 us
for 2, 16 and 64 devices, where 19 us is published for two (nccl-tests, issue 150). `ramp` between
that model at 1 and 16 MiB on 16 devices and what issue 119 prints at 23 to 34 MB, within 12 %."""
BAND = (0.6, 12.0)
"""Multiples that hold on a network nobody measured: adapters are not faster than they are, and the
slowest published one takes ten times as long."""
_RINGS = frozenset({"all_reduce", "all_gather", "reduce_scatter"})
_ADDING = 450e9
"""Bytes per second of a device into the first switches that add (NVIDIA H100 datasheet)."""
_ADDED = 0.9
"""Of what adding in the switch saves in bytes, in time (above)."""
NCCL = frozenset({"nccl", "nccl-tests"})


def link_bytes_per_us(
    node: NodeProfile | None,
    domain: Domain,
    key: str,
    ranks: int,
    held: int | None = None,
) -> float:
    """Bytes per microsecond of one device into the fabric, as rings and trees find it.

    Args:
        key: of a collective, `kind/implementation/fabric`.
        held: ranks of each machine; where it is None, as many as a machine has devices.
    """
    kind, implementation, fabric = key.split("/")
    own = domain.link.bandwidth.value / 1e6
    if fabric == "nvswitch" and kind == "all_reduce" and implementation in NCCL:
        adds = domain.link.bandwidth.value >= _ADDING
        return own * max(1.0, _ADDED * 2 * (ranks - 1) / (ranks + 1)) if adds else own
    if fabric != "network" or kind not in _RINGS or node is None:
        return own
    side_by_side = max(1, min(held or node.devices, node.devices, ranks))
    inside = node.domain(side_by_side) if side_by_side > 1 else None
    together = own * side_by_side
    return min(together, inside.link.bandwidth.value / 1e6) if inside else together
