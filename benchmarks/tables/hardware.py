"""Which device and which machine a `gpu` text means."""

from __future__ import annotations

import re
from functools import cache

from benchmarks.tables.rows import Row, UnpredictableError
from planner import resources
from planner.spec.node import NodeProfile, read_node
from planner.spec.profile import DeviceProfile, read_profile

_FORMS = ("pcie", "sxm2", "sxm", "nvidia")
_ALIASES = {"hbm3": "sxm", "dgx": "sxm", "nvlink": "sxm", "nvswitch": "sxm", "superpod": "sxm"}
"""Words that imply a form factor."""
_SAME_CHIP = {"a10g": "a10", "gh200": "gh200"}
"""Words for a chip that has a profile under another name."""
_VARIANTS = frozenset({"ti", "laptop", "mobile"})
"""Words that make another chip of the one before them."""
_DEFAULT_GB = {"a100": "80", "v100": "16", "h100": "80", "a800": "80", "h800": "80"}
"""Where a text names a family only: the size that published measurements mostly mean."""


_COUNTED = re.compile(r"\s*(\d{1,4})\s*[x\u00d7*]\s*(?=[a-z])", re.IGNORECASE)
"""How many there are, before what they are: `8xA100`."""
_COUNTED_BEHIND = re.compile(r"[\s(]*[x\u00d7*]\s*(\d{1,3})\)?\s*$", re.IGNORECASE)
"""The same behind it: `A100 x 8`."""


def counted_devices(row: Row) -> int | None:
    """How many devices a row states, in their column or before their name; None where it does not.

    Raises:
        UnpredictableError: the column is no number.
    """
    named = _COUNTED.match(row.gpu) or _COUNTED_BEHIND.search(row.gpu)
    return row.number("n_gpus", int(named[1]) if named else 0) or None


@cache
def devices() -> dict[str, DeviceProfile]:
    """Every shipped profile by name."""
    return {path.stem: read_profile(path) for path in resources.profiles()}


@cache
def nodes() -> dict[str, NodeProfile]:
    """Every shipped machine by name."""
    return {path.stem: read_node(path) for path in resources.nodes()}


@cache
def device_of(gpu: str) -> DeviceProfile:
    """The profile that a text names, by family, memory size and form factor.

    Raises:
        UnpredictableError: no profile, or no family, is named.
    """
    text = re.sub(r"(?<![a-z0-9])\d+\s*[x\u00d7]\s*(?=[a-z])", "", gpu.lower())
    text = _COUNTED_BEHIND.sub("", text)
    words = set(re.findall(r"[a-z]+\d*[a-z]?|\d+", text.replace("sxm4", "sxm")))
    words |= {_ALIASES[w] for w in words if w in _ALIASES}
    words |= {_SAME_CHIP[w] for w in words if w in _SAME_CHIP}
    words |= {"sxm"} if any(w.startswith("sxm") for w in words) else set()
    sizes = re.findall(r"(\d+)\s*gb", gpu.lower())
    best, best_score = None, 0.0
    for name, profile in devices().items():
        parts = name.split("-")
        family = [p for p in parts if p not in _FORMS and not p.endswith("gb")]
        if not all(p in words for p in family) or words & _VARIANTS - set(family):
            continue
        size = parts[-1].removesuffix("gb")
        wanted = sizes or [_DEFAULT_GB.get(family[-1], "")]
        score = 1.0 + len(family) + 2.0 * (size in wanted)
        score += sum(1.0 for p in parts if p in _FORMS[:-1] and p in words)
        score += 0.1 * ("sxm" in name)
        if score > best_score:
            best, best_score = profile, score
    if best is None:
        raise UnpredictableError(f"no profile for the device {gpu!r}")
    return best


def node_of(row: Row, device: DeviceProfile) -> NodeProfile | None:
    """The machine that a row means: `pairwise` links, a DGX, or the first that has the device."""
    text = f"{row.gpu} {row.notes}".lower()
    candidates = [node for node in nodes().values() if node.device == device.name]
    if "pairwise" in text or "pair" in row.gpu.lower():
        candidates = [
            n for n in candidates if n.domains and n.domains[0].devices == 2
        ] or candidates
    else:
        candidates = sorted(
            candidates, key=lambda n: n.domains[0].devices if n.domains else 1, reverse=True
        )
    return candidates[0] if candidates else None
