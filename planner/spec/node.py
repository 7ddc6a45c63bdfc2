"""profiles/nodes/*.yaml: a machine with several devices, and how they are wired.

A node lists its `domains` from the tightest to the widest: an A100 pair on an NVLink bridge, the
eight devices of the node on PCIe, and the network beyond. A collective over `r` devices runs in the
tightest domain that holds `r`.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from planner.spec.base import Document
from planner.spec.problems import explain, path_text
from planner.spec.profile import Link, Quantity
from planner.spec.quantities import FROM_TEXT, refusal
from planner.spec.yaml_source import KeyPath, load

Fabric = Literal["nvswitch", "nvlink", "pcie", "network"]


class Domain(Document):
    """Devices that reach each other the same way."""

    devices: int = Field(ge=2)
    """How many devices it holds."""
    fabric: Fabric
    """What connects them."""
    link: Link
    """Of one device into the fabric, one direction, protocol overhead not counted."""


class NodeProfile(Document):
    """A machine: its devices, their wiring, its host memory, its price."""

    node_version: Literal[1] = 1
    """Version of this document's format."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    """Also the file's name."""
    title: str
    """The machine as its maker or a cloud names it."""
    device: str
    """Name of the device profile."""
    devices: int = Field(ge=1)
    """Devices in one machine."""
    host_memory_size: Quantity
    """Capacity that all devices share."""
    host_bandwidth: Quantity
    """Of host memory: what all devices together can read."""
    domains: tuple[Domain, ...] = ()
    """From the tightest to the widest; empty for a single device."""
    price: Quantity | None = None
    """What the machine costs by the hour: indicative, to be overridden."""

    @field_validator("domains")
    @classmethod
    def _widens(cls, domains: tuple[Domain, ...]) -> tuple[Domain, ...]:
        for inner, outer in pairwise(domains):
            if outer.devices <= inner.devices:
                raise refusal("domains must go from the tightest to the widest", key="domains")
        return domains

    @model_validator(mode="after")
    def _holds_its_devices(self) -> NodeProfile:
        inside = [d.devices for d in self.domains if d.fabric != "network"]
        if max(inside, default=1) != self.devices:
            raise refusal(
                f"the widest domain inside the machine holds {max(inside, default=1)} devices, "
                f"but the machine has {self.devices}",
                key="devices",
            )
        return self

    def domain(self, ranks: int) -> Domain | None:
        """The tightest domain that holds `ranks` devices, or None."""
        return next((d for d in self.domains if d.devices >= ranks), None)


def read_node(path: Path) -> NodeProfile:
    """Reads a node profile.

    Raises:
        SpecError: not a node profile; says which line.
    """
    source = load(path)

    def where(at: KeyPath) -> str:
        known = (source.lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in source.lines)
        return f"{path}:{next(known, 1)}: {path_text(at)}"

    try:
        return NodeProfile.model_validate(source.data, context=FROM_TEXT)
    except ValidationError as error:
        raise explain(error, NodeProfile, where) from error
